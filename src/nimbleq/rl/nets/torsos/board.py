"""The torso ``board``: three convolutions of 3×3, the last two of which keep the size; boards have few cells."""

from __future__ import annotations

from torch import nn

from nimbleq.config import NetworkConfig
from nimbleq.rl.nets.torsos.nodes import RELU, Layer, conv, plain
from nimbleq.rl.nets.torsos.torso import Torso


def _layers(channels: int, config: NetworkConfig) -> list[nn.Module]:
    wide = 16 * config.torso_width
    return [
        nn.Conv2d(channels, wide, 3), nn.ReLU(),
        nn.Conv2d(wide, wide, 3, padding=1), nn.ReLU(),
        nn.Conv2d(wide, wide, 3, padding=1), nn.ReLU(),
    ]  # fmt: skip


def _nodes(config: NetworkConfig) -> list[Layer]:
    return [conv(), plain(RELU), conv(padding=1), plain(RELU), conv(padding=1), plain(RELU)]


TORSO = Torso("board", _layers, _nodes)
