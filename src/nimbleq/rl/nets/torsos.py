"""What turns an observation into features: flattening, and convolutional nets from Nature's to compact ones.

Plain modules without batch statistics, ``[B, C, H, W] → [B, F]``, made only of layers that the bridge can lower.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nimbleq.config import NetworkConfig
from nimbleq.errors import ConfigError
from nimbleq.rl.fit import NATURE_MIN_PIXELS, fitting
from nimbleq.rl.nets.spectral import SpectralConv2d
from nimbleq.types import ObsSpec

_MIN_PIXELS = 4  # of an image that the other torsos take, after space-to-depth
_SHUFFLE_GROUPS = 4
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
    if config.torso == "mlp":
        return nn.Flatten()
    _check(config, shape)
    layers: list[nn.Module] = []
    channels = shape[0]
    if config.space_to_depth > 1:
        layers.append(nn.PixelUnshuffle(config.space_to_depth))
        channels *= config.space_to_depth**2
    layers += _TORSOS[config.torso](channels, config)
    if config.torso_pool:
        layers.append(nn.MaxPool2d(3, stride=2, padding=1))
    return nn.Sequential(*layers, nn.Flatten())


def _check(config: NetworkConfig, shape: tuple[int, ...]) -> None:
    torso, block = config.torso, config.space_to_depth
    if torso == "nature":
        if len(shape) != 3 or min(shape[1:]) < NATURE_MIN_PIXELS or block > 1:
            raise ConfigError(
                f"network.torso nature needs (channels, height, width) with at least {NATURE_MIN_PIXELS} pixels a "
                f"side and no space_to_depth, not observations of shape {shape} in blocks of {block}; use mlp"
            )
    elif len(shape) != 3 or min(shape[1:]) < _MIN_PIXELS * block or any(side % block for side in shape[1:]):
        raise ConfigError(
            f"network.torso {torso} needs (channels, height, width) with at least {_MIN_PIXELS * block} pixels a side, "
            f"divisible by space_to_depth {block}, not observations of shape {shape}"
        )


def _nature(channels: int, config: NetworkConfig) -> list[nn.Module]:
    """The three convolutions of Mnih et al., Nature 2015."""
    narrow, wide = 32 * config.torso_width, 64 * config.torso_width
    return [
        nn.Conv2d(channels, narrow, 8, stride=4),
        nn.ReLU(),
        nn.Conv2d(narrow, wide, 4, stride=2),
        nn.ReLU(),
        nn.Conv2d(wide, wide, 3, stride=1),
        nn.ReLU(),
    ]


def _small(channels: int, config: NetworkConfig) -> list[nn.Module]:
    """One convolution of 16 channels [1903.03176 §3]: MinAtar's images hold one object per pixel and channel."""
    return [nn.Conv2d(channels, 16 * config.torso_width, 3), nn.ReLU()]


class _Residual(nn.Module):
    """``x + conv(relu(conv(relu(x))))`` [1802.01561 fig. 3]."""

    def __init__(self, channels: int, spectral_norm: bool) -> None:
        super().__init__()
        self.first, self.second = (
            SpectralConv2d(channels, channels) if spectral_norm else nn.Conv2d(channels, channels, 3, padding=1)
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W] → [B, C, H, W]``."""
        return x + cast(Tensor, self.second(F.relu(self.first(F.relu(x)))))


def _impala(channels: int, config: NetworkConfig) -> list[nn.Module]:
    """The large network of IMPALA: three times convolution, max-pool and two residual blocks."""
    layers: list[nn.Module] = []
    for out in (16 * config.torso_width, 32 * config.torso_width, 32 * config.torso_width):
        layers += [nn.Conv2d(channels, out, 3, padding=1), nn.MaxPool2d(3, stride=2, padding=1)]
        layers += [_Residual(out, config.spectral_norm), _Residual(out, config.spectral_norm)]
        channels = out
    return [*layers, nn.ReLU()]


def _stem(channels: int, out: int, config: NetworkConfig) -> list[nn.Module]:
    """A first 3×3 convolution; it halves the image unless space-to-depth has done so already."""
    return [nn.Conv2d(channels, out, 3, stride=1 if config.space_to_depth > 1 else 2, padding=1), nn.ReLU()]


def _mobile(channels: int, config: NetworkConfig) -> list[nn.Module]:
    """Depthwise 3×3, then pointwise 1×1 convolutions [1704.04861], three times halving the image."""
    narrow, wide = 32 * config.torso_width, 64 * config.torso_width
    layers = _stem(channels, narrow, config)
    for source, out, stride in ((narrow, wide, 2), (wide, wide, 2), (wide, wide, 2), (wide, wide, 1)):
        layers += [nn.Conv2d(source, source, 3, stride, padding=1, groups=source), nn.ReLU()]
        layers += [nn.Conv2d(source, out, 1), nn.ReLU()]
    return layers


class _ShuffleUnit(nn.Module):
    """Grouped 1×1, shuffle, depthwise 3×3, grouped 1×1, beside a shortcut [1707.01083 fig. 2 b, c].

    With stride 1 the shortcut is added; with stride 2 it is average-pooled and joined, which doubles the channels.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.squeeze = nn.Conv2d(channels, channels, 1, groups=_SHUFFLE_GROUPS)
        self.shuffle = nn.ChannelShuffle(_SHUFFLE_GROUPS)
        self.depthwise = nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels)
        self.expand = nn.Conv2d(channels, channels, 1, groups=_SHUFFLE_GROUPS)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W] → [B, C, H, W]``, or with stride 2 ``[B, 2C, ⌈H/2⌉, ⌈W/2⌉]``."""
        y = cast(Tensor, self.expand(self.depthwise(self.shuffle(F.relu(self.squeeze(x))))))
        if self.stride == 1:
            return F.relu(x + y)
        return F.relu(torch.cat((F.avg_pool2d(x, 3, stride=2, padding=1), y), dim=1))


def _shuffle(channels: int, config: NetworkConfig) -> list[nn.Module]:
    """Two halving stages of two units each after the stem: 16 → 32 → 64 channels (times ``torso_width``)."""
    narrow = 16 * config.torso_width
    layers = _stem(channels, narrow, config)
    for width in (narrow, 2 * narrow):
        layers += [_ShuffleUnit(width, stride=2), _ShuffleUnit(2 * width, stride=1)]
    return layers


_TORSOS: dict[str, Callable[[int, NetworkConfig], list[nn.Module]]] = {
    "nature": _nature,
    "small": _small,
    "impala": _impala,
    "mobile": _mobile,
    "shuffle": _shuffle,
}
