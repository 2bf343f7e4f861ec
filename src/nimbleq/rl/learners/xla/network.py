"""The Q-network as a pure function of its weights, which are named and laid out as in `QNetwork.state_dict`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from nimbleq.config import NetworkConfig
from nimbleq.rl.learners.xla.strides import STRIDES

Tensor = Any
"""A JAX array."""
Weights = Mapping[str, Tensor]

_LAYER_NORM_EPS = 1e-5  # PyTorch's


def q_values(config: NetworkConfig, weights: Weights, obs: Tensor) -> Tensor:
    """``obs[B, *O] → q: float32[B, A]``, what `nimbleq.rl.nets.network.QNetwork` computes.

    Sums are of float32 products also where the hardware would rather multiply bfloat16: action values differ by less.
    """
    with jax.default_matmul_precision("highest"):
        features = _body(config, weights, _torso(config, weights, _prepared(config, weights, obs)))
        advantage = linear(weights, "advantage", features)  # [B, A]
        if not config.dueling:
            return advantage
        return linear(weights, "value", features) + advantage - advantage.mean(1, keepdims=True)


def linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    """``[B, in] → [B, out]``."""
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def _prepared(config: NetworkConfig, weights: Weights, obs: Tensor) -> Tensor:
    x = obs.astype(jnp.float32)
    if "prepare.mean" in weights:
        centred = (x - weights["prepare.mean"]) * weights["prepare.inverse_std"]
        return jnp.clip(centred, -config.obs_clip, config.obs_clip)
    return x * weights["prepare.factor"] if "prepare.factor" in weights else x


def _torso(config: NetworkConfig, weights: Weights, x: Tensor) -> Tensor:
    """``[B, C, H, W] → [B, F]``."""
    for at, stride in enumerate(STRIDES[config.torso]):
        kernel, bias = (weights[f"torso.{2 * at}.{part}"] for part in ("weight", "bias"))
        x = lax.conv_general_dilated(x, kernel, (stride, stride), "VALID", dimension_numbers=("NCHW", "OIHW", "NCHW"))
        x = jax.nn.relu(x + bias[:, None, None])
    return x.reshape(len(x), -1)


def _body(config: NetworkConfig, weights: Weights, x: Tensor) -> Tensor:
    for at in range(len(config.hidden)):
        x = linear(weights, f"body.{at * (3 if config.layer_norm else 2)}", x)
        if config.layer_norm:
            x = x - x.mean(1, keepdims=True)
            x = x * lax.rsqrt(jnp.square(x).mean(1, keepdims=True) + _LAYER_NORM_EPS)
        x = jax.nn.relu(x)
    return x
