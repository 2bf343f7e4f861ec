"""Learning an `Envelope`: a policy that plays as another one does, and remembers what it saw."""

from __future__ import annotations

import numpy as np

from nimbleq.errors import ConfigError
from nimbleq.graph.graph import Graph
from nimbleq.graph.guard import Envelope
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.types import Array

MOST_REPEATS = 25
"""An entry that was seen unchanged more often in a row (a contact switch) may repeat any number of times."""
MOST_PAIRED, KEPT = 64, 20_000
"""Entries beyond which no partners are sought, and periods in which it is counted how often a partner moves."""
LEAST_SHARE = 0.5
"""A partner moves more than it may beside the still entry in at least this share of the periods in which that moves."""


class Witness:
    """Plays the policy of ``graph`` (see `nimbleq.types.Policy`) and keeps the extremes of what it observes.

    Attributes:
        states: observations so far.
    """

    by_episode = True

    def __init__(self, graph: Graph) -> None:
        if graph.obs_type.qtype.is_integer:
            raise ConfigError("an envelope is for numbers: this policy reads pictures")
        self._policy, size = GraphPolicy(graph), graph.obs_type.size
        self.states = 0
        self._low, self._high = np.full(size, np.inf, np.float32), np.full(size, -np.inf, np.float32)
        self._rate, self._run = np.zeros(size, np.float32), np.zeros(size, np.int64)
        self._begun = np.zeros(0, bool)
        self._paired = size <= MOST_PAIRED
        self._beside = np.zeros((size, size) if self._paired else (0, 0), np.float32)  # [still entry, moving entry]
        self._moves, self._kept = list[Array](), 0

    def begin(self, episodes: int) -> Witness:
        """It forgets where the episodes before stood, not what it saw in them."""
        size = len(self._low)
        self._begun = np.zeros(episodes, bool)
        self._last, self._same = np.zeros((episodes, size), np.float32), np.zeros((episodes, size), np.int64)
        return self

    def __call__(self, obs: Array, episode: Array, mask: Array | None = None) -> Array:
        flat = obs.reshape(len(obs), -1)
        self.states += len(obs)
        self._low, self._high = np.minimum(self._low, flat.min(axis=0)), np.maximum(self._high, flat.max(axis=0))
        on = episode[begun := self._begun[episode]]
        if len(on):
            moved, same = np.abs(flat[begun] - self._last[on]), flat[begun] == self._last[on]
            self._rate = np.maximum(self._rate, moved.max(axis=0))
            self._same[on] = np.where(same, self._same[on] + 1, 0)
            self._run = np.maximum(self._run, self._same[on].max(axis=0))
            self._pair(moved, same)
        self._last[episode], self._begun[episode] = flat, True
        return self._policy(obs) if mask is None else self._policy(obs, mask)

    def _pair(self, moved: Array, same: Array) -> None:
        if not self._paired:
            return
        for entry in np.flatnonzero(same.any(axis=0)).tolist():
            self._beside[entry] = np.maximum(self._beside[entry], moved[same[:, entry]].max(axis=0))
        if self._kept < KEPT:
            self._moves.append(moved)
            self._kept += len(moved)

    def _partners(self, repeats: Array, widen: float) -> tuple[Array, Array]:
        """Of each entry that was ever unchanged: the one whose movement best shows that it should have changed."""
        partner, still = np.arange(len(repeats)), np.zeros(len(repeats), np.float32)
        if not self._moves:
            return partner, still
        moves, most = np.concatenate(self._moves), self._beside * np.float32(1 + widen)
        for entry in np.flatnonzero(repeats != 1).tolist():
            share = (moves[moves[:, entry] > 0] > most[entry]).sum(axis=0) / max(1, (moves[:, entry] > 0).sum())
            share[entry] = 0
            if share.max() >= LEAST_SHARE:
                partner[entry] = best = int(share.argmax())
                still[entry] = most[entry, best]
        return partner, still

    def envelope(self, widen: float) -> Envelope:
        """Range and rate of what was seen, wider by the share ``widen`` of the span of each entry at both ends.

        An entry that always came alike may differ by that share of its size.
        """
        if self.states == 0:
            raise ConfigError("an envelope is learnt from observations: play at least one episode")
        span = self._high - self._low
        room = np.float32(widen) * np.where(span > 0, span, np.maximum(np.abs(self._low), 1))
        repeats = np.where(self._run > MOST_REPEATS, 0, self._run + 1)
        rate = self._rate * np.float32(1 + widen)
        return Envelope(self._low - room, self._high + room, rate, repeats, *self._partners(repeats, widen))
