"""Pictures of environments, in whatever form they draw them, as RGB."""

from __future__ import annotations

import numpy as np

from nimbleq.types import Array

_WHITE = 255.0


def as_rgb(drawn: Array) -> Array | None:
    """``uint8[H, W, 3]`` from grey, RGB or RGBA (then on white), of bytes, truth values or numbers in 0 … 1.

    Args:
        drawn: ``[H, W]`` or ``[H, W, C]`` with C = 1, 3 or 4.

    Returns:
        The picture; None when it is of no such shape.
    """
    picture: Array = drawn[:, :, None] if drawn.ndim == 2 else drawn
    if (
        picture.ndim != 3
        or picture.shape[-1] not in (1, 3, 4)
        or 0 in picture.shape
        or picture.dtype.kind not in "biuf"
    ):
        return None
    if picture.dtype.kind in "bf":
        picture = np.clip(np.nan_to_num(255 * picture.astype(np.float64)), 0, 255).round()
    if picture.shape[-1] == 4:
        alpha = picture[:, :, 3:] / _WHITE
        picture = (picture[:, :, :3] * alpha + _WHITE * (1 - alpha)).round()
    return np.ascontiguousarray(np.broadcast_to(picture.clip(0, 255).astype(np.uint8), (*picture.shape[:2], 3)))
