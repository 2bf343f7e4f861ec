"""The first layer of the compact torsos: a 3×3 convolution that halves the picture unless space-to-depth has."""

from __future__ import annotations

from torch import nn

from nimbleq.config import NetworkConfig
from nimbleq.rl.nets.torsos.nodes import RELU, Layer, conv, plain


def stem_layers(channels: int, out: int, config: NetworkConfig) -> list[nn.Module]:
    """As PyTorch modules."""
    return [nn.Conv2d(channels, out, 3, stride=_stride(config), padding=1), nn.ReLU()]


def stem_nodes(config: NetworkConfig) -> list[Layer]:
    """As nodes of a graph."""
    return [conv(_stride(config), 1), plain(RELU)]


def _stride(config: NetworkConfig) -> int:
    return 1 if config.space_to_depth > 1 else 2
