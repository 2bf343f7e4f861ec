"""A policy behind its guard, for one control loop.

    stream = Runtime("runs/cp/artefacts/guarded").stream()
    stream.reset()                       # an episode begins
    late = stream.standby()              # what to do if the decision does not come in time
    action = stream.act(observation)     # always an action; None: no observation came

The rules are those of `nimbleq.graph.guard`; the networks are those of the runtime's engine.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from nimbleq.deploy.decider import Decider
from nimbleq.errors import ObservationError
from nimbleq.graph.graph import Graph
from nimbleq.graph.guard import FAULTS, Guard
from nimbleq.graph.guard_state import GuardState, Network
from nimbleq.graph.interface import Interface, as_mask, environment_action, mask_of
from nimbleq.types import Array

_ROW = np.zeros(1, np.int64)
_HERE, _MISSING = np.ones(1, bool), np.zeros(1, bool)


def network_of(decider: Decider, graph: Graph) -> Network:
    """A network as a guard asks it, answered by an engine, one observation at a time."""

    def act(obs: Array, legal: Array | None) -> Array:
        return np.array([decider.act(obs[0]) if legal is None else decider.act(obs[0], legal[0])])

    return Network(act, lambda obs: decider.q(obs[0])[None], graph.masked)


class Guarded:
    """One control loop of a guarded policy. It has a state: one thread at a time, one stream for each machine.

    Attributes:
        state: of the guard.
        bits: of `FAULTS` in the last period; 0 when the policy acted.
    """

    def __init__(self, graph: Graph, interface: Interface, guard: Guard, deciders: dict[str, Decider]) -> None:
        """``deciders``: ``policy``, and ``larger`` and ``backup`` where the guard has them."""
        self._interface, self._masked = interface, graph.masked
        self._nothing = np.zeros((1, *interface.obs.shape), interface.obs.dtype)
        graphs = {"policy": graph, "larger": guard.larger, "backup": guard.backup}
        networks = {name: network_of(deciders[name], one) for name, one in graphs.items() if one is not None}
        self.state = GuardState(guard, graph, 1, **networks)
        self.bits = 0

    def reset(self) -> None:
        """An episode begins; the counters go on."""
        self.state.reset()
        self.bits = 0

    def act(self, obs: Any, mask: Any = None) -> int | Array:
        """One period: the environment's action, the fallback's where something is wrong.

        Args:
            obs: as the environment gives it; None: none came in time.
            mask: of the legal actions, for policies that take one; None with an observation that holds it, or without
                an observation.

        Raises:
            ObservationError: the mask is missing or does not fit, which is no fault of a sensor.
        """
        legal = self._mask(obs, mask)
        ready = None
        if obs is not None:
            with contextlib.suppress(ObservationError):  # outside of its space: missing, and counted as such
                ready = self._interface.read(obs)
        given = self._nothing if ready is None else ready[None]
        rows = None if legal is None else legal[None]
        action, found = self.state.step(_ROW, given, _MISSING if ready is None else _HERE, rows)
        self.bits = int(found[0])
        return environment_action(self._interface, int(action[0]))

    def standby(self, held: bool = True) -> int | Array:
        """The environment's action of this period if nothing else comes in time: ask before `act`.

        With ``held`` false it is that of a later period, in which the last action is no longer repeated.
        """
        return environment_action(self._interface, int(self.state.standby(_ROW, held)[0]))

    def late(self) -> None:
        """Count a decision that came too late and was replaced by `standby`."""
        self.state.late()

    @property
    def faults(self) -> tuple[str, ...]:
        """Names of the faults in the last period; empty when the policy acted."""
        return tuple(name for place, name in enumerate(FAULTS) if self.bits >> place & 1)

    @property
    def counters(self) -> dict[str, int]:
        """What happened so far; see `nimbleq.graph.guard.COUNTERS`."""
        return self.state.counters()

    def _mask(self, obs: Any, mask: Any) -> Array | None:
        if not self._masked:
            if mask is not None:
                raise ObservationError("this policy takes no mask: its environment gave none")
            return None
        if mask is not None:
            return as_mask(self._interface, mask)
        place = self._interface.mask or ""
        if obs is None:
            return None
        if not place.startswith("obs:"):
            raise ObservationError("this policy needs the mask of the legal actions: act(obs, mask)")
        try:
            return mask_of(self._interface, obs)
        except ObservationError:
            return None  # a damaged observation: the mask before it stays
