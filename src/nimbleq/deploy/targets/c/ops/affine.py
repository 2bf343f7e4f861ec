"""Affine: computed in double, rounded once."""

from __future__ import annotations

import numpy as np

from nimbleq.deploy.targets.c.layout import is_image
from nimbleq.deploy.targets.c.ops.layer import Layer, as_stored, loop


def affine(layer: Layer) -> list[str]:
    """Lines of an Affine."""
    kind = layer.source_type
    parts = [
        (label, name, layer.weight(name)) for label, name in (("scale", layer.op.scale), ("shift", layer.op.shift))
    ]
    if is_image(kind) and all(a.size == 1 or a.shape == (kind.shape[0], 1, 1) for _, _, a in parts):
        shape: tuple[int, ...] = (kind.shape[0],)
        parts = [(label, name, values.reshape(-1)) for label, name, values in parts]
    else:
        shape = kind.shape
    s, t = (
        layer.stored(label, name, values if values.size == 1 else as_stored(np.broadcast_to(values, shape)))
        for label, name, values in parts
    )
    return loop(
        kind.size,
        (s, t),
        lambda c: f"{layer.y}[i] = (float)((double){layer.x}[i] * (double){s.at(c)} + (double){t.at(c)});",
    )
