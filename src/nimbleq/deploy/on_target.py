"""A policy as a target runs it, to play episodes with: what is certified where a target rounds by itself."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nimbleq.deploy.target import Run, Source
from nimbleq.deploy.targets import TARGETS
from nimbleq.errors import ConfigError, NimbleqError
from nimbleq.files import sha256
from nimbleq.graph.artefact import Artefact
from nimbleq.types import Array


@dataclass(frozen=True)
class OnTarget:
    """The policy ``obs[B, *O] → action int64[B]`` of a target's files.

    Attributes:
        run: them, on this machine.
        label: of the way to run them.
        files: SHA-256 of each.
    """

    run: Run
    label: str
    files: tuple[str, ...]

    def __call__(self, obs: Array, mask: Array | None = None) -> Array:
        action, _ = self.run(obs, mask)
        if action is None:
            raise NimbleqError(f"{self.label} gives no actions, only values: there is nothing to play")
        return action.astype(np.int64)

    def hash(self, graph: str) -> str:
        """Of what decides its answers, with the hash of its graph."""
        return hashlib.sha256("\n".join([graph, self.label, *self.files]).encode()).hexdigest()


@contextmanager
def on_target(artefact: Artefact, target: str) -> Iterator[OnTarget]:
    """The policy of ``artefact`` as ``target`` runs it here, in a folder that is deleted afterwards.

    Raises:
        ConfigError: there is no such target, or it cannot be written or run here.
        UnsupportedOpError: it cannot express an op.
    """
    if target not in TARGETS:
        raise ConfigError(f"unknown target {target}: use {' or '.join(TARGETS)}")
    row = TARGETS[target]
    if why := row.cannot_emit() or row.cannot_open():
        raise ConfigError(why)
    source = Source.of(artefact)
    files = row.emit(source, "policy", row.options())
    with tempfile.TemporaryDirectory(prefix="nimbleq-certify-") as folder:
        label, run = next(iter(row.open(source, files, "policy", Path(folder)).items()))
        yield OnTarget(run, label, tuple(sorted(sha256(data) for data in files.values())))
