"""Affine: computed in double, rounded once."""

from __future__ import annotations

import numpy as np

from nimbleq.deploy.targets.c.layout import is_image
from nimbleq.deploy.targets.c.ops.layer import Layer, as_stored, loop


def affine(layer: Layer) -> list[str]:
    """Lines of an Affine."""
    kind = layer.source_type
    shift, scale = (layer.weight(name) for name in (layer.op.shift, layer.op.scale))
    if scale.size == shift.size == 1:
        period = 1
    elif is_image(kind) and all(a.size == 1 or a.shape == (kind.shape[0], 1, 1) for a in (scale, shift)):
        period = kind.shape[0]
        scale, shift = (np.broadcast_to(a.reshape(-1), (period,)) for a in (scale, shift))
    else:
        period = kind.size
        scale, shift = (as_stored(np.broadcast_to(a, kind.shape)) for a in (scale, shift))
    s, t = layer.constant("scale", scale.reshape(-1)), layer.constant("shift", shift.reshape(-1))
    body = f"{layer.y}[i] = (float)((double){layer.x}[i] * (double){s}[c] + (double){t}[c]);"
    return loop(kind.size, period, body)
