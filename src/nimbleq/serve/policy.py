"""One policy that is served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nimbleq.deploy.runtime import Runtime
from nimbleq.errors import ObservationError
from nimbleq.graph.artefact import load_artefact
from nimbleq.serve.refusal import RefusedError, Why
from nimbleq.serve.signature import ACTION, Q, Signature
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
    """

    name: str
    path: Path
    digest: str
    certified: bool | None
    runtime: Runtime
    signature: Signature

    @classmethod
    def load(cls, name: str, path: Path) -> Served:
        """Read, check and compile an artefact.

        Raises:
            FileError: it is missing or damaged.
        """
        artefact = load_artefact(path)
        runtime = Runtime(artefact.graph, interface=artefact.interface, guard=artefact.guard)
        certified = None if artefact.certificate is None else bool(artefact.certificate.get("certified"))
        signature = Signature.of(runtime.interface, artefact.graph.masked)
        return cls(name, path, artefact.digest, certified, runtime, signature)

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

    def decide(self, given: Mapping[str, Array], wanted: tuple[str, ...] = (ACTION, Q)) -> dict[str, Array]:
        """The outputs ``wanted``, ``[N, *shape]`` of each, for the inputs ``given``.

        Raises:
            RefusedError: the inputs are not what the policy takes.
        """
        runtime, actions, q = self.runtime, [], []
        try:
            for obs, mask in self.signature.rows(given):
                actions.append(runtime.act(obs) if mask is None else runtime.act(obs, mask))
                if Q in wanted:
                    q.append(runtime.q_values(obs))
        except ObservationError as error:
            raise RefusedError(Why.INVALID, str(error)) from None
        dtype = self.signature.outputs[0].dtype
        found = {ACTION: np.array(actions, dtype), **({Q: np.array(q, np.float32)} if q else {})}
        return {name: found[name] for name in wanted}
