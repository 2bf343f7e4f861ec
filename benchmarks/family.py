"""Every preset learns: ``python -m benchmarks.family [--fresh]`` → ``results/family.{md,json}``.

Each row is one ``nimbleq train --json`` in a process of its own, with the preset as it is, one after the other. Nothing
is retried or left out; a stopped benchmark goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.record import Record
from nimbleq.files import write_bytes

RESULTS = Path(__file__).parent / "results"
HEADER = (
    "| environment | preset | seed | asked | return (95 % interval) | met | steps | training | learner |\n"
    "|---|---|---|---|---|---|---|---|---|\n"
)
FAMILY = ("nature", "double-dueling", "prioritized", "rainbow", "qr", "iqn", "munchausen", "pqn", "btr")


class Task(NamedTuple):
    """Train ``preset`` on ``env``; ``asked`` is the mean return that 100 greedy episodes should reach."""

    env: str
    preset: str
    seed: int
    asked: float

    @property
    def name(self) -> str:
        """Of its cell."""
        return f"{self.env} {self.preset} seed{self.seed}"


def tasks(seeds: list[int]) -> list[Task]:
    """Those of a seed before those of the next, so that a stopped benchmark has met all presets."""
    every = [Task("CartPole-v1", preset, seed, 475.0) for seed in seeds for preset in FAMILY]
    others = [
        Task(env, preset, seed, asked)
        for seed in seeds
        for env, preset, asked in (
            ("Acrobot-v1", "dqn", -100.0),
            ("MountainCar-v0", "dqn", -120.0),
            ("LunarLander-v3", "pqn", 200.0),
        )
    ]
    return [*every, *others, Task("LunarLander-v3", "rainbow", seeds[0], 200.0)]


def one(task: Task, folder: Path) -> dict[str, Any]:
    """One run: what it says."""
    out = folder / f"{task.env}-{task.preset}-seed{task.seed}"
    words = ["train", "--env", task.env, "--preset", task.preset, "--seed", str(task.seed), "--out", str(out)]
    words += ["--json", *(["--resume"] if out.exists() else [])]
    done = subprocess.run([sys.executable, "-m", "nimbleq", *words], stdout=subprocess.PIPE, text=True, check=False)
    result: dict[str, Any] = {**task._asdict(), **json.loads(done.stdout)}
    return {name: value for name, value in result.items() if name != "run"}


def row(_: str, result: dict[str, Any]) -> str:
    """A line of the table."""
    first = f"| {result['env']} | {result['preset']} | {result['seed']} | {result['asked']:g} "
    if "error" in result:
        return first + f"| {result['error']} |" + " |" * 4
    low, high = result["return_ci95"]
    met = "yes" if result["return_mean"] >= result["asked"] else "NO"
    return first + (
        f"| {result['return_mean']:.1f} ({low:.1f} to {high:.1f}) | {met} | {result['steps']:,} "
        f"| {result['train_seconds']:.1f} s | {result['learner']} |"
    )


def table(record: Record, planned: list[Task]) -> str:
    """Markdown."""
    return HEADER + "\n".join([*record.rows([task.name for task in planned], row, 9), "", record.footnote(), ""])


def main() -> None:
    """Run all; the table is written after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=None, help="keep the run directories here")
    parser.add_argument("--fresh", action="store_true", help="measure again what is there")
    args = parser.parse_args()
    record, planned = Record(RESULTS / "family.json", args.fresh), tasks(args.seeds)
    with tempfile.TemporaryDirectory() as scratch:
        for task in planned:
            told = record.measure(task.name, partial(one, task, args.runs or Path(scratch)))
            print(row(task.name, told), flush=True)
            write_bytes(RESULTS / "family.md", table(record, planned).encode())


if __name__ == "__main__":
    main()
