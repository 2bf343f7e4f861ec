"""The row type of the table of torsos: everything in which one torso differs from another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nimbleq.config import NetworkConfig
from nimbleq.rl.nets.torsos.nodes import Layer

if TYPE_CHECKING:
    from torch import nn

_MIN_PIXELS = 4  # a side of a picture, after space-to-depth


def why_not(name: str, config: NetworkConfig, shape: tuple[int, ...]) -> str | None:
    """Most torsos take pictures of some pixels a side, which space-to-depth has to divide."""
    block = config.space_to_depth
    if len(shape) == 3 and min(shape[1:]) >= _MIN_PIXELS * block and not any(side % block for side in shape[1:]):
        return None
    return (
        f"network.torso {name} needs (channels, height, width) with at least {_MIN_PIXELS * block} pixels a side, "
        f"divisible by space_to_depth {block}, not observations of shape {shape}"
    )


@dataclass(frozen=True)
class Torso:
    """How features of pictures are found. A new torso is one file that makes this value and one line in `TORSOS`.

    Modules have no batch statistics; ``[B, C, H, W] → [B, F]`` once flattened.

    Attributes:
        name: in ``--network.torso``.
        layers: of C channels as PyTorch modules: ``(C, config) → layers``.
        nodes: the same layers in the same order as nodes of a graph; the place of a layer names its weights.
        pictures: it is for pictures.
        spectral_norm: it can hold the largest singular values of its convolutions, or of the fully connected layers
            that follow where it has none, at 1.
        why_not: why it cannot read observations of a shape, in one line; None when it can.
    """

    name: str
    layers: Callable[[int, NetworkConfig], list[nn.Module]]
    nodes: Callable[[NetworkConfig], list[Layer]]
    pictures: bool = True
    spectral_norm: bool = False
    why_not: Callable[[str, NetworkConfig, tuple[int, ...]], str | None] = why_not
