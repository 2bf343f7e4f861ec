"""Strided convolutions of a few channels as convolutions of many, which tensor cores compute several times as fast."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_NARROW = 16  # channels; wider inputs feed tensor cores as they are


class BlockedConv2d(nn.Conv2d):
    """The same parameters and the same sums as a convolution whose stride ``s`` divides its kernel.

    A kernel of ``k × k`` pixels in steps of ``s`` is one of ``k/s × k/s`` blocks in steps of one, where a block has the
    ``s²`` pixels of each channel as its channels (space-to-depth). The first layer of Nature 2015, 8 × 8 in steps of 4
    on 4 channels, becomes 2 × 2 on 64.
    """

    def forward(self, input: Tensor, factor: Tensor | None = None) -> Tensor:
        """``[B, C, H, W] → [B, O, (H − k) // s + 1, (W − k) // s + 1]``.

        Args:
            input: numbers, or bytes, of which bfloat16 holds every value.
            factor: what the input is multiplied by first; the weights are, instead.
        """
        stride, kernel = self.stride[0], self.kernel_size[0]
        height, width = ((side - kernel) // stride * stride + kernel for side in input.shape[2:])
        weight = F.pixel_unshuffle(self.weight, stride)
        return F.conv2d(
            _blocks(input[:, :, :height, :width], stride), weight if factor is None else weight * factor, self.bias
        )


def _blocks(x: Tensor, side: int) -> Tensor:
    """``[B, C, H, W] → [B, C side², H / side, W / side]`` as `torch.nn.functional.pixel_unshuffle`, in one copy.

    Channels are last in memory, as tensor cores want them; bytes become bfloat16.
    """
    count, channels, height, width = x.shape
    split = x.reshape(count, channels, height // side, side, width // side, side).permute(0, 2, 4, 1, 3, 5)
    numbers = split.to(torch.bfloat16 if x.dtype == torch.uint8 else x.dtype, memory_format=torch.contiguous_format)
    return numbers.flatten(3).permute(0, 3, 1, 2)


def with_blocks(module: nn.Module) -> None:
    """Turn convolutions inside ``module`` into `BlockedConv2d` where that pays; parameters stay the same objects."""
    for name, child in module.named_children():
        if type(child) is nn.Conv2d and _pays(child):
            sides = child.kernel_size[0], child.stride[0]
            blocked = BlockedConv2d(child.in_channels, child.out_channels, *sides, device="meta")
            blocked.weight, blocked.bias = child.weight, child.bias
            setattr(module, name, blocked)
        else:
            with_blocks(child)


def _pays(layer: nn.Conv2d) -> bool:
    (height, width), (down, right) = layer.kernel_size, layer.stride
    square = height == width and down == right > 1 and height % down == 0
    plain = layer.padding == (0, 0) and layer.dilation == (1, 1) and layer.groups == 1
    return square and plain and layer.in_channels < _NARROW
