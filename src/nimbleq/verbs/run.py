"""``nimbleq run``: every step; a step is skipped if its result exists and its inputs have not changed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Self

import tyro

from nimbleq.compress.search.config import CompressConfig, check_config
from nimbleq.config import TrainConfig, from_dict, same_settings, to_dict
from nimbleq.console import Console, size_text
from nimbleq.deploy.engines.prebuilt import PREBUILT
from nimbleq.deploy.export import MANIFEST, check_targets, load_build
from nimbleq.deploy.targets import STANDARD
from nimbleq.errors import FileError
from nimbleq.figures import shown
from nimbleq.files import read_bytes, read_json, sha256, write_json
from nimbleq.graph.artefact import digest
from nimbleq.graph.artefact_files import CERTIFICATE
from nimbleq.report import write_report
from nimbleq.rundir import RunDir
from nimbleq.verbs import bench, certify, compress, export, train, verify
from nimbleq.verbs.common import Output, require_better_than_random, run_env

_SMALL = "small"
_TIMED = (PREBUILT.name, *STANDARD)
"""Engines whose decisions are timed; ``nimbleq bench`` times all."""


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """Every step: train → compress → certify → export → verify → bench → report.

    If you stop it, the same command goes on from there. It takes every training setting of nimbleq train.

    Attributes:
        preset: which algorithm's settings to start from.
        from_file: settings to start from instead of a preset: the config.json of a run, or the best.json of nimbleq
            tune. Other options override them.
        out: run directory (default runs/ENV/PRESET-seedN).
        keep: share of the teacher's return (above random play) that the small policy must provably keep.
        max_episodes: that a certificate may take.
        return_range: low,high between which returns lie; see nimbleq compress.
        scratch: also train a network of the chosen size from scratch, for comparison; it takes a part of training.
        to: targets.
        name: of the exported C functions and files.
    """

    preset: str = "dqn"
    from_file: Annotated[Path | None, tyro.conf.arg(name="config")] = None
    out: Path | None = None
    keep: float = 0.99
    recipe: compress.Recipe = "auto"
    max_episodes: int = certify.MAX_EPISODES
    return_range: str | None = None
    scratch: bool = False
    to: export.To = STANDARD
    name: str = "policy"
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)


def arguments(words: Sequence[str]) -> Args:
    """Defaults of the options, from the preset or the file."""
    known = train.arguments([word for word in words if word != "--resume"])
    return Args(preset=known.preset, from_file=known.from_file, config=known.config)


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """All steps in order."""
    from nimbleq.rl.rules import check_settings

    asked = CompressConfig(keep=args.keep, recipe=args.recipe, seed=args.config.seed, max_episodes=args.max_episodes)
    check_config(asked)
    check_settings(args.config)
    check_targets(args.to, args.name)
    run = RunDir(args.out or train.default_out(args.preset, args.from_file, args.config))
    with train.working_in(run):
        return _line(args, asked, run, console)


def _line(args: Args, config: CompressConfig, run: RunDir, console: Console) -> tuple[dict[str, Any], bool]:
    build = run.path / "build"
    limit, extent = args.max_episodes, args.return_range
    promise = {"keep": args.keep, "recipe": args.recipe, "max_episodes": limit, "return_range": extent}
    compared = {"scratch": True} if args.scratch else {}
    shape = {"to": list(args.to), "name": args.name}

    def compressed() -> dict[str, Any]:
        require_better_than_random(run)
        searched = replace(config, return_range=certify.range_of(extent, run_env(run)))
        result = compress.compress_run(run, _SMALL, searched, console, args.scratch)
        asked = compress.Args(run=run.path, max_episodes=limit, return_range=extent, scratch=args.scratch)
        return result | {"options": compress.options(asked)}

    steps = _Steps(run, console)
    trained = steps.do("train", {"config": to_dict(args.config)},
                       lambda: train.train_run(args.config, run, console, resume=True),
                       made=lambda _: digest(run.teacher))  # fmt: skip
    asked = {"teacher": digest(run.teacher), **promise}
    smaller = steps.do("compress", asked | compared, compressed, made=lambda result: digest(_place(run, result)))
    small = _place(run, smaller)
    asked |= {"artefact": digest(small)}
    certified = steps.do("certify", asked,
                         lambda: certify.certify_run(small, run, console, args.keep, limit, return_range=extent),
                         made=lambda _: _file_digest(small / CERTIFICATE))  # fmt: skip
    asked |= shape
    exported = steps.do("export", asked,
                        lambda: export.export_artefact(small, args.to, build, console, args.name),
                        made=lambda _: _build_digest(build))  # fmt: skip
    verified = steps.do("verify", {**asked, "build": _build_digest(build)},
                        lambda: verify.verify_folder(build, console))  # fmt: skip
    timed = steps.do("bench", {name: value for name, value in asked.items() if name not in shape},
                     lambda: bench.bench_run(small, run, console, flash=args.to, engines=_TIMED))  # fmt: skip
    report = str(write_report(run, small.name))
    result = {
        "train": trained, "compress": smaller, "certify": certified, "export": exported, "verify": verified,
        "bench": timed, "report": report, "step_seconds": steps.seconds,
    }  # fmt: skip
    _summary(result, console)
    return result, bool(certified["certified"]) and not verified["mismatches"]


def _place(run: RunDir, result: dict[str, Any]) -> Path:
    """Folder of the artefact that a result is about."""
    return run.artefact(Path(result["artefact"]).name)


@dataclass(frozen=True)
class _Steps:
    """The finished steps of a run: its ledger has the inputs and the digest of the output of each.

    A step is repeated if its inputs changed, or if its result or output is not what it left.

    Attributes:
        seconds: that each step took now.
    """

    run: RunDir
    console: Console
    seconds: dict[str, float] = field(default_factory=dict)

    def do(
        self,
        verb: str,
        asked: dict[str, Any],
        work: Callable[[], dict[str, Any]],
        made: Callable[[dict[str, Any]], str] = lambda _: "",
    ) -> dict[str, Any]:
        """The verb's result: the saved one if it is still valid, else that of ``work``.

        Args:
            verb: the step.
            asked: its inputs: settings, and digests of what it starts from.
            work: does it.
            made: digest of its output.
        """
        began = time.monotonic()
        try:
            return self._do(verb, asked, work, made)
        finally:
            self.seconds[verb] = round(time.monotonic() - began, 3)

    def _do(
        self,
        verb: str,
        asked: dict[str, Any],
        work: Callable[[], dict[str, Any]],
        made: Callable[[dict[str, Any]], str],
    ) -> dict[str, Any]:
        path = self.run.result("inputs")
        ledger = read_json(path) if path.exists() else {}
        before = _Entry.read(ledger.get(verb))
        if before is not None:
            result = self.run.load_result(verb, before.about)
            if before.same(asked) and isinstance(result, dict) and before.left == _left(result, made):
                self.console.say(f"{verb}: already done, unchanged")
                return self._here(result)
            self.console.say(f"{verb}: repeated, because {before.reason(asked)}")
        result = work()
        self.run.save_result(verb, result)
        entry = _Entry(asked, _left(result, made), Path(result.get("artefact", "")).name)
        write_json(path, ledger | {verb: asdict(entry)})
        return result

    def _here(self, result: dict[str, Any]) -> dict[str, Any]:
        """``result`` with the places of this run, which may have been moved since."""
        here = {**result, "run": str(self.run.path)} if "run" in result else dict(result)
        return {**here, "artefact": str(_place(self.run, here))} if "artefact" in here else here


@dataclass(frozen=True)
class _Entry:
    """A line of the ledger.

    Attributes:
        asked: see `_Steps.do`.
        left: digest of the result and the output.
        about: the artefact that the result is about; empty: the run.
    """

    asked: dict[str, Any]
    left: str
    about: str

    @classmethod
    def read(cls, value: Any) -> Self | None:
        """None if there is no valid entry."""
        kinds = {"asked": dict, "left": str, "about": str}
        if not isinstance(value, dict) or value.keys() != kinds.keys():
            return None
        fits = all(isinstance(value[name], kind) for name, kind in kinds.items())
        return cls(**value) if fits and value["about"] in ("", Path(value["about"]).name) else None

    def same(self, asked: dict[str, Any]) -> bool:
        """Whether the inputs are the same; an earlier nimbleq may have had fewer settings of training."""
        if "config" not in asked:
            return self.asked == asked
        return same_settings(self.asked.get("config"), from_dict(TrainConfig, asked["config"]))

    def reason(self, asked: dict[str, Any]) -> str:
        """What changed, in words."""
        changed = [key for key in asked if self.asked.get(key) != asked[key]]
        return f"{' and '.join(changed)} changed" if changed else "its output was changed since"


def _left(result: dict[str, Any], made: Callable[[dict[str, Any]], str]) -> str:
    """Digest of a step's result and output; if the output is missing or damaged, no other digest equals it."""
    try:
        return sha256(f"{json.dumps(result, sort_keys=True)} {made(result)}".encode())
    except FileError as error:
        return str(error)


def _build_digest(build: Path) -> str:
    """Digest of an intact build, else what is wrong with it."""
    try:
        load_build(build)
        return _file_digest(build / MANIFEST)
    except FileError as error:
        return str(error)


def _file_digest(path: Path) -> str:
    return sha256(read_bytes(path))


def _summary(result: dict[str, Any], console: Console) -> None:
    """The table at the end of ``make demo``."""
    small, certificate, timed = result["compress"], result["certify"], result["bench"]
    p50 = {(row["engine"], row["what"]): row["p50_us"] for row in timed["rows"]}

    def latency(engine: str, what: str) -> str:
        return f"{p50[engine, what]:.2f} µs" if (engine, what) in p50 else "–"

    console.table(
        f"{result['train']['env']}: teacher and compressed policy",
        ("", "teacher", "small", "ratio"),
        [
            ["size", size_text(small["teacher_size_bytes"]), size_text(small["size_bytes"]),
             f"×{small['teacher_size_bytes'] / small['size_bytes']:.0f} smaller"],
            ["multiply-accumulates", f"{small['teacher_macs']:,}", f"{small['macs']:,}",
             f"×{small['teacher_macs'] / max(small['macs'], 1):.0f} fewer"],
            ["return (fresh seeds)", shown(certificate["teacher_return_mean"]),
             shown(certificate["student_return_mean"]), f"{certificate['episodes']} paired episodes"],
            ["decision in C, p50", latency("nimbleq-c", "teacher"), latency("nimbleq-c", "artefact"), ""],
            ["decision from Python, p50", latency("nimbleq-python", "teacher"),
             latency("nimbleq-python", "artefact"), ""],
            ["ONNX Runtime, p50", latency("onnxruntime", "teacher"), latency("onnxruntime", "artefact"), ""],
            ["PyTorch, p50", latency("torch", "teacher"), latency("torch", "artefact"), ""],
        ],
    )  # fmt: skip
    console.say(certificate["reason"])
    verified = result["verify"]
    console.say(f"verified: {verified['checked']:,} answers, {verified['mismatches']} mismatches")
    for target, why in verified["skipped"].items():
        console.say(f"NOT verified: {target} ({why})")
    console.say(f"report: {result['report']}")
