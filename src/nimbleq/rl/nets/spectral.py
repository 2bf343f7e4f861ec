"""Layers whose largest singular value is held at 1, so that a deep network does not amplify what it is given."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nimbleq.rl.nets.initial import leading_vectors

_STEPS_AT_FIRST = 20  # power iterations on the initial weights


class _Spectral(nn.Module):
    """A layer with ``W/σ(W)`` for weights, σ the largest singular value of ``W`` as a matrix ``[out, n]``
    [1802.05957 eq. 8; in a Q-network 2105.05246].

    σ comes from power iteration, one step with each forward pass that learns (alg. 1): while it is evaluated or
    exported nothing changes, and what is exported are the divided weights.

    Parameters:
        weight, bias: ``[out, *]`` and ``[out]``, at first as those of ``plain``.

    Buffers:
        left, right: ``[out]`` and ``[n]``, the singular vectors so far.
    """

    left: Tensor
    right: Tensor

    def __init__(self, plain: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        assert plain.bias is not None
        self.weight, self.bias = plain.weight, plain.bias

    @torch.no_grad()
    def iterate(self) -> None:
        """One step of power iteration."""
        matrix = self.weight.flatten(1)
        self.right.copy_(F.normalize(matrix.T @ self.left, dim=0))
        self.left.copy_(F.normalize(matrix @ self.right, dim=0))

    def present(self) -> Tensor:
        """``W/σ(W)``; copies of the vectors, so that later steps do not disturb the gradient."""
        sigma = self.left.clone() @ self.weight.flatten(1) @ self.right.clone()
        return self.weight / sigma

    def divided(self) -> Tensor:
        """`present`, after one step of power iteration where the forward pass learns."""
        if self.training and torch.is_grad_enabled():
            self.iterate()
        return self.present()


class SpectralConv2d(_Spectral):
    """A 3×3 convolution, ``[B, in, H, W] → [B, out, H, W]``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, 3, padding=1))
        self.register_buffer("left", F.normalize(torch.randn(outputs), dim=0))
        self.register_buffer("right", torch.zeros(inputs * 9))
        for _ in range(_STEPS_AT_FIRST):
            self.iterate()

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return F.conv2d(x, self.divided(), self.bias, padding=1)


class SpectralLinear(_Spectral):
    """A fully connected layer, ``[B, in] → [B, out]``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Linear(inputs, outputs))
        left, right = leading_vectors(self.weight.detach().numpy())
        self.register_buffer("left", torch.from_numpy(left))
        self.register_buffer("right", torch.from_numpy(right))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return F.linear(x, self.divided(), self.bias)
