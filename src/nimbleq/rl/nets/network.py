"""The Q-network: a plain module made only of what the layer graph can express, so that it can be exported."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from nimbleq.config import NetworkConfig
from nimbleq.graph.branches import best
from nimbleq.graph.space import Box, leaves
from nimbleq.rl.nets.heads.headed import HeadedNetwork
from nimbleq.rl.nets.heads.table import head_named
from nimbleq.rl.nets.noisy import NoisyLinear
from nimbleq.rl.nets.spectral import SpectralLinear
from nimbleq.rl.nets.torsos.mixed import MixedTorso, make_torso
from nimbleq.rl.nets.torsos.table import torso_named
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array, Policy


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


def initial_network(
    spec: EnvSpec, config: NetworkConfig, seed: int = 0, kind: type[QNetwork] | None = None
) -> QNetwork:
    """A `QNetwork` (or ``kind`` of it) with weights drawn from ``seed`` as PyTorch does by default.

    The global generator is left as it was: make every network through this function.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # `torch.manual_seed` would also reseed the GPUs' generators
        return (kind or QNetwork)(spec, config)


class QNetwork(HeadedNetwork):
    """Preprocessing → torso → fully connected layers → Q-values, optionally dueling [1511.06581 eq. 9].

    Children (and so the names in ``state_dict``): ``prepare`` (`ObsNorm`, `Scale` or identity), ``torso``
    (convolutions, flatten, or `MixedTorso` for pictures beside numbers, which prepares them itself), ``body`` (Linear,
    [LayerNorm,] ReLU, …), with ``memory`` ``memory_cell`` (a GRU), ``advantage`` (the head) and, when dueling,
    ``value``; and what the row of the head in `nimbleq.rl.nets.heads.table` adds. Fully connected layers are
    `NoisyLinear` when ``noisy``.

    A head that learns a distribution has ``N`` outputs per action; `forward` gives the mean, in the form in which it is
    exported.

    Args:
        spec: observation and number of actions.
        config: architecture.

    Raises:
        ConfigError: the torso does not fit the observation.
    """

    def __init__(self, spec: EnvSpec, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.actions, self.branches = spec.actions, spec.branches
        self.head = head_named(config.head)
        self.atoms = self.head.outputs(config)
        self.prepare, self.torso = _prepare_and_torso(spec, config)
        with torch.no_grad():
            width = int(self.torso(torch.zeros(1, *spec.obs.shape)).shape[1])
        layers: list[nn.Module] = []
        divided = config.spectral_norm and not torso_named(config.torso).pictures
        for hidden in config.hidden:
            layers.append(SpectralLinear(width, hidden) if divided else _linear(width, hidden, config))
            if config.layer_norm:
                layers.append(nn.LayerNorm(hidden, elementwise_affine=False))
            layers.append(nn.ReLU())
            width = hidden
        self.body = nn.Sequential(*layers)
        self.memory_cell = nn.GRUCell(width, config.memory) if config.memory else None
        width = config.memory or width
        self.advantage = _linear(width, spec.actions * self.atoms, config)
        self.value = _linear(width, self.atoms, config) if config.dueling else None
        self.head.add_layers(self, width)

    def forward(self, obs: Tensor) -> Tensor:
        """``obs[B, *O] → q: float32[B, A]``."""
        return self.head.q(self, self.features(obs))

    def features(self, obs: Tensor) -> Tensor:
        """See `HeadedNetwork`: ``obs[B, *O] → [B, H]``."""
        assert self.memory_cell is None, "a network that remembers is unrolled: see `seen` and `memory_cell`"
        return self.seen(obs)

    def seen(self, obs: Tensor) -> Tensor:
        """What is remembered of, or without a memory what heads read: ``obs[B, *O] → [B, H]``."""
        return cast(Tensor, self.body(self.torso(self.prepare(obs))))


def _linear(inputs: int, outputs: int, config: NetworkConfig) -> nn.Linear | NoisyLinear:
    return NoisyLinear(inputs, outputs, config.noisy_sigma) if config.noisy else nn.Linear(inputs, outputs)


def _prepare_and_torso(spec: EnvSpec, config: NetworkConfig) -> tuple[nn.Module, nn.Module]:
    obs, highest = spec.obs, _highest(spec)
    if obs.pictures:
        numbers = obs.shape[0] - obs.pixels
        norm = ObsNorm(numbers, config.obs_clip) if config.normalize_obs and numbers else nn.Identity()
        return nn.Identity(), MixedTorso(config, obs, [_scale(high) for high in highest], norm)
    torso = make_torso(config, obs.shape)
    if len(highest) == 1:
        return _scale(highest[0]), torso
    if config.normalize_obs and len(obs.shape) == 1:
        return ObsNorm(obs.shape[0], config.obs_clip), torso
    return nn.Identity(), torso


def _highest(spec: EnvSpec) -> list[float]:
    """The value that becomes 1 in each picture: 255 of bytes, 1 of numbers without bounds (which stay as they are)."""
    if spec.interface is not None:
        boxes = [leaf for _, leaf in leaves(spec.interface.space) if isinstance(leaf, Box) and leaf.picture is not None]
        if boxes:
            return [_highest_of(box) for box in boxes]
    pictures = spec.obs.pictures or ((spec.obs,) if spec.obs.dtype == "uint8" else ())
    return [255.0 if picture.dtype == "uint8" else 1.0 for picture in pictures]


def _highest_of(box: Box) -> float:
    if box.binary:
        return 255.0
    if box.low is None or box.high is None:
        return 255.0 if box.dtype == "uint8" else 1.0
    return max(abs(box.low), abs(box.high)) or 1.0


def _scale(highest: float) -> nn.Module:
    return nn.Identity() if highest == 1 else Scale(1 / highest)


def greedy_policy(network: Callable[[Tensor], Tensor], branches: tuple[int, ...] = ()) -> Policy:
    """The greedy policy of a network, ``obs[B, *O] → action int64[B]``, with the action's dimensions ``branches``."""

    def act(obs: Array, mask: Array | None = None) -> Array:
        with torch.no_grad():
            q = network(torch.from_numpy(obs))
        return best(q.numpy(), branches, mask)

    return act
