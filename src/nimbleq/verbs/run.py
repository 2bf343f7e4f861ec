"""``nimbleq run``: the whole line, each step skipped when its result is there and its inputs are unchanged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from nimbleq.config import TrainConfig, from_dict, same_settings, to_dict
from nimbleq.console import Console, size_text
from nimbleq.files import read_json, write_json
from nimbleq.graph.artefact import digest
from nimbleq.report import write_report
from nimbleq.rundir import RunDir
from nimbleq.verbs import bench, certify, compress, export, train, verify
from nimbleq.verbs.common import Output


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """The whole line: train → compress → certify → export → verify → bench → report.

    Stopped at any point, the same command goes on from there. Every training setting can be given as for nimbleq train.

    Attributes:
        preset: which algorithm's settings to start from.
        from_file: settings to start from in place of a preset: the config.json of a run, or the best.json of nimbleq
            tune. What else is given on the command line wins.
        out: run directory (default runs/ENV/PRESET-seedN).
        keep: share of the teacher's return (above random play) that the small policy must provably keep.
        recipe: auto, or one of the recipes of nimbleq compress.
        max_episodes: that a certificate may take.
        return_range: low,high between which returns lie; see nimbleq compress.
        to: export targets.
    """

    preset: str = "dqn"
    from_file: Annotated[Path | None, tyro.conf.arg(name="config")] = None
    out: Path | None = None
    keep: float = 0.99
    recipe: str = "auto"
    max_episodes: int = certify.MAX_EPISODES
    return_range: str | None = None
    to: tuple[str, ...] = ("c", "onnx")
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)


def arguments(words: Sequence[str]) -> Args:
    """Defaults for the options, from the preset or the file."""
    known = train.arguments([word for word in words if word != "--resume"])
    return Args(preset=known.preset, from_file=known.from_file, config=known.config)


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """All steps in order."""
    compress.check(args.keep, args.recipe)
    run = RunDir(args.out or train.default_out(args.preset, args.from_file, args.config))
    build = run.path / "build"

    trained = _step(run, "train", {"config": to_dict(args.config)}, console,
                    lambda: train.train_run(args.config, run, console, resume=True))  # fmt: skip
    limit, extent = args.max_episodes, args.return_range
    asked = {"teacher": digest(run.teacher), "keep": args.keep, "recipe": args.recipe}
    asked |= {"max_episodes": limit, "return_range": extent}
    compressed = _step(run, "compress", asked, console, lambda: compress.compress_run(
        run, "small", args.keep, args.recipe, console, max_episodes=limit, return_range=extent))  # fmt: skip
    small = run.artefact(Path(compressed["artefact"]).name)
    of = {"artefact": digest(small)}
    certified = _step(run, "certify", of | asked, console, lambda: certify.certify_run(
        small, run, console, args.keep, limit, return_range=extent))  # fmt: skip
    exported = _step(run, "export", of | {"to": list(args.to)}, console,
                     lambda: export.export_artefact(small, args.to, build, console))  # fmt: skip
    verified = _step(run, "verify", of | {"to": list(args.to)}, console, lambda: verify.verify_folder(build, console))
    timed = _step(run, "bench", of, console, lambda: bench.bench_run(small, run, console))
    report = str(write_report(run))
    result = {
        "train": trained, "compress": compressed, "certify": certified, "export": exported, "verify": verified,
        "bench": timed, "report": report,
    }  # fmt: skip
    _summary(result, console)
    return result, bool(certified["certified"]) and not verified["mismatches"]


def _step(
    run: RunDir, verb: str, inputs: dict[str, Any], console: Console, work: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """The verb's result: the kept one when it came from the same inputs, else freshly made and kept."""
    ledger_path = run.result("inputs")
    ledger = read_json(ledger_path) if ledger_path.exists() else {}
    kept = run.load_result(verb)
    if kept is not None and _same(ledger.get(verb), inputs):
        console.say(f"{verb}: done before, kept")
        assert isinstance(kept, dict)
        return kept
    result = work()
    run.save_result(verb, result)
    write_json(ledger_path, ledger | {verb: inputs})
    return result


def _same(known: Any, inputs: dict[str, Any]) -> bool:
    """Whether a step was done with ``inputs``; an earlier nimbleq may have known fewer settings of training."""
    if known is None or "config" not in inputs:
        return bool(known == inputs)
    return same_settings(known.get("config"), from_dict(TrainConfig, inputs["config"]))


def _summary(result: dict[str, Any], console: Console) -> None:
    """The table that ``make demo`` ends with."""
    small, certificate, timed = result["compress"], result["certify"], result["bench"]
    p50 = {(row["engine"], row["what"]): row["p50_us"] for row in timed["rows"]}

    def latency(engine: str, what: str) -> str:
        return f"{p50[engine, what]:.2f} µs" if (engine, what) in p50 else "–"

    console.table(
        f"{result['train']['env']}: teacher and the policy to ship",
        ("", "teacher", "small", "ratio"),
        [
            ["size", size_text(small["teacher_size_bytes"]), size_text(small["size_bytes"]),
             f"×{small['teacher_size_bytes'] / small['size_bytes']:.0f} smaller"],
            ["multiply-accumulates", f"{small['teacher_macs']:,}", f"{small['macs']:,}",
             f"×{small['teacher_macs'] / max(small['macs'], 1):.0f} fewer"],
            ["return (fresh seeds)", f"{certificate['teacher_return_mean']:.1f}",
             f"{certificate['student_return_mean']:.1f}", f"{certificate['episodes']} paired episodes"],
            ["decision in C, p50", latency("nimbleq-c", "teacher"), latency("nimbleq-c", "artefact"), ""],
            ["decision from Python, p50", latency("nimbleq-python", "teacher"),
             latency("nimbleq-python", "artefact"), ""],
            ["ONNX Runtime, p50", latency("onnxruntime", "teacher"), latency("onnxruntime", "artefact"), ""],
            ["PyTorch, p50", latency("torch", "teacher"), latency("torch", "artefact"), ""],
        ],
    )  # fmt: skip
    console.say(certificate["reason"])
    console.say(f"verified: {result['verify']['checked']:,} answers, {result['verify']['mismatches']} mismatches")
    console.say(f"report: {result['report']}")
