"""Which convolutions fit which pictures."""

from __future__ import annotations

from dataclasses import replace

from nimbleq.config import NetworkConfig, TorsoName

NATURE_MIN_PIXELS = 36
"""A side of a picture; below this the third convolution of the torso ``nature`` has no output left."""


def fitting(config: NetworkConfig, shape: tuple[int, ...]) -> NetworkConfig:
    """``config`` with the torso for a picture ``(C, H, W)`` beside numbers: ``small`` where nature's is too large."""
    too_large = config.torso == "nature" and min(shape[1:]) < NATURE_MIN_PIXELS
    return replace(config, torso=TorsoName("small")) if too_large else config
