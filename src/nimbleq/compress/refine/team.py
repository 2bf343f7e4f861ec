"""Many linear policies played in one call: a step of all their episodes is one matrix product."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from types import ModuleType

import numpy as np

from nimbleq.compress.refine.codes import Codes, quantized
from nimbleq.types import Array, Evaluate


@dataclass(frozen=True, eq=False)
class Team:
    """The policy of ``P`` candidates: candidate ``p`` plays the episodes ``p·each … (p + 1)·each − 1``.

    Attributes:
        weight: ``float64[P, A, F]``.
        bias: ``float64[P, A]``.
        exponent: ``int64[P, F]``.
        each: episodes of a candidate.
    """

    weight: Array
    bias: Array
    exponent: Array
    each: int
    by_episode = True

    @cached_property
    def scale(self) -> Array:
        """``float64[P, F]``."""
        return np.asarray(np.ldexp(1.0, self.exponent.astype(np.int32)))

    def __call__(self, obs: Array, mask: Array | None = None, *, episode: Array) -> Array:
        """``int64[B]`` greedy (legal) actions."""
        core = _extension()
        if core is not None and mask is None:
            action = np.empty(len(obs), np.int64)
            core.linear_greedy(
                self.weight, self.bias, self.scale, self.each, np.ascontiguousarray(episode),
                np.ascontiguousarray(obs, np.float32), action,
            )  # fmt: skip
            return action
        return self.by_numpy(obs, mask, episode)

    def by_numpy(self, obs: Array, mask: Array | None, episode: Array) -> Array:
        """The same where nothing was compiled, and of legal actions."""
        who = episode // self.each
        levels = quantized(obs, self.exponent[who])
        sums = np.matmul(self.weight[who], levels[:, :, None])[:, :, 0] + self.bias[who]
        return np.asarray((sums if mask is None else np.where(mask, sums, -np.inf)).argmax(axis=1))


@cache
def _extension() -> ModuleType | None:
    """The compiled half; None where it was not built."""
    try:
        return importlib.import_module("nimbleq.native._envs")
    except ModuleNotFoundError:
        return None


def team_of(candidates: Sequence[Codes], each: int) -> Team:
    """These candidates, in this order."""
    return Team(
        np.stack([codes.weight for codes in candidates]).astype(np.float64),
        np.stack([codes.bias for codes in candidates]).astype(np.float64),
        np.stack([codes.exponent for codes in candidates]),
        each,
    )


def returns_of(candidates: Sequence[Codes], evaluate: Evaluate, seeds: Array) -> Array:
    """``float64[P, E]`` returns of all candidates on the same seeds."""
    if getattr(evaluate, "by_episode", False):
        played = evaluate(team_of(candidates, len(seeds)), np.tile(seeds, len(candidates)).tolist())
        return played.returns.reshape(len(candidates), len(seeds))
    return np.stack([evaluate(codes, seeds.tolist()).returns for codes in candidates])
