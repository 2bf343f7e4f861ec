"""Layers of torsos as nodes of a graph: functions of (builder, input, path of the weights) that give their output."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nimbleq.graph import ops
from nimbleq.rl.nets.builder import GraphBuilder
from nimbleq.types import Array

Layer = Callable[[GraphBuilder, str, str], str]
RELU = ops.Activation("relu")
MAX_POOL = ops.Pool("max", (3, 3), (2, 2), (1, 1))


def plain(op: ops.Op) -> Layer:
    """An op without weights."""
    return lambda net, x, path: net.add(op, path, x)


def conv(stride: int = 1, padding: int = 0, groups: int = 1, depthwise: bool = False) -> Layer:
    """A convolution with the weights of its path."""

    def layer(net: GraphBuilder, x: str, path: str) -> str:
        weight, bias = net.layer(path)
        return convolved(net, x, path, weight, bias, stride, padding, len(weight) if depthwise else groups)

    return layer


def convolved(
    net: GraphBuilder, x: str, path: str, weight: Array, bias: Array | None, stride: int, padding: int, groups: int
) -> str:
    """The convolution of ``x`` with ``weight: float32[O, C / groups, k, k]``."""
    names = net.store(f"{path}.weight", weight), None if bias is None else net.store(f"{path}.bias", bias)
    return net.add(ops.Conv2d(*names, (stride, stride), (padding, padding), groups), path, x)


def space_to_depth(channels: int, block: int) -> Layer:
    """The grouped convolution that picks each pixel of a block."""

    def layer(net: GraphBuilder, x: str, path: str) -> str:
        pick = np.eye(block * block, dtype=np.float32).reshape(block * block, 1, block, block)
        return convolved(net, x, path, np.tile(pick, (channels, 1, 1, 1)), None, block, 0, channels)

    return layer
