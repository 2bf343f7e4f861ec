"""Numbers that change linearly during training: ε, step sizes, exponents of importance weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

Share = TypeVar("Share", float, "Tensor")


def ramp(start: float, end: float, done: Share) -> Share:
    """From ``start`` (``done`` = 0) linearly to ``end`` (``done`` = 1), and ``end`` after that.

    A tensor stays on its device, and the host does not wait for it.
    """
    share = min(1.0, done) if isinstance(done, float) else done.clamp(max=1.0)
    return start + (end - start) * share
