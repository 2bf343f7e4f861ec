"""The torso ``mobile``: depthwise 3×3, then pointwise 1×1 convolutions [1704.04861], three times halving a picture."""

from __future__ import annotations

from torch import nn

from nimbleq.config import NetworkConfig
from nimbleq.rl.nets.torsos.nodes import RELU, Layer, conv, plain
from nimbleq.rl.nets.torsos.stem import stem_layers, stem_nodes
from nimbleq.rl.nets.torsos.torso import Torso

_STRIDES = (2, 2, 2, 1)


def _layers(channels: int, config: NetworkConfig) -> list[nn.Module]:
    narrow, wide = 32 * config.torso_width, 64 * config.torso_width
    layers = stem_layers(channels, narrow, config)
    for source, stride in zip((narrow, wide, wide, wide), _STRIDES, strict=True):
        layers += [nn.Conv2d(source, source, 3, stride, padding=1, groups=source), nn.ReLU()]
        layers += [nn.Conv2d(source, wide, 1), nn.ReLU()]
    return layers


def _nodes(config: NetworkConfig) -> list[Layer]:
    relu, layers = plain(RELU), stem_nodes(config)
    for stride in _STRIDES:
        layers += [conv(stride, 1, depthwise=True), relu, conv(), relu]
    return layers


TORSO = Torso("mobile", _layers, _nodes)
