"""Patterns of zeros: which weights go, given how much each matters and how far a gradual schedule has come."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from nimbleq.errors import ConfigError
from nimbleq.graph.encodings import from_matrix, matrix
from nimbleq.types import Array

Masks = Mapping[str, Array]
"""Weight → ``bool`` of its shape: True where it stays."""


def cubic(progress: float) -> float:
    """Share of the final sparsity that is reached at ``progress`` in (0, 1]: ``1 − (1 − t)³`` [1710.01878]."""
    return 1.0 - (1.0 - progress) ** 3


class Pattern(ABC):
    """A pattern of zeros. A row is a frozen value; ``str`` is how it is written on the command line."""

    @abstractmethod
    def masks(self, scores: Mapping[str, Array], reached: float) -> dict[str, Array]:
        """What stays when ``reached`` (0 to 1) of the pattern's zeros are there.

        Args:
            scores: weight → importance of each entry, comparable between weights; 0 for what is gone already.
        """


_FLOOR = 0.25
"""Of the share that stays in all layers together, this much stays in each."""


def _strongest(scores: Mapping[str, Array], sizes: Mapping[str, Array], gone: float) -> dict[str, Array]:
    """``bool`` of each array of scores: False for the lowest of all together, whose sizes make up the share ``gone``.

    A few of each layer stay in any case.
    """
    raised = [_with_floor(score.reshape(-1), 1 - gone) for score in scores.values()]
    order = np.argsort(np.concatenate(raised), kind="stable")
    size = np.concatenate([sizes[name].reshape(-1) for name in scores])
    stays = np.ones(len(order), bool)
    stays[order[np.cumsum(size[order]) <= gone * size.sum() + 0.5]] = False
    ends = np.cumsum([score.size for score in scores.values()])[:-1]
    return {name: part.reshape(scores[name].shape) for name, part in zip(scores, np.split(stays, ends), strict=True)}


def _with_floor(score: Array, staying: float) -> Array:
    """``score`` of a layer, infinite for the few that stay in any case."""
    best = np.argsort(-score, kind="stable")[: int(np.ceil(_FLOOR * staying * len(score)))]
    raised = score.astype(np.float64)
    raised[best[score[best] > 0]] = np.inf
    return raised


@dataclass(frozen=True)
class Share(Pattern):
    """Any weights: a share of all together, so that each layer is as sparse as it can bear; none becomes empty."""

    sparsity: float

    def masks(self, scores: Mapping[str, Array], reached: float) -> dict[str, Array]:
        """See `Pattern`."""
        sizes = {name: np.ones(score.shape) for name, score in scores.items()}
        return _strongest(scores, sizes, self.sparsity * reached)

    def __str__(self) -> str:
        return f"{self.sparsity:g}"


@dataclass(frozen=True)
class NofM(Pattern):
    """``n`` of every ``m`` neighbouring inputs of every output, see `nimbleq.graph.encodings.n_of_m`."""

    n: int
    m: int

    def masks(self, scores: Mapping[str, Array], reached: float) -> dict[str, Array]:
        """See `Pattern`; groups lose whole weights, so only some shares of the way are different."""
        left = self.m - round((self.m - self.n) * reached)
        return {name: from_matrix(self._mask(matrix(score), left), score.shape) for name, score in scores.items()}

    def _mask(self, scores: Array, left: int) -> Array:
        rows, columns = scores.shape
        groups = np.pad(scores, ((0, 0), (0, -columns % self.m)), constant_values=-1.0).reshape(rows, -1, self.m)
        rank = np.argsort(np.argsort(-groups, axis=2, kind="stable"), axis=2)
        return np.asarray((rank < left).reshape(rows, -1)[:, :columns])

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"


@dataclass(frozen=True)
class Blocks(Pattern):
    """A share of the blocks of ``height`` outputs × 1 input, see `nimbleq.graph.encodings.block`."""

    height: int
    sparsity: float

    def masks(self, scores: Mapping[str, Array], reached: float) -> dict[str, Array]:
        """See `Pattern`."""
        heights = {name: self._heights(matrix(score)) for name, score in scores.items()}
        blocks = {name: self._blocks(matrix(score)) / heights[name] for name, score in scores.items()}
        kept = _strongest(blocks, heights, self.sparsity * reached)
        return {
            name: from_matrix(np.repeat(kept[name], self.height, axis=0)[: len(matrix(score))], score.shape)
            for name, score in scores.items()
        }

    def _blocks(self, scores: Array) -> Array:
        """Sum over the entries of each block."""
        tall = np.pad(scores, ((0, -len(scores) % self.height), (0, 0)))
        return np.asarray(tall.reshape(-1, self.height, tall.shape[1]).sum(axis=1))

    def _heights(self, scores: Array) -> Array:
        """Entries of each block."""
        return self._blocks(np.ones(scores.shape))

    def __str__(self) -> str:
        return f"block{self.height}:{self.sparsity:g}"


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise ConfigError(f"the share of weights that become 0 is above 0 and below 1, not {text!r}")
    return share


PATTERNS: dict[str, Callable[[str], Pattern]] = {
    "2:4": lambda _: NofM(2, 4),
    "1:4": lambda _: NofM(1, 4),
    "block4": lambda share: Blocks(4, _share(share or "0.75")),
}
"""Name on the command line → pattern, from the share that may follow a colon."""


def parse_pattern(text: str) -> Pattern:
    """``0.8``, ``2:4``, ``1:4``, ``block4`` or ``block4:0.9``.

    Raises:
        ConfigError: there is no such pattern.
    """
    if text in PATTERNS:
        return PATTERNS[text]("")
    name, _, share = text.partition(":")
    if name in PATTERNS:
        return PATTERNS[name](share)
    if not text.replace(".", "", 1).isdecimal():
        raise ConfigError(f"there is no pattern {text!r} of zeros; give a share, e.g. 0.8, or {', '.join(PATTERNS)}")
    return Share(_share(text))
