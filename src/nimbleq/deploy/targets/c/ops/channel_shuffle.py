"""ChannelShuffle, on ``(H, W, C)``: the same move inside every pixel."""

from __future__ import annotations

from nimbleq.deploy.targets.c.ops.layer import Layer


def channel_shuffle(layer: Layer) -> list[str]:
    """Lines of a ChannelShuffle."""
    channels, height, width = layer.node_type.shape
    groups, size = layer.op.groups, channels // layer.op.groups
    return [
        f"for (int p = 0; p < {channels * height * width}; p += {channels})",
        f"    for (int i = 0; i < {groups}; ++i)",
        f"        for (int j = 0; j < {size}; ++j)",
        f"            {layer.y}[p + j * {groups} + i] = {layer.x}[p + i * {size} + j];",
    ]
