"""Measurements on disk: named cells in a JSON file, each stamped with machine, versions, load and commit.

A cell is measured once and written at once, so that a large table grows over several runs; what is not there yet is
shown as missing.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from nimbleq.files import read_json, write_json
from nimbleq.version import VERSION

MISSING = "not measured yet"
OTHERWISE = "measured with other settings, so to be measured again"
_PACKAGES = (
    "numpy", "torch", "gymnasium", "onnxruntime", "stable-baselines3", "sbx-rl", "jax", "tianshou", "ale-py", "minatar",
    "envpool", "ray", "crazyflow",
)  # fmt: skip
ROOT = Path(__file__).parents[1]


def stamp() -> dict[str, Any]:
    """Where and how something is measured: ``processor``, ``cores``, ``load`` (of the last minute), ``versions``,
    ``command`` and ``commit`` (None outside a repository; ``+`` when files were changed since).
    """
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "versions": {"nimbleq": VERSION, "python": platform.python_version(), **_versions()},
        "command": shlex.join(["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *map(_unplaced, sys.argv[1:])]),
        "commit": _commit(),
    }


def _unplaced(word: str) -> str:
    """A word of a command without the folders of this machine."""
    return Path(word).name if Path(word).is_absolute() else word


class Record:
    """The cells of one benchmark, by name.

    Args:
        path: the JSON file; read when it is there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cells: dict[str, dict[str, Any]] = dict(read_json(path)["cells"]) if path.exists() else {}

    def finished(self, name: str, settings: str | None = None) -> bool:
        """Whether the cell has a result that is no error, with these ``settings`` (None: with any)."""
        cell = self.cells.get(name, {"error": MISSING})
        return "error" not in cell and settings in (None, cell.get("settings", ""))

    def measure(self, name: str, work: Callable[[], dict[str, Any]], settings: str = "") -> dict[str, Any]:
        """What ``work`` says, stamped as it began and written at once, in place of a former cell ``name``."""
        began = stamp()
        self.cells[name] = work() | {"stamp": began} | ({"settings": settings} if settings else {})
        write_json(self.path, {"cells": self.cells})
        return self.cells[name]

    def rows(self, names: Iterable[str], row: Callable[[str, dict[str, Any]], str], columns: int) -> list[str]:
        """Lines of a Markdown table with ``columns`` columns, of cells that are missing or failed, too."""
        return [
            row(name, self.cells[name])
            if self.finished(name)
            else f"| {name} | {self.why(name)} |" + " |" * (columns - 2)
            for name in names
        ]

    def why(self, name: str) -> str:
        """Why a cell has no figures."""
        if name not in self.cells:
            return MISSING
        return f"failed: {self.cells[name]['error']}" if "error" in self.cells[name] else OTHERWISE

    def footnote(self) -> str:
        """Where the cells were measured, one after the other where it was not the same place."""
        places = []
        for each in (cell["stamp"] for cell in self.cells.values()):
            versions = ", ".join(f"{name} {number}" for name, number in each.get("versions", {}).items())
            cores = f"{each['cores']} cores" if "cores" in each else "cores and versions not recorded"
            parts = (each.get("processor", "Processor not recorded"), cores, versions)
            places.append("; ".join(part for part in parts if part))
        loads = [cell["stamp"]["load"] for cell in self.cells.values() if "load" in cell["stamp"]]
        load = f" Load {' to '.join(dict.fromkeys(f'{each:g}' for each in (min(loads), max(loads))))}." if loads else ""
        return f"{'. '.join(dict.fromkeys(places))}.{load}"


def _processor() -> str:
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    def git(*words: str) -> str | None:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "--short", "HEAD")
    return commit and commit + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
