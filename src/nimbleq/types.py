"""The values that pass between rooms. Numpy only.

Shapes: ``B`` batch, ``N`` environments, ``*O`` one observation, ``A`` actions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

Array = NDArray[Any]
Policy = Callable[..., Array]
"""``obs[B, *O] → action int[B]``: a greedy policy for a batch of observations.

If the environment gives action masks, it is called with the keyword argument ``mask: bool[B, A]`` (True: legal), and
returns legal actions. A policy with the attribute ``by_episode`` (True) is called with ``episode: int64[B]`` also: the
place, among the seeds that were asked for, of each observation's episode. So many policies play in one call.
A policy with a method ``begin`` remembers something of each episode: ``begin(episodes: int)`` gives the one that plays.
"""


@dataclass(frozen=True)
class ObsSpec:
    """One observation without its batch axis.

    Attributes:
        shape: ``*O``.
        dtype: numpy name, ``"float32"`` or ``"uint8"``.
        pictures: for a vector that holds images and numbers, one ``(C, H, W)`` per image: their values come first, one
            image after the other in C order; then the numbers.
        bits: ranges ``(start, stop)`` of the flat observation whose values are 0 or `top`, because the space says so.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    pictures: tuple[ObsSpec, ...] = ()
    bits: tuple[tuple[int, int], ...] = field(default=(), compare=False)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def binary(self) -> bool:
        """Whether every value is one of `bits`."""
        return sum(stop - start for start, stop in self.bits) == self.size

    @property
    def mostly_bits(self) -> bool:
        """Whether at least half of the values are."""
        return 2 * sum(stop - start for start, stop in self.bits) >= self.size

    def top(self, at: int) -> int:
        """What value ``at`` of the flat observation, one of `bits`, is when it is not 0: 255 in an image, else 1."""
        return 255 if self.dtype == "uint8" or at < self.pixels else 1

    @property
    def pixels(self) -> int:
        """Number of image values in a vector, before its numbers."""
        return sum(math.prod(picture.shape) for picture in self.pictures)


class Step(NamedTuple):
    """One step of ``N`` environments, autoreset already resolved.

    Attributes:
        obs: ``[N, *O]`` what the action was chosen from.
        action: ``int64[N]``.
        reward: ``float32[N]``.
        terminated: ``bool[N]`` the episode reached an absorbing state.
        truncated: ``bool[N]`` the episode was cut by a limit (bootstraps).
        next_obs: ``[N, *O]`` the true successor, also at the end of an episode (never a reset observation).
        next_mask: ``bool[N, A]`` the actions that are legal in ``next_obs`` (None: all, always).
        mask: ``bool[N, A]`` the actions that are legal in ``obs`` (None: all, always).
    """

    obs: Array
    action: Array
    reward: Array
    terminated: Array
    truncated: Array
    next_obs: Array
    next_mask: Array | None = None
    mask: Array | None = None


class Batch(NamedTuple):
    """A sample of transitions.

    Attributes:
        obs: ``[B, *O]``.
        action: ``int64[B]``.
        reward: ``float32[B]`` sum of ``γ^j r_j`` over the (up to n) steps of the transition.
        discount: ``float32[B]`` ``γ^k · (1 − terminated)``, ``k`` steps actually taken: time limits bootstrap,
            terminations do not, n-step needs no special case.
        next_obs: ``[B, *O]``.
        weight: ``float32[B]`` importance weights (ones for uniform replay).
        index: ``int64[B]`` replay slots, to hand priorities back.
        next_mask: ``bool[B, A]`` the actions that are legal in ``next_obs``, at least one a row (None: all, always).
        mask: ``bool[B, A]`` the actions that are legal in ``obs``, ``action`` among them (None: all, always).
    """

    obs: Array
    action: Array
    reward: Array
    discount: Array
    next_obs: Array
    weight: Array
    index: Array  # type: ignore[assignment]
    next_mask: Array | None = None
    mask: Array | None = None


@dataclass(frozen=True)
class Episodes:
    """Finished episodes, in the order of the seeds that started them.

    Attributes:
        seeds: ``int64[E]``.
        returns: ``float64[E]`` undiscounted.
        lengths: ``int64[E]`` steps.
        obs: ``[K, *O]`` observations visited, if they were requested, else ``None``.
        masks: ``bool[K, A]`` the actions that were legal in ``obs`` (None: all, always).
    """

    seeds: Array
    returns: Array
    lengths: Array
    obs: Array | None = None
    masks: Array | None = None


class Evaluate(Protocol):
    """Plays a policy, one episode per seed. The same seed gives every policy the same start and the same noise."""

    def __call__(self, policy: Policy, seeds: Sequence[int], *, epsilon: float = 0.0, keep_obs: int = 0) -> Episodes:
        """Play ``len(seeds)`` episodes.

        Args:
            policy: maps ``obs[B, *O]`` to ``action[B]``; any batch size.
            seeds: one per episode.
            epsilon: share of uniformly random actions (0: greedy).
            keep_obs: at most this many visited observations are returned (a uniform subsample; 0: none).
        """
        ...


class Tick(Protocol):
    """Progress of long work, called often and cheap to ignore."""

    def __call__(self, done: float, total: float, note: str = "") -> None:
        """Args: ``done`` of ``total`` units; ``note`` a few words, e.g. ``"return 231"``."""
        ...


def no_tick(done: float, total: float, note: str = "") -> None:
    """The silent `Tick`."""
