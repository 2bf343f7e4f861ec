"""A policy behind its guard, for one control loop.

    stream = Runtime("runs/cp/artefacts/guarded").stream()
    stream.reset()                       # an episode begins
    late = stream.standby()              # what to do if the decision does not come in time
    action = stream.act(observation)     # always an action; None: no observation came

The rules are those of `nimbleq.graph.guard`; the networks are those of the runtime's engine.
"""

from __future__ import annotations

import contextlib
from typing import Any, Protocol

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


class Core(Protocol):
    """A guard and the networks behind it, between the network's input and the index of an action."""

    @property
    def faults(self) -> int:
        """Of the last period, bits of `FAULTS`."""
        ...

    @property
    def counters(self) -> dict[str, int]:
        """See `nimbleq.graph.guard.COUNTERS`."""
        ...

    def reset(self) -> None:
        """An episode begins."""
        ...

    def act(self, obs: Array | None, mask: Array | None = None) -> int:
        """One period."""
        ...

    def standby(self, held: bool = True) -> int:
        """See `Guarded.standby`."""
        ...

    def late(self) -> None:
        """Count a decision that came too late."""
        ...


def network_of(decider: Decider, graph: Graph) -> Network:
    """A network as a guard asks it, answered by an engine, one observation at a time."""

    def act(obs: Array, legal: Array | None) -> Array:
        return np.array([decider.act(obs[0]) if legal is None else decider.act(obs[0], legal[0])])

    return Network(act, lambda obs: decider.q(obs[0])[None], graph.masked)


class NumpyCore:
    """The reference, with the networks of any engine.

    Args:
        deciders: ``policy``, and ``larger`` and ``backup`` where the guard has them.
    """

    def __init__(self, graph: Graph, guard: Guard, deciders: dict[str, Decider]) -> None:
        graphs = {"policy": graph, "larger": guard.larger, "backup": guard.backup}
        networks = {name: network_of(deciders[name], one) for name, one in graphs.items() if one is not None}
        self._state = GuardState(guard, graph, 1, **networks)
        kind = graph.obs_type
        self._nothing = np.zeros((1, *kind.shape), np.uint8 if kind.qtype.is_integer else np.float32)
        self.faults = 0

    @property
    def counters(self) -> dict[str, int]:
        """See `Core`."""
        return self._state.counters()

    def reset(self) -> None:
        """See `Core`."""
        self._state.reset()

    def act(self, obs: Array | None, mask: Array | None = None) -> int:
        """See `Core`."""
        given, came = (self._nothing, _MISSING) if obs is None else (obs[None], _HERE)
        action, faults = self._state.step(_ROW, given, came, None if mask is None else mask[None])
        self.faults = int(faults[0])
        return int(action[0])

    def standby(self, held: bool = True) -> int:
        """See `Core`."""
        return int(self._state.standby(_ROW, held)[0])

    def late(self) -> None:
        """See `Core`."""
        self._state.late()


class Guarded:
    """One control loop of a guarded policy. It has a state: one thread at a time, one stream for each machine.

    Args:
        core: decides on what the network reads.
        masked: the policy takes a mask.
    """

    def __init__(self, interface: Interface, core: Core, masked: bool) -> None:
        self._interface, self._core, self._masked = interface, core, masked

    def reset(self) -> None:
        """An episode begins; the counters go on."""
        self._core.reset()

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
        return environment_action(self._interface, self._core.act(ready, legal))

    def standby(self, held: bool = True) -> int | Array:
        """The environment's action of this period if nothing else comes in time: ask before `act`.

        With ``held`` false it is that of a later period, in which the last action is no longer repeated.
        """
        return environment_action(self._interface, self._core.standby(held))

    def late(self) -> None:
        """Count a decision that came too late and was replaced by `standby`."""
        self._core.late()

    @property
    def bits(self) -> int:
        """Faults in the last period, bits of `FAULTS`; 0: the policy acted."""
        return self._core.faults

    @property
    def faults(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(name for place, name in enumerate(FAULTS) if self.bits >> place & 1)

    @property
    def counters(self) -> dict[str, int]:
        """What happened so far; see `nimbleq.graph.guard.COUNTERS`."""
        return self._core.counters

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
