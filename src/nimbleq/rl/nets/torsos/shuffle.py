"""The torso ``shuffle``: grouped 1×1 convolutions whose channels are shuffled [1707.01083]."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nimbleq.config import NetworkConfig
from nimbleq.graph import ops
from nimbleq.rl.nets.builder import GraphBuilder
from nimbleq.rl.nets.torsos.nodes import RELU, Layer, conv, convolved
from nimbleq.rl.nets.torsos.stem import stem_layers, stem_nodes
from nimbleq.rl.nets.torsos.torso import Torso

_GROUPS = 4


class _Unit(nn.Module):
    """Grouped 1×1, shuffle, depthwise 3×3, grouped 1×1, beside a shortcut [1707.01083 fig. 2 b, c].

    With stride 1 the shortcut is added; with stride 2 it is average-pooled and joined, which doubles the channels.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.squeeze = nn.Conv2d(channels, channels, 1, groups=_GROUPS)
        self.shuffle = nn.ChannelShuffle(_GROUPS)
        self.depthwise = nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels)
        self.expand = nn.Conv2d(channels, channels, 1, groups=_GROUPS)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W] → [B, C, H, W]``, or with stride 2 ``[B, 2C, ⌈H/2⌉, ⌈W/2⌉]``."""
        y = cast(Tensor, self.expand(self.depthwise(self.shuffle(F.relu(self.squeeze(x))))))
        if self.stride == 1:
            return F.relu(x + y)
        return F.relu(torch.cat((F.avg_pool2d(x, 3, stride=2, padding=1), y), dim=1))


def _layers(channels: int, config: NetworkConfig) -> list[nn.Module]:
    """Two halving stages of two units each after the stem: 16 → 32 → 64 channels (times ``torso_width``)."""
    narrow = 16 * config.torso_width
    layers = stem_layers(channels, narrow, config)
    for width in (narrow, 2 * narrow):
        layers += [_Unit(width, stride=2), _Unit(2 * width, stride=1)]
    return layers


def _nodes(config: NetworkConfig) -> list[Layer]:
    return [*stem_nodes(config), *(_unit(stride) for stride in (2, 1, 2, 1))]


def _unit(stride: int) -> Layer:
    def layer(net: GraphBuilder, x: str, path: str) -> str:
        y = net.add(RELU, f"{path}.relu", conv(groups=_GROUPS)(net, x, f"{path}.squeeze"))
        channels = len(net.given(f"{path}.squeeze.weight"))
        order = np.arange(channels).reshape(_GROUPS, -1).T.reshape(-1)
        permutation = np.eye(channels, dtype=np.float32)[order][:, :, None, None]
        y = convolved(net, y, f"{path}.shuffle", permutation, None, 1, 0, 1)
        y = conv(stride, 1, depthwise=True)(net, y, f"{path}.depthwise")
        y = conv(groups=_GROUPS)(net, y, f"{path}.expand")
        if stride == 1:
            return net.add(RELU, path, net.add(ops.Add(), f"{path}.sum", x, y))
        pooled = net.add(ops.Pool("average", (3, 3), (2, 2), (1, 1)), f"{path}.shortcut", x)
        return net.add(RELU, path, net.add(ops.Concat(), f"{path}.joined", pooled, y))

    return layer


TORSO = Torso("shuffle", _layers, _nodes)
