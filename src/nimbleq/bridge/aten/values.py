"""An exported tensor while its graph is built: an affine map of graph tensors, and the layout of its elements."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from nimbleq.graph.tensor import Float32, TensorType
from nimbleq.types import Array

BATCH = 3
"""Number of observations in a layout: enough to see whether an op mixes them."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph."""

    name: str
    type: TensorType

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape without the batch."""
        return self.type.shape

    @property
    def is_integer(self) -> bool:
        """Whether it holds integers (a raw image)."""
        return not isinstance(self.type.qtype, Float32)


@dataclass(frozen=True)
class Softmax:
    """``softmax`` over rows of ``atoms`` logits, or its logarithm. The graph only has its product with a support."""

    logits: Tensor
    atoms: int
    log: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape without the batch."""
        return self.logits.shape


Source = Tensor | Softmax


@dataclass(frozen=True, eq=False)
class Scaled:
    """``source·scale`` elementwise; the expression has the shape of the source, ``scale`` broadcasts to it."""

    source: Source
    scale: Array


@dataclass(frozen=True, eq=False)
class Gathered:
    """``scale[r]·source[index[r]]``; index −1 gives 0. Both are ``[m]``, over the flattened source."""

    source: Source
    index: Array
    scale: Array


@dataclass(frozen=True, eq=False)
class Dense:
    """``matrix @ source``, ``matrix: float64[m, n]`` over the flattened source."""

    source: Source
    matrix: Array


Term = Scaled | Gathered | Dense


@dataclass(frozen=True, eq=False)
class Expr:
    """``Σ terms + shift``: one value per observation, of ``shape``; ``shift: float64`` broadcasts to it."""

    shape: tuple[int, ...]
    terms: tuple[Term, ...]
    shift: Array

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def is_shifted(self) -> bool:
        """Whether a constant is added."""
        return bool(np.any(self.shift != 0))


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the exported program.

    Attributes:
        layout: ``int64``, of the tensor's shape with `BATCH` observations; ``b·m + j`` where the tensor holds element
            ``j`` of the expression (of ``m`` elements) for observation ``b``.
        expr: the expression.
    """

    layout: Array
    expr: Expr

    @property
    def source(self) -> Source | None:
        """The source that the expression equals, if there is one."""
        terms = self.expr.terms
        plain = len(terms) == 1 and isinstance(terms[0], Scaled) and not self.expr.is_shifted
        return terms[0].source if plain and bool(np.all(terms[0].scale == 1)) else None  # type: ignore[union-attr]

    @property
    def is_integer(self) -> bool:
        """Whether its elements are integers of a raw image."""
        sources = (term.source for term in self.expr.terms)
        return any(isinstance(source, Tensor) and source.is_integer for source in sources)


def plain(source: Source) -> Expr:
    """The expression that equals ``source``."""
    return Expr(source.shape, (Scaled(source, np.ones(())),), np.zeros(()))


def in_order(expr: Expr, shape: tuple[int, ...] | None = None) -> Value:
    """``expr`` as a tensor ``[B, *shape]`` in its own order."""
    shape = expr.shape if shape is None else shape
    return Value(np.arange(BATCH * expr.size).reshape(BATCH, *shape), expr)
