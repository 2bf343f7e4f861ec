"""Linear layers whose weights carry learnt noise, which explores in place of ε [1706.10295]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NoisyLinear(nn.Module):
    """``y = (W + S ⊙ ε_out ε_inᵀ)·x + b + s ⊙ ε_out`` within `noise`, and ``y = W·x + b`` everywhere else.

    Factorised Gaussian noise (§3 b): ``ε = sign(n)·√|n|`` of one unit normal ``n`` per input and per output. Outside
    `noise` the layer is its mean, so that evaluation and export need no mode of their own.

    Parameters:
        weight, bias: the means, ``[out, in]`` and ``[out]``, drawn from U(±1/√in) like `nn.Linear`'s.
        weight_sigma, bias_sigma: deviations of the same shapes, ``sigma/√in`` at first.
    """

    def __init__(self, inputs: int, outputs: int, sigma: float) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(outputs, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))
        self.weight_sigma = nn.Parameter(torch.full((outputs, inputs), sigma * bound))
        self.bias_sigma = nn.Parameter(torch.full((outputs,), sigma * bound))
        self.drawn: tuple[Tensor, Tensor] | None = None  # ε_in [in], ε_out [out] while `noise` lasts

    def present(self) -> tuple[Tensor, Tensor]:
        """Weight ``[out, in]`` and bias ``[out]`` with the noise of the moment."""
        if self.drawn is None:
            return self.weight, self.bias
        inputs, outputs = self.drawn
        return self.weight + self.weight_sigma * torch.outer(outputs, inputs), self.bias + self.bias_sigma * outputs

    def forward(self, x: Tensor) -> Tensor:
        """``[B, in] → [B, out]``."""
        return F.linear(x, *self.present())


def noisy_layers(module: nn.Module) -> tuple[NoisyLinear, ...]:
    """The noisy layers of a network, in order."""
    return tuple(layer for layer in module.modules() if isinstance(layer, NoisyLinear))


@contextmanager
def noise(layers: Sequence[NoisyLinear], generator: torch.Generator) -> Iterator[None]:
    """Fresh noise for ``layers``, the same for everything computed inside."""
    for layer in layers:
        outputs, inputs = layer.weight.shape
        device = layer.weight.device
        layer.drawn = _factor(inputs, generator, device), _factor(outputs, generator, device)
    try:
        yield
    finally:
        for layer in layers:
            layer.drawn = None


def _factor(size: int, generator: torch.Generator, device: torch.device) -> Tensor:
    normal = torch.randn(size, generator=generator, device=device)
    return normal.sign() * normal.abs().sqrt()
