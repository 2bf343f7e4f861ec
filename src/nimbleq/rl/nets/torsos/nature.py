"""The torso ``nature``: the three convolutions of Mnih et al., Nature 2015."""

from __future__ import annotations

from torch import nn

from nimbleq.config import NetworkConfig
from nimbleq.rl.fit import NATURE_MIN_PIXELS
from nimbleq.rl.nets.torsos.nodes import RELU, Layer, conv, plain
from nimbleq.rl.nets.torsos.torso import Torso


def _layers(channels: int, config: NetworkConfig) -> list[nn.Module]:
    narrow, wide = 32 * config.torso_width, 64 * config.torso_width
    return [
        nn.Conv2d(channels, narrow, 8, stride=4),
        nn.ReLU(),
        nn.Conv2d(narrow, wide, 4, stride=2),
        nn.ReLU(),
        nn.Conv2d(wide, wide, 3, stride=1),
        nn.ReLU(),
    ]


def _nodes(config: NetworkConfig) -> list[Layer]:
    relu = plain(RELU)
    return [conv(4), relu, conv(2), relu, conv(1), relu]


def _why_not(name: str, config: NetworkConfig, shape: tuple[int, ...]) -> str | None:
    if len(shape) == 3 and min(shape[1:]) >= NATURE_MIN_PIXELS and config.space_to_depth == 1:
        return None
    return (
        f"network.torso {name} needs (channels, height, width) with at least {NATURE_MIN_PIXELS} pixels a side and no "
        f"space_to_depth, not observations of shape {shape} in blocks of {config.space_to_depth}; use mlp"
    )


TORSO = Torso("nature", _layers, _nodes, why_not=_why_not)
