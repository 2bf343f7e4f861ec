"""One cell of the leaderboard: a teacher, a method, a seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.case import CellError, Context
from benchmarks.cases.compress.methods import METHODS
from benchmarks.cases.compress.teachers import TEACHERS, nimbleq_result, run_of
from benchmarks.process import measure as in_process
from benchmarks.process import nimbleq
from nimbleq.compress.certify import attempts_of, standing
from nimbleq.graph.artefact import load_artefact
from nimbleq.rl.training.evaluate import interval95
from nimbleq.types import Array

SCRATCH = "from scratch"
_QUICK = (
    "--keep", "0.5", "--select-episodes", "20", "--max-episodes", "40", "--distill.rounds", "1", "--distill.updates",
    "5", "--distill.last-updates", "5", "--distill.episodes", "2", "--distill.states", "100",
    "--direct.population", "4", "--direct.regret-generations", "2", "--direct.episodes", "2",
    "--direct.generations", "1", "--direct.rounds", "0",
)  # fmt: skip


def compressed(teacher: str, method: str, seed: int, context: Context) -> dict[str, Any]:
    """What ``nimbleq compress`` makes of the teacher by this method."""
    name = method.replace(" ", "-").replace(":", "of")
    return compressed_by((*METHODS[method].words, *TEACHERS[teacher].compress), name, teacher, seed, context)


def compressed_by(words: Sequence[str], name: str, teacher: str, seed: int, context: Context) -> dict[str, Any]:
    """What ``nimbleq compress`` with the options ``words`` makes of the teacher, as the artefact ``name``."""
    run = run_of(teacher, seed, context)
    words = (*words, *(_QUICK if context.quick else ()))
    result = nimbleq("compress", str(run), *words, "--no-scratch", "--name", name, accepted=(0, 1))
    size, macs = result["size_bytes"], result["macs"]
    row = next(each for each in result["candidates"] if (each["size_bytes"], each["macs"]) == (size, macs))
    facts = {key: row[key] for key in ("recipe", "hidden", "bits", "latency_us", "regret", "agreement")}
    kept = ("keep", "certified", "teacher_size_bytes", "teacher_macs", "teacher_latency_us")
    return {
        "size_bytes": size, "macs": macs, **facts, **{key: result[key] for key in kept},
        **_returns(Path(result["artefact"])), "tried": len(result["candidates"]), "seconds": result["process_seconds"],
        "processor_seconds": result["processor_seconds"],
    }  # fmt: skip


def _returns(artefact: Path) -> dict[str, Any]:
    """Of the certificate's episodes, which nothing was chosen on."""
    played = standing(attempts_of(load_artefact(artefact).certificate)).returns
    return returns_facts(played.student, played.teacher, played.random)


def returns_facts(student: Array, teacher: Array, random: Array) -> dict[str, Any]:
    """Means and 95 % intervals; ``share_kept`` of the return above random play, by pairs of episodes.

    Args:
        student, teacher, random: ``float64[n]`` on the same seeds.
    """
    gap = float(teacher.mean() - random.mean())
    low, high = interval95(student - teacher)
    return {
        "episodes": len(student), "return_mean": float(student.mean()), "return_ci95": list(interval95(student)),
        "teacher_return_mean": float(teacher.mean()), "random_return_mean": float(random.mean()),
        "share_kept": 1 + float((student - teacher).mean()) / gap, "share_kept_ci95": [1 + low / gap, 1 + high / gap],
    }  # fmt: skip


def from_scratch(teacher: str, seed: int, context: Context) -> dict[str, Any]:
    """A network of the size that ``distill`` found, trained as the teacher was, for as many steps.

    Of a teacher that sees pictures, what comes after the convolutions gets the student's last width; the convolutions
    stay as they are.
    """
    student = context.known.get(f"{teacher} distill seed{seed}", {})
    if "hidden" not in student:
        raise CellError("the widths are those that distill finds: measure it first")
    widths = [str(width) for width in student["hidden"]][-1 if TEACHERS[teacher].pictures else 0 :]
    out = context.scratch / "run"
    steps = nimbleq_result(run_of(teacher, seed, context), "train")["steps"]
    words = ("--seed", str(seed + 1_000), "--steps", str(max(steps, 1)), "--out", str(out))
    trained = nimbleq("train", *TEACHERS[teacher].train, *words, "--network.hidden", *widths)
    facts = in_process(
        "-m", "benchmarks.peers.compressors", "played", "--run", str(run_of(teacher, seed, context)), "--other",
        str(out), "--episodes", "200",
    )  # fmt: skip
    spent = facts["processor_seconds"] + trained["processor_seconds"]
    return {
        **facts, "hidden": [int(width) for width in widths], "seconds": trained["process_seconds"],
        "processor_seconds": spent,
    }  # fmt: skip
