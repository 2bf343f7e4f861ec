"""Cells of a benchmark: each one process, one JSON object; a finished one is kept and not run again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.record import stamp
from nimbleq.files import read_json, write_json

ROOT = Path(__file__).parents[1]
OUT = "{out}"
"""Stands in a cell's words for a fresh folder, the run directory of ``nimbleq train``."""


@dataclass(frozen=True)
class Cell:
    """One measurement.

    Attributes:
        part: of the benchmark.
        name: who is measured.
        seed: of the run.
        words: what follows ``python``.
        expected: seconds, roughly, for the first guess of the time that is left.
    """

    part: str
    name: str
    seed: int
    words: tuple[str, ...]
    expected: float = 10.0

    @property
    def label(self) -> str:
        """For people and file names."""
        return f"{self.part}-{self.name}-{self.seed}"


@dataclass
class Runner:
    """Runs cells one after the other, so that nothing of the benchmark competes with itself.

    Attributes:
        folder: where finished cells lie.
        fresh: run them again.
        results: label → JSON object of the cells so far; ``error`` in it says why there is no figure.
    """

    folder: Path
    fresh: bool = False
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    clock: Clock = field(default_factory=lambda: Clock())

    def run(self, cells: Sequence[Cell], parts: Sequence[str], after: Callable[[], None] = lambda: None) -> None:
        """Run those of ``parts`` that are not finished; take in the finished ones of all parts.

        Prints a line before and after each run, and calls ``after``.
        """
        todo = []
        for cell in cells:
            known = self.kept(cell)
            if known is not None and not (self.fresh and cell.part in parts):
                self.results[cell.label] = known
            elif cell.part in parts:
                todo.append(cell)
        for number, cell in enumerate(todo):
            left = self.clock.left(todo[number:])
            print(f"[{number + 1}/{len(todo)}] {cell.label} … {time_text(left)} left", file=sys.stderr, flush=True)
            result = self.measure(cell)
            self.results[cell.label] = result
            if "error" not in result:
                write_json(self.folder / f"{cell.label}.json", {"words": list(cell.words), "result": result})
            print(f"    {told(result)}", file=sys.stderr, flush=True)
            after()

    def kept(self, cell: Cell) -> dict[str, Any] | None:
        """Its result when it was finished with the same words."""
        path = self.folder / f"{cell.label}.json"
        known = read_json(path) if path.exists() else {}
        return known["result"] if known.get("words") == list(cell.words) else None

    def measure(self, cell: Cell) -> dict[str, Any]:
        """Run it; the last line that it prints, with the seconds of the whole process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        at = stamp()
        with tempfile.TemporaryDirectory() as scratch, (self.folder / f"{cell.label}.log").open("w") as log:
            out = Path(scratch) / "out"
            words = [sys.executable, *(word.replace(OUT, str(out)) for word in cell.words)]
            began = time.monotonic()
            done = subprocess.run(
                words, stdout=subprocess.PIPE, stderr=log, text=True, check=False, cwd=ROOT, env=_with_root()
            )
            took = time.monotonic() - began
            self.clock.note(cell.expected, took)
            result: dict[str, Any] = (
                _last_object(done.stdout) if done.returncode == 0 else {"error": self._why(cell, done.returncode)}
            )
            if (out / "metrics.jsonl").exists():
                result["curve"] = curve_of((out / "metrics.jsonl").read_text())
        result.pop("run", None)
        return result | {"process_seconds": took, "stamp": at}

    def _why(self, cell: Cell, code: int) -> str:
        said = (self.folder / f"{cell.label}.log").read_text(errors="replace").strip().splitlines()
        return f"exit {code}: {said[-1]}" if said else f"exit {code}"


@dataclass
class Clock:
    """Scales what cells were expected to take by what they took."""

    expected: float = 0.0
    took: float = 0.0

    def note(self, expected: float, took: float) -> None:
        """A cell is finished."""
        self.expected += expected
        self.took += took

    def left(self, cells: Sequence[Cell]) -> float:
        """Seconds that ``cells`` will take."""
        scale = self.took / self.expected if self.expected else 1.0
        return scale * sum(cell.expected for cell in cells)


def curve_of(metrics: str) -> list[list[float]]:
    """``[steps, seconds, mean return]`` of the greedy checks in a ``metrics.jsonl``."""
    lines = [json.loads(line) for line in metrics.splitlines()]
    return [[line["step"], line["seconds"], line["check_return"]] for line in lines if "check_return" in line]


def time_text(seconds: float) -> str:
    """``1:02:03`` or ``4:05``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def told(result: dict[str, Any]) -> str:
    """A result in a few words."""
    if "error" in result:
        return f"FAILED: {result['error']}"
    shown = ("seconds", "train_seconds", "steps", "return_mean", "steps_per_second", "threads")
    words = [f"{name} {result[name]:,.6g}" for name in shown if name in result]
    return ", ".join([*words, f"process {result['process_seconds']:.0f} s"])


def _last_object(printed: str) -> dict[str, Any]:
    """The last line as JSON; a script that prints tables gives an empty object."""
    lines = printed.strip().splitlines()
    try:
        value = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _with_root() -> dict[str, str]:
    """The environment, with this repository where Python looks for modules."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
