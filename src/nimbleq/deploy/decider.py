"""Opening a compiled policy: through the extension where it is installed, else through ctypes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from nimbleq.errors import ObservationError
from nimbleq.graph.graph import Graph
from nimbleq.graph.interface import Interface, as_mask
from nimbleq.types import Array

Answer = Callable[[Array, Array | None], tuple[Array, Array]]
"""``obs[N, *O], mask[N, A] or None → (action[N], q[N, A])``."""

Remember = Callable[[Array, Array, Array | None], tuple[Array, Array, Array]]
"""``obs[1, *O], state[1, H], mask[1, A] or None → (action[1], q[1, A], next state[1, H])``; ``state`` is unchanged."""


class Decider(Protocol):
    """A policy that answers one observation at a time, as the network reads it. Any thread may call it."""

    @property
    def refused(self) -> int:
        """Observations refused so far."""
        ...

    def act(self, obs: Any, /, mask: Any = None) -> int:
        """The index of the action for ``obs[*O]``; ``mask: bool[A]`` is for masked policies, which need it."""
        ...

    def q(self, obs: Any, /) -> Array:
        """``float32[A]`` for ``obs[*O]``."""
        ...

    def run(self, obs: Array, mask: Array | None = None) -> tuple[Array, Array]:
        """``obs[N, *O], mask[N, A]`` → ``action int32[N]`` (−1: refused) and ``q float32[N, A]`` (then NaN)."""
        ...


@runtime_checkable
class TimedDecider(Decider, Protocol):
    """A policy that can time itself inside C."""

    def time_act(self, obs: Array, calls: int, mask: Array | None = None, /) -> Array:
        """``float64[calls]`` nanoseconds per call, going round in ``obs[K, *O]`` and ``mask[K, A]``."""
        ...

    def time_empty(self, calls: int, /) -> Array:
        """The same loop around nothing."""
        ...


def open_library(library: Path, name: str, graph: Graph, interface: Interface, fallback: int = -1) -> Decider:
    """The policy ``name`` in a library compiled from `emit_c`.

    Args:
        interface: one whose observations are the network's input as they are (`Interface.plain`).
        fallback: action for refused observations; negative: they raise `ObservationError`.
    """
    if graph.units:
        return RememberingDecider(graph, _ctypes_remember(library, name, graph), interface, fallback)
    try:
        from nimbleq.native import _runtime
    except ImportError:
        return OneByOneDecider(graph, _ctypes_answer(library, name, graph), interface, fallback)
    return _runtime.Decider((str(library), name), *_taking(graph, interface, fallback))


def open_program(program: bytes, isa: str, graph: Graph, interface: Interface, fallback: int = -1) -> TimedDecider:
    """The policy of a program that `nimbleq.deploy.prebuilt.lower` made; arguments as of `open_library`.

    Raises:
        ImportError: the extension is not installed.
        ValueError: the program could leave its memory, or this processor cannot run the kernels of ``isa``.
    """
    from nimbleq.native import _runtime

    return _runtime.Decider((program, isa), *_taking(graph, interface, fallback))


def _taking(graph: Graph, interface: Interface, fallback: int) -> tuple[Any, ...]:
    """What the extension has to know of observations, actions, masks and refusals."""
    obs = graph.obs_type
    return (
        obs.shape, obs.qtype.is_integer, graph.actions, graph.masked, ObservationError, fallback, interface.read,
        partial(as_mask, interface),
    )  # fmt: skip


class OneByOneDecider:
    """A `Decider` over a function that answers batches; refusals are decided here.

    Attributes:
        answer: that function.
    """

    def __init__(self, graph: Graph, answer: Answer, interface: Interface, fallback: int = -1) -> None:
        self.answer, self._interface, self._fallback = answer, interface, fallback
        self._masked, self._real = graph.masked, not graph.obs_type.qtype.is_integer
        self.refused = 0

    def act(self, obs: Any, /, mask: Any = None) -> int:
        """See `Decider.act`."""
        if self._masked and mask is None:
            raise ObservationError("this policy needs the mask of the legal actions: act(obs, mask)")
        if not self._masked and mask is not None:
            raise ObservationError("this policy takes no mask: its environment gave none")
        legal = None if mask is None else as_mask(self._interface, mask)
        if legal is not None and not legal.any():
            raise ObservationError("the mask allows no action: at least one has to be legal")
        ready = self._interface.read(obs)
        if self._finite(ready):
            return int(self.answer(ready[None], None if legal is None else legal[None])[0][0])
        self.refused += 1
        if self._fallback >= 0 and (legal is None or legal[self._fallback]):
            return self._fallback
        what = "so there is no action for it" if self._fallback < 0 else "and the fallback action is not legal"
        raise ObservationError(f"the observation contains NaN or infinity, {what}")

    def q(self, obs: Any, /) -> Array:
        """See `Decider.q`."""
        ready = self._interface.read(obs)
        if not self._finite(ready):
            self.refused += 1
            raise ObservationError("the observation contains NaN or infinity, so there are no action values for it")
        everything = np.ones((1, self._interface.actions), bool) if self._masked else None
        q: Array = self.answer(ready[None], everything)[1][0]
        return q

    def run(self, obs: Array, mask: Array | None = None) -> tuple[Array, Array]:
        """See `Decider.run`."""
        good: Array = np.all(np.isfinite(obs).reshape(len(obs), -1), axis=1)
        usable = np.where(good.reshape((-1,) + (1,) * (obs.ndim - 1)), obs, 0).astype(obs.dtype)
        action, q = self.answer(usable, mask)
        return np.where(good, action, -1).astype(np.int32), np.where(good[:, None], q, np.nan).astype(np.float32)

    def _finite(self, ready: Array) -> bool:
        return not self._real or bool(np.isfinite(ready).all())


class RememberingDecider(OneByOneDecider):
    """A `Decider` over a function that takes and gives the state.

    Attributes:
        state: ``float32[1, H]`` what it remembers.
    """

    def __init__(self, graph: Graph, remember: Remember, interface: Interface, fallback: int = -1) -> None:
        self.remember, self.state = remember, np.zeros((1, graph.units), np.float32)
        super().__init__(graph, self._asked, interface, fallback)

    def _asked(self, obs: Array, mask: Array | None) -> tuple[Array, Array]:
        action, q, self._next = self.remember(obs, self.state, mask)
        return action, q

    def reset(self) -> None:
        """An episode begins."""
        self.state = np.zeros_like(self.state)

    def act(self, obs: Any, /, mask: Any = None) -> int:
        """See `Decider.act`; it remembers the observation, unless that is refused."""
        refused = self.refused
        action = super().act(obs, mask)
        if self.refused == refused:
            self.state = self._next
        return action

    def run(self, obs: Array, mask: Array | None = None) -> tuple[Array, Array]:
        """The rows of ``obs[N, *O]`` are the steps of one episode; what it remembers is another and stays."""
        state, actions, values = np.zeros_like(self.state), [], []
        for at in range(len(obs)):
            action, q, state = self.remember(obs[at : at + 1], state, None if mask is None else mask[at : at + 1])
            actions.append(action)
            values.append(q)
        return np.concatenate(actions).astype(np.int32), np.concatenate(values)


def _ctypes_answer(library: Path, name: str, graph: Graph) -> Answer:
    """The slow way (a few microseconds per call), for installations without the compiled extension.

    The interpreter's lock is held, because a large policy works in static memory.
    """
    opened = ctypes.PyDLL(str(library))
    act, q_values = opened[f"{name}_act{'_masked' if graph.masked else ''}"], opened[f"{name}_q"]
    dtype = np.uint8 if graph.obs_type.qtype.is_integer else np.float32

    def answer(obs: Array, mask: Array | None) -> tuple[Array, Array]:
        actions, q = np.empty(len(obs), np.int32), np.empty((len(obs), graph.actions), np.float32)
        ready = np.ascontiguousarray(obs, dtype)
        legal = None if mask is None else np.ascontiguousarray(mask, bool)
        for index in range(len(obs)):
            given = [ready[index], *([] if legal is None else [legal[index]])]
            actions[index] = act(*(array.ctypes.data_as(ctypes.c_void_p) for array in given))
            q_values(given[0].ctypes.data_as(ctypes.c_void_p), q[index].ctypes.data_as(ctypes.c_void_p))
        return actions, q

    return answer


def _ctypes_remember(library: Path, name: str, graph: Graph) -> Remember:
    """The functions of a policy that remembers; as `_ctypes_answer`."""
    opened = ctypes.PyDLL(str(library))
    act, q_values = opened[f"{name}_act{'_masked' if graph.masked else ''}"], opened[f"{name}_q"]
    dtype = np.uint8 if graph.obs_type.qtype.is_integer else np.float32

    def remember(obs: Array, state: Array, mask: Array | None) -> tuple[Array, Array, Array]:
        ready, following = np.ascontiguousarray(obs, dtype), np.array(state, np.float32)
        q = np.empty((1, graph.actions), np.float32)
        legal = [] if mask is None else [np.ascontiguousarray(mask, bool)]
        q_values(*(array.ctypes.data_as(ctypes.c_void_p) for array in (ready, following, q)))
        action = act(*(array.ctypes.data_as(ctypes.c_void_p) for array in (ready, following, *legal)))
        return np.array([action], np.int32), q, following

    return remember
