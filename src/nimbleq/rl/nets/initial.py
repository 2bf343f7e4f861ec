"""The initial weights of fully connected networks on vectors, bit for bit as PyTorch draws them, without PyTorch."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from nimbleq.config import NetworkConfig
from nimbleq.rl.nets.heads.table import head_named
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array

_BITS = 24  # of a random float32
_STEPS = 20  # of power iteration


def initial_weights(spec: EnvSpec, config: NetworkConfig, seed: int) -> dict[str, Array]:
    """What `nimbleq.rl.nets.network.initial_network` gives as ``state_dict``: for the torso ``mlp``.

    `nn.Linear` draws its weights, then its biases, from U(±1/√in) [He et al. 2015 with a = √5], from the Mersenne
    Twister that the seed starts.
    """
    numbers = np.random.RandomState(seed & 0xFFFFFFFF)
    weights: dict[str, Array] = {}
    if config.normalize_obs:
        weights |= {"prepare.mean": np.zeros(spec.obs.shape, np.float32)}
        weights |= {"prepare.inverse_std": np.ones(spec.obs.shape, np.float32)}
    for name, inputs, outputs in _layers(spec, config):
        bound = inputs**-0.5
        weights[f"{name}.weight"] = _uniform(numbers, (outputs, inputs), bound if config.noisy else _bound(inputs))
        weights[f"{name}.bias"] = _uniform(numbers, (outputs,), bound)
        if config.spectral_norm and name.startswith("body."):
            weights[f"{name}.left"], weights[f"{name}.right"] = leading_vectors(weights[f"{name}.weight"])
        if config.noisy:
            sigma = np.float32(config.noisy_sigma * bound)
            weights[f"{name}.weight_sigma"] = np.full((outputs, inputs), sigma)
            weights[f"{name}.bias_sigma"] = np.full(outputs, sigma)
    return weights


def leading_vectors(weight: Array) -> tuple[Array, Array]:
    """About the singular vectors of the largest singular value, ``float32[out]`` and ``float32[in]`` of ``[out, in]``.

    Power iteration [1802.05957, algorithm 1] that begins with equal numbers.
    """
    left = np.full(len(weight), len(weight) ** -0.5, np.float32)
    for _ in range(_STEPS):
        right = weight.T @ left
        right /= max(float(np.linalg.norm(right)), 1e-12)
        left = weight @ right
        left /= max(float(np.linalg.norm(left)), 1e-12)
    return left, right


def _layers(spec: EnvSpec, config: NetworkConfig) -> Iterator[tuple[str, int, int]]:
    """Name, inputs and outputs of every layer, in the order in which they are made."""
    width = spec.obs.shape[0]
    for at, hidden in enumerate(config.hidden):
        yield f"body.{at * (3 if config.layer_norm else 2)}", width, hidden
        width = hidden
    outputs = head_named(config.head).outputs(config)
    yield "advantage", width, spec.actions * outputs
    if config.dueling:
        yield "value", width, outputs


def _bound(inputs: int) -> float:
    """1/√in, rounded as `torch.nn.init.kaiming_uniform_` rounds it."""
    return math.sqrt(3.0) * (math.sqrt(2.0 / (1 + math.sqrt(5) ** 2)) / math.sqrt(inputs))


def _uniform(numbers: np.random.RandomState, shape: tuple[int, ...], bound: float) -> Array:
    """U(±bound): one 32-bit number each, of which 24 bits count; multiplied and added with one rounding."""
    high = float(np.float32(bound))
    width = float(np.float32(high) - np.float32(-high))
    drawn = numbers.randint(0, 1 << 32, size=shape, dtype=np.uint32)
    share = (drawn & ((1 << _BITS) - 1)) / (1 << _BITS)
    return (share * width - high).astype(np.float32)
