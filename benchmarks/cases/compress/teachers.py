"""The teachers ★ of the leaderboard: each is trained once for a seed, and its run is kept for all methods."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.case import CellError, Context
from benchmarks.process import nimbleq
from benchmarks.record import ROOT
from nimbleq.graph.artefact import load_artefact
from nimbleq.graph.cost import cost

RUNS = ROOT / "runs" / "bench-compress"
_QUICK = ("--steps", "1000")


@dataclass(frozen=True)
class Teacher:
    """A row of `TEACHERS`.

    Attributes:
        title: of its table.
        pictures: whether it sees pictures.
        train: how it is trained.
        compress: options of every method: the keep that is affordable, and how long to teach.
    """

    title: str
    pictures: bool
    train: tuple[str, ...]
    compress: tuple[str, ...]


TEACHERS: dict[str, Teacher] = {
    "lunarlander": Teacher(
        "LunarLander-v3, 8-256-256-4",
        False,
        ("--env", "LunarLander-v3", "--preset", "wide"),
        ("--keep", "0.95", "--select-episodes", "300", "--distill.rounds", "4", "--distill.updates", "400",
         "--distill.last-updates", "1600", "--distill.batch-size", "256"),
    ),
    "breakout": Teacher(
        "MinAtar Breakout, one convolution of 16 channels, 128",
        True,
        ("--env", "MinAtar/Breakout-v1", "--preset", "pqn", "--steps", "750000"),
        ("--keep", "0.8", "--select-episodes", "90", "--distill.rounds", "4", "--distill.updates", "400",
         "--distill.last-updates", "2500", "--distill.batch-size", "128", "--distill.states", "8000"),
    ),
    "catch": Teacher(
        "Catch on 84 × 84 × 4 pixels, the Nature network",
        True,
        ("--env", "benchmarks.catch:Catch", "--steps", "14000", "--learn-start", "800", "--replay.capacity", "20000",
         "--replay.n-step", "6", "--learner.lr", "0.0007", "--learner.target-every", "150", "--learner.gamma", "0.95",
         "--explore.updates", "400", "--explore.end", "0.05", "--evaluation.every", "250",
         "--evaluation.final-episodes", "40", "--evaluation.stop-return", "9.3"),
        ("--keep", "0.9", "--return-range", "0,10", "--select-episodes", "60", "--distill.rounds", "2",
         "--distill.updates", "60", "--distill.last-updates", "240", "--distill.batch-size", "32",
         "--distill.states", "1500"),
    ),
}  # fmt: skip
"""Name → teacher."""


def run_of(name: str, seed: int, context: Context) -> Path:
    """The run of a teacher; trained where it is not there yet."""
    path = (RUNS.with_name("bench-compress-quick") if context.quick else RUNS) / f"{name}-seed{seed}"
    if not path.exists():
        began = path.with_suffix(".began")
        shutil.rmtree(began, ignore_errors=True)
        words = ("--seed", str(seed), "--out", str(began), *(_QUICK if context.quick else ()))
        nimbleq("train", *TEACHERS[name].train, *words)
        began.rename(path)
    return path


def measure(name: str, seed: int, context: Context) -> dict[str, Any]:
    """Train it; what it returns and what it costs."""
    path = run_of(name, seed, context)
    trained = nimbleq_result(path, "train")
    spent = cost(load_artefact(path / "artefacts" / "teacher").graph)
    kept = ("env", "steps", "train_seconds", "return_mean", "return_ci95", "episodes")
    return {**{key: trained[key] for key in kept}, "size_bytes": spent.size_bytes, "macs": spent.macs}


def nimbleq_result(path: Path, verb: str) -> dict[str, Any]:
    """What a verb said of a run."""
    from nimbleq.rundir import RunDir

    found = RunDir(path).load_result(verb)
    if found is None:
        raise CellError(f"{path} has no result of {verb}: delete that folder")
    return dict(found)
