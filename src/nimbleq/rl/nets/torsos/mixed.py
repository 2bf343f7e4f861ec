"""Torsos for observations: one for a picture or a vector, several beside each other where there are both."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nimbleq.config import NetworkConfig
from nimbleq.errors import ConfigError
from nimbleq.rl.fit import fitting
from nimbleq.rl.nets.torsos.table import torso_named
from nimbleq.types import ObsSpec

_NUMBERS_WIDTH = 64


class MixedTorso(nn.Module):
    """A torso for each picture of a vector, and a fully connected layer for its numbers; what they find is joined.

    Children: ``pictures``, each scaling and then the torso that the config names (one too large for a picture gives way
    to ``small``), ``numbers`` (what normalises them) and ``body`` (one layer and ReLU; None without numbers).

    Raises:
        ConfigError: the torso does not fit a picture.
    """

    def __init__(self, config: NetworkConfig, obs: ObsSpec, scales: Sequence[nn.Module], numbers: nn.Module) -> None:
        super().__init__()
        self.shapes = [picture.shape for picture in obs.pictures]
        self.pictures = nn.ModuleList(
            nn.Sequential(scale, make_torso(fitting(config, shape), shape))
            for scale, shape in zip(scales, self.shapes, strict=True)
        )
        count = obs.shape[0] - obs.pixels
        self.numbers = numbers
        self.body = nn.Sequential(nn.Linear(count, _NUMBERS_WIDTH), nn.ReLU()) if count else None

    def forward(self, obs: Tensor) -> Tensor:
        """``float32[B, O] → float32[B, F]``."""
        parts, start = [], 0
        for torso, shape in zip(self.pictures, self.shapes, strict=True):
            stop = start + math.prod(shape)
            parts.append(torso(obs[:, start:stop].reshape(-1, *shape)))
            start = stop
        if self.body is not None:
            parts.append(self.body(self.numbers(obs[:, start:])))
        return torch.cat(parts, dim=1)


def make_torso(config: NetworkConfig, shape: tuple[int, ...]) -> nn.Module:
    """The torso that ``config`` names, for observations of ``shape``.

    Raises:
        ConfigError: it does not fit the observation.
    """
    torso = torso_named(config.torso)
    reason = torso.why_not(torso.name, config, shape)
    if reason is not None:
        raise ConfigError(reason)
    if not torso.pictures:
        return nn.Flatten()
    layers: list[nn.Module] = []
    channels = shape[0]
    if config.space_to_depth > 1:
        layers.append(nn.PixelUnshuffle(config.space_to_depth))
        channels *= config.space_to_depth**2
    layers += torso.layers(channels, config)
    if config.torso_pool:
        layers.append(nn.MaxPool2d(3, stride=2, padding=1))
    return nn.Sequential(*layers, nn.Flatten())
