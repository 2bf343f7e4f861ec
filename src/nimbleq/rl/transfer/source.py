"""The policy that a run starts from: an artefact, which the run keeps a copy of."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from nimbleq.config import TrainConfig
from nimbleq.errors import ConfigError, FileError
from nimbleq.graph.artefact import Artefact, load_artefact
from nimbleq.graph.artefact_files import MODEL
from nimbleq.rundir import RunDir


@dataclass(frozen=True)
class Source:
    """Attributes:
    artefact: the policy, with the interface of its environment.
    place: where it was given.
    """

    artefact: Artefact
    place: str


def open_source(config: TrainConfig, run: RunDir) -> Source | None:
    """The policy that ``config.transfer.source`` names; None when it names none.

    The first time it is copied into ``run``, so that the run can be resumed when the original has gone.

    Raises:
        ConfigError: there is no policy at that place, or it remembers.
        FileError: it is damaged.
    """
    place = config.transfer.source
    if not place:
        return None
    if not (run.source / MODEL).exists():
        path = _artefact_at(Path(place))
        if load_artefact(path).graph.units:
            raise ConfigError(f"{path} remembers observations, and a policy that starts from it would not")
        fresh = run.source.with_name(f".{run.source.name}")
        try:
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.copytree(path, fresh)
            fresh.rename(run.source)
        except OSError as error:
            raise FileError(f"cannot copy {path} to {run.source}: {error.strerror or error}") from error
    return Source(load_artefact(run.source), place)


def _artefact_at(path: Path) -> Path:
    """An artefact's folder, or that of the trained policy of a run."""
    for found in (path, RunDir(path).teacher):
        if (found / MODEL).exists():
            return found
    what = "it has no trained policy yet" if RunDir(path).config.exists() else "it is neither a run nor an artefact"
    raise ConfigError(f"there is nothing to start from in {path}: {what}")
