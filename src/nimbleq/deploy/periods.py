"""Periods of control loops with faults in them, and what the reference's guard makes of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from nimbleq.deploy.agreement import is_integer, tolerance
from nimbleq.deploy.samples import sample_observations
from nimbleq.graph.graph import Graph, Q
from nimbleq.graph.guard import Guard
from nimbleq.graph.guard_state import GuardState
from nimbleq.graph.interpret import interpret
from nimbleq.graph.rewrites.mask import without_mask
from nimbleq.types import Array

LENGTH = 40
"""Periods of an episode."""
_FAULTY = 0.15
"""Share of the periods in which a fault begins."""
_MASKED = 0.8
"""Share of the periods that bring a mask."""


@dataclass(frozen=True, eq=False)
class Periods:
    """Episodes one after the other.

    Attributes:
        obs: ``[N, *O]`` what the network reads; zeros where nothing came.
        came: ``bool[N]`` an observation came.
        begins: ``bool[N]`` an episode begins.
        mask: ``uint8[N, A]`` of the legal actions; None where the policy takes none.
        masked: ``bool[N]`` a mask came.
        standby, action, faults: ``int64[N]`` of the reference.
    """

    obs: Array
    came: Array
    begins: Array
    mask: Array | None
    masked: Array
    standby: Array
    action: Array
    faults: Array

    @classmethod
    def of(cls, rng: np.random.Generator, graph: Graph, guard: Guard, near: Array, count: int) -> Self:
        """At least ``count`` periods, in whole episodes.

        Args:
            near: ``[K, *O]`` observations of the policy.
        """
        episodes = -(-count // LENGTH)
        obs, came = _sensors(rng, graph, guard, near, episodes)
        came &= clear_of_rounding(graph, guard, obs.reshape(-1, *graph.obs_type.shape)).reshape(came.shape)
        mask = (rng.random((episodes, LENGTH, graph.actions)) < 0.6) if graph.masked else None
        masked = (rng.random((episodes, LENGTH)) < _MASKED) & graph.masked
        state, rows = GuardState(guard, graph, episodes), np.arange(episodes)
        found = np.empty((3, episodes, LENGTH), np.int64)
        for time in range(LENGTH):
            found[0, :, time] = state.standby(rows)
            found[1:, :, time] = _step(state, obs[:, time], came[:, time], mask, masked, time)
        begins = np.zeros((episodes, LENGTH), bool)
        begins[:, 0] = True
        flat = None if mask is None else mask.reshape(-1, graph.actions).astype(np.uint8)
        shape = (-1, *graph.obs_type.shape)
        obs = np.where(came[..., None], obs.reshape(episodes, LENGTH, -1), 0).astype(obs.dtype).reshape(shape)
        return cls(obs, came.reshape(-1), begins.reshape(-1), flat, masked.reshape(-1), *found.reshape(3, -1))

    def part(self, count: int) -> Periods:
        """The first ``count`` of them."""
        mask = None if self.mask is None else self.mask[:count]
        return Periods(
            self.obs[:count], self.came[:count], self.begins[:count], mask, self.masked[:count],
            self.standby[:count], self.action[:count], self.faults[:count],
        )  # fmt: skip


def _step(
    state: GuardState, obs: Array, came: Array, mask: Array | None, masked: Array, time: int
) -> tuple[Array, Array]:
    """One period of every episode: those with a mask, and those that keep the one before."""
    action, faults = np.empty(len(obs), np.int64), np.empty(len(obs), np.int64)
    for given in (False, True):
        rows = np.flatnonzero(masked[:, time] == given)
        if len(rows):
            legal = mask[rows, time] if given and mask is not None else None
            action[rows], faults[rows] = state.step(rows, obs[rows], came[rows], legal)
    return action, faults


def _sensors(rng: np.random.Generator, graph: Graph, guard: Guard, near: Array, episodes: int) -> tuple[Array, Array]:
    """``[E, LENGTH, *O]`` that move inside the envelope until a fault begins, and ``bool[E, LENGTH]`` what came."""
    shape = (episodes, LENGTH, *graph.obs_type.shape)
    came = rng.random((episodes, LENGTH)) > _FAULTY / 4
    if guard.envelope is None:
        obs = sample_observations(rng, graph, near, episodes * LENGTH).reshape(shape)
        if graph.obs_type.qtype.is_integer:
            return obs, came
        return _broken(rng, obs.reshape(episodes, LENGTH, -1)).reshape(shape), came
    low, high, rate = guard.envelope.low, guard.envelope.high, guard.envelope.rate
    flat = np.empty((episodes, LENGTH, len(low)), np.float32)
    flat[:, 0] = np.clip(near[rng.integers(len(near), size=episodes)].reshape(episodes, -1), low, high)
    for time in range(1, LENGTH):
        moved = flat[:, time - 1] + rng.uniform(-0.9, 0.9, (episodes, len(low))).astype(np.float32) * rate
        flat[:, time] = np.clip(moved, low, high)
    faulty = _broken(rng, flat)
    for episode, time in np.argwhere(rng.random((episodes, LENGTH)) < _FAULTY):
        feature, until = int(rng.integers(len(low))), time + int(rng.integers(1, 6))
        before = flat[episode, max(time - 1, 0), feature]
        limits = (low[feature], high[feature], before - rate[feature], before + rate[feature])
        edge = np.float32(limits[rng.integers(4)])
        beyond = np.nextafter(edge, np.float32(rng.choice((-np.inf, np.inf))))
        spike = before + np.float32(rng.normal() * 10 ** rng.uniform(-1, 2)) * (high - low)[feature]
        faulty[episode, time:until, feature] = (before, edge, beyond, spike)[rng.integers(4)]
    return faulty.reshape(shape), came


def _broken(rng: np.random.Generator, obs: Array) -> Array:
    """With a few entries of ``obs[E, T, F]`` that are no numbers."""
    made = obs.copy()
    for episode, time in np.argwhere(rng.random(obs.shape[:2]) < _FAULTY / 4):
        made[episode, time, rng.integers(obs.shape[2])] = rng.choice((np.nan, np.inf, -np.inf))
    return made


def clear_of_rounding(graph: Graph, guard: Guard, obs: Array) -> Array:
    """``bool[N]`` where no rounding of a network of floats changes what is done; numbers that are none are clear."""
    flat = obs.reshape(len(obs), -1)
    clear = np.ones(len(obs), bool)
    finite = np.ones(len(obs), bool) if graph.obs_type.qtype.is_integer else np.isfinite(flat).all(axis=1)
    for network in (graph, guard.larger, guard.backup):
        if network is None or is_integer(network) or not finite.any():
            continue
        q = interpret(without_mask(network), obs[finite])[Q]
        limit = 4 * tolerance(q)
        clear[finite] &= (np.diff(np.sort(q, axis=1), axis=1) > limit).all(axis=1)
        if network is graph and guard.larger is not None:
            gaps = np.abs(q[:, :, None] - q[:, None, :])
            clear[finite] &= (np.abs(gaps - guard.margin) > limit[:, :, None]).all(axis=(1, 2))
    return clear
