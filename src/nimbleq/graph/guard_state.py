"""The guard at work: the reference for every other implementation of `nimbleq.graph.guard`. Numpy only.

All arithmetic on observations is float32, one operation at a time, so that C gives the same verdicts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nimbleq.graph.graph import Graph, Q
from nimbleq.graph.guard import COUNTERS, FAULTS, MAX_AGE, Guard
from nimbleq.graph.interpret import GraphPolicy, interpret
from nimbleq.graph.rewrites.mask import without_mask
from nimbleq.types import Array

_BIT = {name: 1 << place for place, name in enumerate(FAULTS)}
_AT = {name: place for place, name in enumerate(COUNTERS)}


@dataclass(frozen=True)
class Network:
    """A network as a guard asks it.

    Attributes:
        act: ``(obs[B, *O], legal bool[B, A] or None) → action[B]``; the flags are given where it takes a mask.
        q: ``obs[B, *O] → float32[B, A]``.
        masked: it takes a mask.
    """

    act: Callable[[Array, Array | None], Array]
    q: Callable[[Array], Array]
    masked: bool

    @classmethod
    def of(cls, graph: Graph) -> Network:
        """By the interpreter."""
        values = without_mask(graph)
        return cls(GraphPolicy(graph), lambda obs: interpret(values, obs)[Q], graph.masked)

    def best(self, obs: Array, legal: Array, restricted: bool) -> Array:
        """The best legal action; ``restricted``: some action is never legal."""
        if self.masked:
            return self.act(obs, legal)
        return best_of(self.q(obs), legal)[0] if restricted else self.act(obs, None)


def best_of(q: Array, legal: Array) -> tuple[Array, Array]:
    """Index of the best legal value of ``q[B, A]``, and its margin over the second; infinite without a second."""
    values = np.where(legal, q, np.float32(-np.inf))
    best = values.argmax(axis=1)
    rows = np.arange(len(values))
    top = values[rows, best]
    values[rows, best] = -np.inf
    with np.errstate(invalid="ignore"):
        return best, top - values.max(axis=1)


class GuardState:
    """What a guard remembers of ``streams`` control loops, and how it decides.

    Attributes:
        counts: ``int64[len(COUNTERS)]`` over all streams.
    """

    def __init__(
        self, guard: Guard, graph: Graph, streams: int = 1,
        policy: Network | None = None, larger: Network | None = None, backup: Network | None = None,
    ) -> None:  # fmt: skip
        """Networks that are not given are those of the guard and ``graph``, by the interpreter."""
        self.guard, self.actions, self._size = guard, graph.actions, graph.obs_type.size
        self._shape = graph.obs_type.shape
        self._policy = policy or Network.of(graph)
        self._larger = larger or (None if guard.larger is None else Network.of(guard.larger))
        self._backup = backup or (None if guard.backup is None else Network.of(guard.backup))
        self._allowed, self._restricted = guard.allowed(self.actions), bool(guard.forbidden)
        size, dtype = self._size, np.uint8 if graph.obs_type.qtype.is_integer else np.float32
        self.last = np.zeros((streams, size), dtype)  # the last observation that was let through
        self.seen = np.zeros((streams, size), dtype)  # the last one that came and was finite
        self.run = np.zeros((streams, size), np.int32)  # how often in a row an entry was the same
        self.any_seen = np.zeros(streams, bool)
        self.age = np.zeros(streams, np.int32)  # periods since ``last``; 0: there is none
        self.bad = np.zeros(streams, np.int32)  # faulty periods in a row
        self.latched = np.zeros(streams, bool)
        self.decided = np.full(streams, -1, np.int64)  # the policy's last action
        self.legal = np.tile(self._allowed, (streams, 1))
        self.counts = np.zeros(len(COUNTERS), np.int64)

    def reset(self, rows: Array | slice = slice(None)) -> None:
        """Begin an episode; the counters go on."""
        self.any_seen[rows], self.age[rows], self.bad[rows], self.latched[rows] = False, 0, 0, False
        self.run[rows], self.decided[rows], self.legal[rows] = 0, -1, self._allowed

    def step(self, rows: Array, obs: Array, present: Array, mask: Array | None = None) -> tuple[Array, Array]:
        """One period of the streams ``rows``.

        Args:
            rows: ``int[B]``, each at most once.
            obs: ``[B, *O]``; what is not ``present`` is not read.
            present: ``bool[B]`` an observation came.
            mask: ``bool[B, A]`` legal actions, for policies that take masks (None: those of the period before).

        Returns:
            ``action int64[B]`` and ``faults int64[B]``, bits of `FAULTS`.
        """
        flat = np.asarray(obs, self.last.dtype).reshape(len(rows), self._size)
        if mask is not None:
            self.legal[rows] = mask & self._allowed
        faults = self._faults(rows, flat, present)
        good = faults == 0
        action = np.empty(len(rows), np.int64)
        if good.any():
            action[good] = self._accept(rows[good], flat[good])
        if not good.all():
            self._refuse(action, rows[~good], ~good)
        self.counts[_AT["decisions"]] += len(rows)
        for name, bit in _BIT.items():
            self.counts[_AT[name]] += int(((faults & bit) != 0).sum())
        return action, faults

    def standby(self, rows: Array, hold: bool = True) -> Array:
        """``int64[B]`` what the streams ``rows`` get in this period if nothing else comes in time.

        Without ``hold`` the last action is not repeated: so it is later, when the guard's ``hold`` periods are over.
        """
        action = np.full(len(rows), self.guard.fallback, np.int64)
        legal = self.legal[rows]
        known = (self.age[rows] > 0) & legal.any(axis=1)
        if self._backup is not None and known.any():
            at = rows[known]
            obs = self.last[at].reshape(len(at), *self._shape)
            action[known] = self._backup.best(obs, self.legal[at], self._restricted)
        held = (self.decided[rows] >= 0) & (self.bad[rows] < self.guard.hold) & hold
        action[held] = self.decided[rows][held]
        fits = legal[np.arange(len(rows)), action] | ~legal.any(axis=1)
        return np.where(fits, action, legal.argmax(axis=1))

    def late(self) -> None:
        """Count a decision that came too late; the loop delivered `standby` in its place."""
        self.counts[_AT["late"]] += 1

    def counters(self) -> dict[str, int]:
        """Counter → number, over all streams."""
        return dict(zip(COUNTERS, self.counts.tolist(), strict=True))

    def _faults(self, rows: Array, obs: Array, present: Array) -> Array:
        faults = np.where(present, 0, _BIT["missing"]).astype(np.int64)
        with np.errstate(invalid="ignore"):
            finite = np.isfinite(obs).all(axis=1)
        faults |= np.where(present & ~finite, _BIT["not_finite"], 0)
        usable = present & finite
        if self.guard.envelope is not None and usable.any():
            faults[usable] |= self._outside(rows[usable], obs[usable])
        faults |= np.where(self.legal[rows].any(axis=1), 0, _BIT["illegal"])
        return faults | np.where(self.latched[rows], _BIT["latched"], 0)

    def _outside(self, rows: Array, obs: Array) -> Array:
        """Faults of the envelope; the runs of equal values are brought up to date."""
        envelope = self.guard.envelope
        assert envelope is not None
        beyond = ((obs < envelope.low) | (obs > envelope.high)).any(axis=1)
        age = self.age[rows, None]
        with np.errstate(over="ignore"):
            moved, limit = np.abs(obs - self.last[rows]), envelope.rate * age.astype(np.float32)
        fast = ((age > 0) & (moved > limit)).any(axis=1)
        seen = self.seen[rows]
        same = self.any_seen[rows, None] & (obs == seen)
        run = np.where(same, np.minimum(self.run[rows] + 1, MAX_AGE), 0)
        with np.errstate(over="ignore"):
            beside = np.abs(obs - seen)[:, envelope.partner]
        stuck = (((envelope.repeats > 0) & (run >= envelope.repeats)) | (same & (beside > envelope.still))).any(axis=1)
        self.run[rows], self.seen[rows], self.any_seen[rows] = run, obs, True
        bits = ((beyond, "range"), (fast, "rate"), (stuck, "stuck"))
        return np.asarray(sum(np.where(found, _BIT[name], 0) for found, name in bits))

    def _accept(self, rows: Array, obs: Array) -> Array:
        self.last[rows], self.age[rows], self.bad[rows] = obs, 1, 0
        shaped = obs.reshape(len(rows), *self._shape)
        legal = self.legal[rows]
        if self._larger is None:
            action = self._policy.best(shaped, legal, self._restricted)
        else:
            action, margin = best_of(self._policy.q(shaped), legal)
            close = margin < np.float32(self.guard.margin)
            if close.any():
                action[close] = self._larger.best(shaped[close], legal[close], self._restricted)
                self.counts[_AT["larger"]] += int(close.sum())
        self.decided[rows] = action
        return action

    def _refuse(self, action: Array, rows: Array, refused: Array) -> None:
        action[refused] = self.standby(rows)
        self.age[rows] = np.where(self.age[rows] > 0, np.minimum(self.age[rows] + 1, MAX_AGE), 0)
        self.bad[rows] = np.minimum(self.bad[rows] + 1, MAX_AGE)
        if self.guard.latch:
            self.latched[rows] |= self.bad[rows] >= self.guard.latch
        self.counts[_AT["fallback"]] += len(rows)


@dataclass(frozen=True)
class GuardedPolicy:
    """The policy of a graph behind its guard, for playing episodes; see `nimbleq.types.Policy` for ``begin``."""

    graph: Graph
    guard: Guard
    by_episode = True

    def begin(self, episodes: int) -> GuardedEpisodes:
        """The one that plays, with a state of its own for each episode."""
        return GuardedEpisodes(GuardState(self.guard, self.graph, episodes))


@dataclass(frozen=True)
class GuardedEpisodes:
    """``(obs[B, *O], episode int64[B]) → action int64[B]``: every episode is a stream of ``state``."""

    state: GuardState
    by_episode = True

    def __call__(self, obs: Array, episode: Array, mask: Array | None = None) -> Array:
        return self.state.step(episode, obs, np.ones(len(obs), bool), mask)[0]
