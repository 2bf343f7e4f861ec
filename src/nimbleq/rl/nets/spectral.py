"""Convolutions whose largest singular value is held at 1, so that a deep torso does not amplify what it is given."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_STEPS_AT_FIRST = 20  # power iterations on the initial weights


class SpectralConv2d(nn.Module):
    """A 3×3 convolution with ``W/σ(W)`` for weights, σ the largest singular value of ``W`` as a matrix
    ``[out, in·9]`` [1802.05957 eq. 8; in a Q-network 2105.05246].

    σ comes from power iteration, one step with each forward pass that learns (alg. 1): while it is evaluated or
    exported nothing changes, and what is exported are the divided weights.

    Parameters:
        weight, bias: ``[out, in, 3, 3]`` and ``[out]``, at first as `nn.Conv2d`'s.

    Buffers:
        left, right: ``[out]`` and ``[in·9]``, the singular vectors so far.
    """

    left: Tensor
    right: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        plain = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.weight, self.bias = plain.weight, plain.bias
        self.register_buffer("left", F.normalize(torch.randn(outputs), dim=0))
        self.register_buffer("right", torch.zeros(inputs * 9))
        for _ in range(_STEPS_AT_FIRST):
            self.iterate()

    @torch.no_grad()
    def iterate(self) -> None:
        """One step of power iteration."""
        matrix = self.weight.flatten(1)
        self.right.copy_(F.normalize(matrix.T @ self.left, dim=0))
        self.left.copy_(F.normalize(matrix @ self.right, dim=0))

    def present(self) -> Tensor:
        """``W/σ(W)``, ``[out, in, 3, 3]``; copies of the vectors, so that later steps do not disturb the gradient."""
        sigma = self.left.clone() @ self.weight.flatten(1) @ self.right.clone()
        return self.weight / sigma

    def forward(self, x: Tensor) -> Tensor:
        """``[B, in, H, W] → [B, out, H, W]``."""
        if self.training and torch.is_grad_enabled():
            self.iterate()
        return F.conv2d(x, self.present(), self.bias, padding=1)
