"""The Q-network: a plain module made only of what the layer graph can express, so that it can be exported."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from nimbleq.config import NetworkConfig
from nimbleq.errors import ConfigError
from nimbleq.types import EnvSpec

_NATURE_MIN_PIXELS = 36  # below this the third convolution has no output left


class ObsNorm(nn.Module):
    """Standardise a vector observation with stored statistics (buffers: they travel with the weights) and clip it.

    Buffers:
        mean: ``float32[O]``.
        inverse_std: ``float32[O]``.
    """

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, size: int, clip: float) -> None:
        super().__init__()
        self.clip = clip
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("inverse_std", torch.ones(size))

    def forward(self, obs: Tensor) -> Tensor:
        """``float32[B, O] → float32[B, O]`` within ±clip."""
        return torch.clamp((obs - self.mean) * self.inverse_std, -self.clip, self.clip)


class Scale(nn.Module):
    """Multiply by a constant: bytes of an image to [0, 1].

    Buffers:
        factor: ``float32[1]``.
    """

    factor: Tensor

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.register_buffer("factor", torch.tensor([factor]))

    def forward(self, obs: Tensor) -> Tensor:
        """``uint8|float32[B, *O] → float32[B, *O]``."""
        return obs * self.factor


class QNetwork(nn.Module):
    """Preprocessing → torso → fully connected layers → Q-values, optionally dueling [1511.06581 eq. 9].

    Children (and so the names in ``state_dict``): ``prepare`` (`ObsNorm`, `Scale` or identity), ``torso``
    (convolutions or flatten), ``body`` (Linear, [LayerNorm,] ReLU, …), ``advantage`` (the head) and, when
    dueling, ``value``.

    Args:
        spec: observation and number of actions.
        config: architecture.

    Raises:
        ConfigError: the torso does not fit the observation.
    """

    def __init__(self, spec: EnvSpec, config: NetworkConfig) -> None:
        super().__init__()
        self.prepare = _prepare(spec, config)
        self.torso = _nature(spec.obs.shape) if config.torso == "nature" else nn.Flatten()
        with torch.no_grad():
            width = int(self.torso(torch.zeros(1, *spec.obs.shape)).shape[1])
        layers: list[nn.Module] = []
        for hidden in config.hidden:
            layers.append(nn.Linear(width, hidden))
            if config.layer_norm:
                layers.append(nn.LayerNorm(hidden, elementwise_affine=False))
            layers.append(nn.ReLU())
            width = hidden
        self.body = nn.Sequential(*layers)
        self.advantage = nn.Linear(width, spec.actions)
        self.value = nn.Linear(width, 1) if config.dueling else None

    def forward(self, obs: Tensor) -> Tensor:
        """``obs[B, *O] → q: float32[B, A]``."""
        features = self.body(self.torso(self.prepare(obs)))
        advantage = cast(Tensor, self.advantage(features))
        if self.value is None:
            return advantage
        return cast(Tensor, self.value(features)) + advantage - advantage.mean(dim=1, keepdim=True)


def _prepare(spec: EnvSpec, config: NetworkConfig) -> nn.Module:
    if spec.obs.dtype == "uint8":
        return Scale(1 / 255)
    if config.normalize_obs and len(spec.obs.shape) == 1:
        return ObsNorm(spec.obs.shape[0], config.obs_clip)
    return nn.Identity()


def _nature(shape: tuple[int, ...]) -> nn.Sequential:
    """The three convolutions of Mnih et al., Nature 2015, over ``[B, C, H, W]``; flattened."""
    if len(shape) != 3 or min(shape[1:]) < _NATURE_MIN_PIXELS:
        raise ConfigError(
            f"network.torso nature needs (channels, height, width) with at least {_NATURE_MIN_PIXELS} pixels a side, "
            f"not observations of shape {shape}; use mlp"
        )
    return nn.Sequential(
        nn.Conv2d(shape[0], 32, 8, stride=4),
        nn.ReLU(),
        nn.Conv2d(32, 64, 4, stride=2),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, stride=1),
        nn.ReLU(),
        nn.Flatten(),
    )
