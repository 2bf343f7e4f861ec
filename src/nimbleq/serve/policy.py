"""One policy that is served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nimbleq.deploy.runtime import Runtime
from nimbleq.errors import ConfigError, ObservationError
from nimbleq.graph.artefact import load_artefact
from nimbleq.serve.refusal import RefusedError, Why
from nimbleq.serve.signature import ACTION, FAULTS, Q, Signature
from nimbleq.serve.streams import ALONE, Sequence, Streams
from nimbleq.types import Array


@dataclass(frozen=True)
class Served:
    """A policy in memory; a new artefact is a new one of these.

    Attributes:
        name: in addresses.
        path: the artefact.
        digest: of the artefact; see `nimbleq.graph.artefact.digest`.
        certified: what its certificate says; None without one.
        runtime: decides.
        signature: the tensors of a request.
        streams: the control loops of its clients; None for a policy without a guard, which remembers nothing.
    """

    name: str
    path: Path
    digest: str
    certified: bool | None
    runtime: Runtime
    signature: Signature
    streams: Streams | None = None

    @classmethod
    def load(cls, name: str, path: Path) -> Served:
        """Read, check and compile an artefact.

        Raises:
            FileError: it is missing or damaged.
            ConfigError: it remembers observations.
        """
        artefact = load_artefact(path)
        if artefact.graph.units:
            raise ConfigError(f"{path} remembers observations, and a server's requests are not one episode")
        runtime = Runtime(artefact.graph, interface=artefact.interface, guard=artefact.guard)
        certified = None if artefact.certificate is None else bool(artefact.certificate.get("certified"))
        signature = Signature.of(runtime.interface, artefact.graph.masked, artefact.guard is not None)
        streams = None if artefact.guard is None else Streams(runtime)
        return cls(name, path, artefact.digest, certified, runtime, signature, streams)

    def successor(self) -> Served:
        """What lies at `path` now, for the same clients.

        Raises:
            FileError: it is missing or damaged.
            RefusedError: it takes other observations, or gives other actions.
        """
        new = Served.load(self.name, self.path)
        if new.signature != self.signature:
            text = f"the artefact at {self.path} takes other observations or gives other actions than the one served"
            raise RefusedError(Why.CONFLICT, f"{text}: serve it under another name")
        return new

    def decide(
        self, given: Mapping[str, Array], wanted: tuple[str, ...] = (ACTION, Q), sequence: Sequence = ALONE
    ) -> dict[str, Array]:
        """The outputs ``wanted``, ``[N, *shape]`` of each, for the inputs ``given``.

        Args:
            sequence: the control loop of the client, in which the N observations follow one another; behind a guard a
                request of it without inputs is a period in which none came.

        Raises:
            RefusedError: the inputs are not what the policy takes.
        """
        found: dict[str, list[Any]] = {tensor.name: [] for tensor in self.signature.outputs}
        stream = None if self.streams is None else self.streams.of(sequence)
        try:
            nothing_came = not given and stream is not None and sequence.name is not None
            for obs, mask in [(None, None)] if nothing_came else self.signature.rows(given):
                if stream is not None and sequence is ALONE:
                    stream.reset()
                act = self.runtime.act if stream is None else stream.act
                found[ACTION].append(act(obs) if mask is None else act(obs, mask))
                if stream is not None:
                    found[FAULTS].append(stream.bits)
                if Q in wanted:
                    found[Q].append(self.values(obs))
        except ObservationError as error:
            raise RefusedError(Why.INVALID, str(error)) from None
        if self.streams is not None:
            self.streams.close(sequence)
        tensors = {tensor.name: tensor.dtype for tensor in self.signature.outputs}
        return {name: np.array(found[name], tensors[name]) for name in wanted}

    def values(self, obs: Any) -> Array:
        """Action values; NaN behind a guard where the network has none, since there the fallback acts."""
        if obs is None:
            return np.full(self.runtime.graph.actions, np.nan, np.float32)
        try:
            return self.runtime.q_values(obs)
        except ObservationError:
            if self.streams is None:
                raise
            return np.full(self.runtime.graph.actions, np.nan, np.float32)
