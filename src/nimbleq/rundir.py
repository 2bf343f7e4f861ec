"""Where things lie in a run directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nimbleq.errors import FileError
from nimbleq.files import read_json, write_json


@dataclass(frozen=True)
class RunDir:
    """``config.json``, ``metrics.jsonl``, ``tensorboard/``, ``checkpoint/``, ``artefacts/<name>/``,
    ``results/<verb>.json``, ``report.html``.

    ``artefacts/teacher`` is the float32 graph of the best checkpoint (or of an imported model); every later verb starts
    from it. Before training is over it is made from ``checkpoint/best.safetensors`` when a verb asks for it.
    """

    path: Path

    @property
    def config(self) -> Path:
        """``{"format": 1, "nimbleq": version, "train": {…TrainConfig…}}``."""
        return self.path / "config.json"

    @property
    def metrics(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        """Training state."""
        return self.path / "checkpoint"

    @property
    def best(self) -> Path:
        """Weights of the best checked network so far, as safetensors named as in `QNetwork.state_dict`."""
        return self.checkpoint / "best.safetensors"

    @property
    def teacher(self) -> Path:
        """The artefact that compression starts from."""
        return self.artefact("teacher")

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.path / "report.html"

    def artefact(self, name: str) -> Path:
        """Folder of a named artefact."""
        return self.path / "artefacts" / name

    def result(self, verb: str) -> Path:
        """The JSON object that ``verb`` printed."""
        return self.path / "results" / f"{verb}.json"

    def save_result(self, verb: str, value: Any) -> None:
        """Keep what ``verb`` printed, for the report and for resuming."""
        write_json(self.result(verb), value)

    def load_result(self, verb: str) -> Any | None:
        """What ``verb`` printed when it last ran here, or None."""
        return read_json(self.result(verb)) if self.result(verb).exists() else None


def open_run(path: Path) -> RunDir:
    """An existing run directory.

    Raises:
        FileError: there is none at ``path``.
    """
    run = RunDir(path)
    if not run.config.exists():
        why = "it has no config.json" if path.is_dir() else "there is no such folder"
        raise FileError(f"{path} is not a run directory: {why}; make one with nimbleq train --out {path}")
    return run
