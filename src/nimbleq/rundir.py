"""The files of a run directory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nimbleq.errors import ConfigError, FileError
from nimbleq.files import read_json, write_json

TEACHER = "teacher"
_NAME = re.compile(r"\w[\w.+=-]{0,99}")


def check_name(name: str) -> str:
    """``name``, if it is a valid name of a compressed artefact: one plain word that names a folder in ``artefacts``.

    Raises:
        ConfigError: it is empty, hidden, leads out of that folder, or is the teacher's.
    """
    if _NAME.fullmatch(name) is None or name.casefold() == TEACHER:
        raise ConfigError(
            f"an artefact cannot be named {name!r}: use one word of letters, digits, _ . + = - other than {TEACHER}"
        )
    return name


@dataclass(frozen=True)
class RunDir:
    """The folder of a run and the places in it.

    It holds ``config.json``, ``metrics.jsonl``, ``tensorboard/``, ``checkpoint/``, ``artefacts/<name>/``,
    ``value-network/``, ``source/``, ``transfer.json``, ``candidates/``, ``results/<verb>.json``,
    ``results/<artefact>/<verb>.json`` and ``report.html``.

    ``artefacts/teacher`` is the float32 graph of the best checkpoint (or of an imported model); every later verb starts
    from it. Before training ends, a verb that needs it makes it from ``checkpoint/best.safetensors``.
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
        """Weights of the best network in a greedy check so far: safetensors, named as in `QNetwork.state_dict`."""
        return self.checkpoint / "best.safetensors"

    @property
    def teacher(self) -> Path:
        """The artefact that compression starts from."""
        return self.path / "artefacts" / TEACHER

    @property
    def value(self) -> Path:
        """The value network beside a policy network, an artefact that only judges (see `nimbleq.rl.policy_value`)."""
        return self.path / "value-network"

    @property
    def source(self) -> Path:
        """A copy of the artefact that training started from (see `nimbleq.rl.transfer`)."""
        return self.path / "source"

    @property
    def transfer(self) -> Path:
        """Whether training went on from that source, or from scratch."""
        return self.path / "transfer.json"

    @property
    def candidates(self) -> Path:
        """What a compression has made so far, one folder for each search; gone when it is over."""
        return self.path / "candidates"

    @property
    def attempts(self) -> Path:
        """Every attempt at a certificate, see `nimbleq.compress.certify.attempts`."""
        return self.path / "attempts.json"

    @property
    def report(self) -> Path:
        """The HTML report; that of a second artefact is ``report-<artefact>.html``."""
        return self.path / "report.html"

    def artefact(self, name: str) -> Path:
        """Folder of a compressed artefact.

        Raises:
            ConfigError: see `check_name`.
        """
        return self.path / "artefacts" / check_name(name)

    def artefacts(self) -> list[str]:
        """Names of the compressed artefacts, sorted; stray files and folders do not count."""
        found = sorted(path.parent for path in self.path.glob("artefacts/*/model.json"))
        return [path.name for path in found if _NAME.fullmatch(path.name) and path.name.casefold() != TEACHER]

    def result(self, verb: str, artefact: str = "") -> Path:
        """The JSON object that ``verb`` printed, about the run or about one ``artefact`` of it."""
        return self.path / "results" / artefact / f"{verb}.json"

    def save_result(self, verb: str, value: Mapping[str, Any]) -> None:
        """Save what ``verb`` printed, for the report and for resuming; by artefact if it names one as ``artefact``.

        Raises:
            ConfigError: the artefact cannot have that name.
            FileError: it cannot be written.
        """
        name = Path(str(value.get("artefact", ""))).name
        write_json(self.result(verb, name if name in ("", TEACHER) else check_name(name)), value)

    def load_result(self, verb: str, artefact: str = "") -> Any | None:
        """What ``verb`` printed when it last ran here, or None."""
        path = self.result(verb, artefact)
        return read_json(path) if path.exists() else None


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
