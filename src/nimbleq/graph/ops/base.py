"""The base class of ops, and checks that their rules share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nimbleq.errors import GraphError
from nimbleq.graph.tensor import FLOAT32, TensorType
from nimbleq.types import Array

Weights = Mapping[str, Array]


@dataclass(frozen=True)
class Op:
    """Base of all ops.

    ``arity`` is the number of inputs (None: any number from one); ``weight_fields`` names the fields that name weights.
    """

    arity: ClassVar[int | None] = 1
    weight_fields: ClassVar[tuple[str, ...]] = ()

    @property
    def kind(self) -> str:
        """Name used in files and messages."""
        return type(self).__name__

    def weight_names(self) -> tuple[str, ...]:
        """The weights this op reads."""
        names = (getattr(self, field) for field in self.weight_fields)
        return tuple(name for name in names if name is not None)

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        """Output type from input types.

        Raises:
            GraphError: the op cannot take these inputs or weights.
        """
        raise AssertionError(f"{self.kind} has no type rule")


def require(condition: bool, message: str) -> None:
    """Raise `GraphError` with ``message`` unless ``condition``."""
    if not condition:
        raise GraphError(message)


def require_floats(op: Op, sources: tuple[TensorType, ...]) -> None:
    """All of ``sources`` are float32."""
    require(
        all(source.qtype == FLOAT32 for source in sources),
        f"{op.kind} works on float32 only, got {', '.join(map(str, sources))}",
    )


def require_real(name: str, value: float) -> None:
    """A number that float32 can hold."""
    require(bool(abs(value) <= np.finfo(np.float32).max), f"{name} is {value}: it must be a finite float32")


def weight_of(weights: Weights, name: str, shape: tuple[int | None, ...], *dtypes: Any) -> Array:
    """The named array, checked against ``shape`` (None: any extent) and, when given, ``dtypes``."""
    require(name in weights, f"weight {name!r} is missing")
    array = weights[name]
    fits = len(array.shape) == len(shape) and all(
        extent > 0 and want in (None, extent) for want, extent in zip(shape, array.shape, strict=True)
    )
    require(fits, f"weight {name!r} has shape {array.shape}, expected {shape}")
    expected = " or ".join(str(np.dtype(dtype)) for dtype in dtypes)
    known = not dtypes or any(array.dtype == dtype for dtype in dtypes)
    require(known, f"weight {name!r} is {array.dtype}, expected {expected}")
    return array


def per_channel(weights: Weights, name: str, source: TensorType, dtype: Any) -> Array:
    """An array of one value, or one per entry of the first axis of ``source``."""
    require(name in weights, f"weight {name!r} is missing")
    extent = source.shape[0] if source.shape else 1
    one = weights[name].shape == (1,)
    return weight_of(weights, name, (1,) if one else (extent,), dtype)


def window_extent(
    extent: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, int],
    padding: tuple[int, int],
    kind: str,
) -> tuple[int, int]:
    """Output ``(rows, cols)`` of a sliding window (floor division, as in torch).

    Raises:
        GraphError: the window does not fit, or a stride, window or padding is out of range.
    """
    require(len(stride) == len(padding) == 2, f"{kind}: stride and padding are pairs, got {stride} and {padding}")
    require(min(stride) >= 1 and min(kernel) >= 1, f"{kind}: window {kernel} and stride {stride} must be at least 1")
    require(min(padding) >= 0 and max(padding) < 1 << 15, f"{kind}: padding {padding} is out of range")
    rows, cols = (
        (size + 2 * pad - window) // step + 1
        for size, window, step, pad in zip(extent, kernel, stride, padding, strict=True)
    )
    require(rows > 0 and cols > 0, f"{kind}: a {kernel} window does not fit {extent} with padding {padding}")
    return rows, cols
