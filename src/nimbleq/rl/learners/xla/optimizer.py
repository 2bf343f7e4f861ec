"""Adam and RAdam on named weights, as PyTorch computes them."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax.numpy as jnp

from nimbleq.config import LearnerConfig
from nimbleq.rl.learners.xla.network import Tensor, Weights

_BETA1, _BETA2 = 0.9, 0.999
_RHO_MAX = 2 / (1 - _BETA2) - 1
_MIN_RHO = 5.0  # below it the variance of the step has no bound yet, and RAdam does without it
_SERIES_BELOW = 0.1  # there the series has float32's precision, and the quotient does not


def clipped(gradients: Weights, max_norm: float) -> Weights:
    """``gradients`` shortened to a global norm of at most ``max_norm`` (0: as they are)."""
    if max_norm <= 0:
        return gradients
    norm = jnp.sqrt(sum(jnp.square(gradient).sum() for gradient in gradients.values()))
    share = jnp.minimum(1.0, max_norm / (norm + 1e-6))
    return each(lambda gradient: gradient * share, gradients)


def moments(first: Weights, second: Weights, gradients: Weights) -> tuple[Weights, Weights]:
    """Running means of the gradients and of their squares."""
    first = each(lambda m, g: m + (1 - _BETA1) * (g - m), first, gradients)
    return first, each(lambda v, g: _BETA2 * v + (1 - _BETA2) * g * g, second, gradients)


def stepped(config: LearnerConfig, weights: Weights, first: Weights, second: Weights, count: Tensor) -> Weights:
    """``weights`` after step number ``count + 1``, with its moments [1412.6980 alg. 1; 1908.03265 alg. 2]."""
    t = count.astype(jnp.float32) + 1
    share = jnp.minimum(1.0, count.astype(jnp.float32) / config.lr_updates)
    lr = config.lr + (config.lr_end - config.lr) * share
    rest1, rest2 = _rest(_BETA1, t), _rest(_BETA2, t)
    if config.optimizer == "adam":
        return each(
            lambda w, m, v: w - lr / rest1 * m / (jnp.sqrt(v / rest2) + config.adam_eps), weights, first, second
        )
    rho = _rho(t)
    steady = rho > _MIN_RHO
    known = jnp.where(steady, rho, _MIN_RHO + 1)  # whose root is a number on either side
    rectified = jnp.sqrt(
        (known - 4) * (known - 2) * _RHO_MAX / ((_RHO_MAX - 4) * (_RHO_MAX - 2) * known)
    ) * jnp.sqrt(rest2)  # fmt: skip

    def step(w: Tensor, m: Tensor, v: Tensor) -> Tensor:
        return w - lr / rest1 * m * jnp.where(steady, rectified / (jnp.sqrt(v) + config.adam_eps), 1.0)

    return each(step, weights, first, second)


def each(function: Callable[..., Tensor], *groups: Weights) -> Weights:
    """``function`` of the arrays of one name, for every name."""
    return {name: function(*(group[name] for group in groups)) for name in groups[0]}


def _rest(beta: float, t: Tensor) -> Tensor:
    """``1 − βᵗ`` to float32's precision."""
    return -jnp.expm1(t * math.log(beta))


def _rho(t: Tensor) -> Tensor:
    """``ρ_∞ − 2t·β₂ᵗ/(1 − β₂ᵗ)`` [1908.03265 eq. 5]: with ``x = −t·ln β₂`` the last term is ``2/(−ln β₂)·x/(eˣ − 1)``.

    Its constant part is taken off beforehand, in double precision, as the difference of the two has few digits.
    """
    rate = -math.log(_BETA2)
    x = t * rate
    series = x / 2 - jnp.square(x) / 12 + x**4 / 720
    less = jnp.where(x < _SERIES_BELOW, series, 1 - x / jnp.expm1(x))  # 1 − x/(eˣ − 1)
    return (_RHO_MAX - 2 / rate) + 2 / rate * less
