"""The torso ``small``: one convolution of 16 channels [1903.03176 §3]: MinAtar has one object per pixel and channel."""

from __future__ import annotations

from torch import nn

from nimbleq.config import NetworkConfig
from nimbleq.rl.nets.torsos.nodes import RELU, Layer, conv, plain
from nimbleq.rl.nets.torsos.torso import Torso


def _layers(channels: int, config: NetworkConfig) -> list[nn.Module]:
    return [nn.Conv2d(channels, 16 * config.torso_width, 3), nn.ReLU()]


def _nodes(config: NetworkConfig) -> list[Layer]:
    return [conv(), plain(RELU)]


TORSO = Torso("small", _layers, _nodes)
