"""The torso ``impala``: the large network of IMPALA [1802.01561 fig. 3], optionally with spectral norms."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from nimbleq.config import NetworkConfig
from nimbleq.graph import ops
from nimbleq.rl.nets.builder import GraphBuilder
from nimbleq.rl.nets.spectral import SpectralConv2d
from nimbleq.rl.nets.torsos.nodes import MAX_POOL, RELU, Layer, conv, convolved, plain
from nimbleq.rl.nets.torsos.torso import Torso


class _Residual(nn.Module):
    """``x + conv(relu(conv(relu(x))))``."""

    def __init__(self, channels: int, spectral_norm: bool) -> None:
        super().__init__()
        self.first, self.second = (
            SpectralConv2d(channels, channels) if spectral_norm else nn.Conv2d(channels, channels, 3, padding=1)
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W] → [B, C, H, W]``."""
        return x + cast(Tensor, self.second(F.relu(self.first(F.relu(x)))))


def _layers(channels: int, config: NetworkConfig) -> list[nn.Module]:
    """Three times convolution, max-pool and two residual blocks."""
    layers: list[nn.Module] = []
    for out in (16 * config.torso_width, 32 * config.torso_width, 32 * config.torso_width):
        layers += [nn.Conv2d(channels, out, 3, padding=1), nn.MaxPool2d(3, stride=2, padding=1)]
        layers += [_Residual(out, config.spectral_norm), _Residual(out, config.spectral_norm)]
        channels = out
    return [*layers, nn.ReLU()]


def _nodes(config: NetworkConfig) -> list[Layer]:
    block = [conv(padding=1), plain(MAX_POOL), _residual(), _residual()]
    return [*block * 3, plain(RELU)]


def _residual() -> Layer:
    def layer(net: GraphBuilder, x: str, path: str) -> str:
        y = x
        for name in ("first", "second"):
            where = f"{path}.{name}"
            weight, bias = net.layer(where)
            y = convolved(net, net.add(RELU, f"{where}.relu", y), where, weight, bias, 1, 1, 1)
        return net.add(ops.Add(), path, x, y)

    return layer


TORSO = Torso("impala", _layers, _nodes, spectral_norm=True)
