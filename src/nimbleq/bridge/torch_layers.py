"""Layers of ``torch.nn`` → ops. Arguments that change the meaning and have no op are refused, never ignored."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from torch import nn

from nimbleq.bridge.lowering import Lowering, Tensor, to_array
from nimbleq.graph import ops
from nimbleq.graph.tensor import Float32

Pair = tuple[int, int]


def pair(value: Any) -> Pair:
    """``3`` or ``(3, 5)`` as a pair."""
    rows, cols = (value, value) if isinstance(value, int) else tuple(value) * (2 if len(value) == 1 else 1)
    return int(rows), int(cols)


def as_float(low: Lowering, x: Tensor) -> Tensor:
    """``x`` itself, or the integers of a raw image as float32."""
    return x if isinstance(low.type_of(x).qtype, Float32) else low.affine(x, 1.0, 0.0)


def linear(low: Lowering, x: Tensor, weight: Any, bias: Any = None) -> Tensor:
    """``F.linear``."""
    return low.add(ops.Linear(low.weight(weight, "weight"), None if bias is None else low.weight(bias, "bias")), x)


def conv2d(
    low: Lowering,
    x: Tensor,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """``F.conv2d``."""
    if pair(dilation) != (1, 1):
        raise low.unsupported(f"Conv2d with dilation {dilation}", "use dilation 1 and a larger kernel or stride")
    if isinstance(padding, str):
        padding = _named_padding(low, padding, tuple(weight.shape[2:]), pair(stride))
    op = ops.Conv2d(
        low.weight(weight, "weight"),
        None if bias is None else low.weight(bias, "bias"),
        pair(stride),
        pair(padding),
        groups,
    )
    return low.add(op, x)


def _named_padding(low: Lowering, padding: str, kernel: tuple[int, ...], stride: Pair) -> Pair:
    if padding == "valid":
        return (0, 0)
    if stride != (1, 1) or any(size % 2 == 0 for size in kernel):
        raise low.unsupported(
            f"Conv2d with padding {padding!r}, kernel {kernel}", "an even kernel pads unequally: give numbers"
        )
    return pair([size // 2 for size in kernel])


def layer_norm(
    low: Lowering, x: Tensor, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """``F.layer_norm`` over all of an observation's axes."""
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if shape != low.type_of(x).shape:
        raise low.unsupported(f"LayerNorm over {shape}", f"it must span the whole {low.type_of(x)}")
    names = [None if value is None else low.weight(value, name) for value, name in ((weight, "weight"), (bias, "bias"))]
    return low.add(ops.LayerNorm(names[0], names[1], eps), as_float(low, x))


def batch_norm(
    low: Lowering,
    x: Tensor,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``F.batch_norm`` with its running statistics: an Affine per channel. ``momentum`` matters in training only."""
    if running_mean is None or running_var is None or training:
        raise low.unsupported("BatchNorm without running statistics", "train it with track_running_stats=True")
    variance = to_array(running_var).astype(np.float64)
    scale = 1 / np.sqrt(variance + eps)
    scale = scale if weight is None else scale * to_array(weight)
    shift = (0.0 if bias is None else to_array(bias)) - to_array(running_mean) * scale
    shape = (-1,) + (1,) * (len(low.type_of(x).shape) - 1)
    return low.affine(x, scale.reshape(shape), np.asarray(shift).reshape(shape))


def pool(
    low: Lowering,
    x: Tensor,
    function: Literal["max", "average"],
    kernel: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
) -> Tensor:
    """Windows of one size and stride."""
    if ceil_mode:
        raise low.unsupported(
            "pooling with ceil_mode", "use ceil_mode=False (pad the image where the last windows matter)"
        )
    kernel = pair(kernel)
    stride = kernel if stride is None or stride == [] else pair(stride)
    return low.add(ops.Pool(function, kernel, stride, pair(padding)), as_float(low, x) if function == "average" else x)


def max_pool2d(
    low: Lowering,
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """``F.max_pool2d``."""
    if pair(dilation) != (1, 1) or return_indices:
        raise low.unsupported("max_pool2d with dilation or indices", "use dilation 1 and return_indices=False")
    return pool(low, x, "max", kernel_size, stride, padding, ceil_mode)


def avg_pool2d(
    low: Lowering,
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """``F.avg_pool2d``."""
    if (not count_include_pad and pair(padding) != (0, 0)) or divisor_override is not None:
        raise low.unsupported(
            "avg_pool2d that does not count its padding", "use count_include_pad=True and no divisor_override"
        )
    return pool(low, x, "average", kernel_size, stride, padding, ceil_mode)


def adaptive_pool(low: Lowering, x: Tensor, function: Literal["max", "average"], output_size: Any) -> Tensor:
    """Adaptive pooling where all its windows have one size and stride."""
    extents = low.type_of(x).shape[-2:]
    wanted = (output_size, output_size) if isinstance(output_size, int) or output_size is None else tuple(output_size)
    windows = [
        _adaptive_window(size, size if count is None else count) for size, count in zip(extents, wanted, strict=True)
    ]
    if len(low.type_of(x).shape) != 3 or None in windows:
        raise low.unsupported(
            f"adaptive pooling of {extents} to {wanted}", "its windows differ in size: choose divisors of the image"
        )
    kernel, stride = zip(*(window for window in windows if window is not None), strict=True)
    return pool(low, x, function, kernel, stride, 0, ceil_mode=False)


def _adaptive_window(size: int, count: int) -> Pair | None:
    """The one ``(kernel, stride)`` that all windows share, as torch places them, or None."""
    starts = [at * size // count for at in range(count)]
    ends = [-(-(at + 1) * size // count) for at in range(count)]
    sizes = {end - start for start, end in zip(starts, ends, strict=True)}
    steps = {after - before for before, after in pairwise(starts)} or {size}
    return (sizes.pop(), steps.pop()) if len(sizes) == len(steps) == 1 and 0 not in steps else None


def flatten(low: Lowering, x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """``torch.flatten`` of everything but the batch."""
    rank = len(low.type_of(x).shape) + 1
    if start_dim not in (1, 1 - rank) or end_dim not in (-1, rank - 1):
        raise low.unsupported(f"flatten of axes {start_dim}..{end_dim}", "flatten from axis 1 to the last")
    return low.add(ops.Flatten(), x)


def activation(low: Lowering, x: Tensor, op: ops.Activation) -> Tensor:
    """An elementwise function."""
    return low.add(op, as_float(low, x))


def _parameters(low: Lowering, layer: nn.Module, path: str) -> None:
    """Make the layer's own names those of its weights."""
    for name, value in (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)):
        low.constant(f"{path}.{name}", value)


def _conv_layer(low: Lowering, layer: Any, x: Tensor) -> Tensor:
    if layer.padding_mode != "zeros":
        raise low.unsupported(f"Conv2d with {layer.padding_mode} padding", "use padding_mode='zeros'")
    return conv2d(low, x, layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def _batch_norm_layer(low: Lowering, layer: Any, x: Tensor) -> Tensor:
    return batch_norm(low, x, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=layer.eps)


def _channel_shuffle(low: Lowering, layer: Any, x: Tensor) -> Tensor:
    """``nn.ChannelShuffle`` as the 1×1 convolution with its permutation."""
    groups, channels = int(layer.groups), low.type_of(x).shape[0]
    order = np.arange(channels).reshape(groups, -1).T.reshape(-1)
    return conv2d(low, as_float(low, x), np.eye(channels, dtype=np.float32)[order][:, :, None, None])


def _space_to_depth(low: Lowering, layer: Any, x: Tensor) -> Tensor:
    """``nn.PixelUnshuffle`` as the grouped convolution that picks each pixel of a block."""
    block, channels = int(layer.downscale_factor), low.type_of(x).shape[0]
    pick = np.eye(block * block, dtype=np.float32).reshape(block * block, 1, block, block)
    return conv2d(low, as_float(low, x), np.tile(pick, (channels, 1, 1, 1)), stride=block, groups=channels)


def _keep(low: Lowering, layer: nn.Module, x: Tensor) -> Tensor:
    return x


Layer = Callable[[Lowering, Any, Tensor], Tensor]


def _named(handler: Layer) -> Layer:
    def lower(low: Lowering, layer: Any, x: Tensor) -> Tensor:
        _parameters(low, layer, low.path)
        return handler(low, layer, x)

    return lower


MODULES: dict[type[nn.Module], Layer] = {
    nn.Linear: _named(lambda low, layer, x: linear(low, x, layer.weight, layer.bias)),
    nn.Conv2d: _named(_conv_layer),
    nn.LayerNorm: _named(
        lambda low, layer, x: layer_norm(low, x, layer.normalized_shape, layer.weight, layer.bias, layer.eps)
    ),
    nn.BatchNorm1d: _batch_norm_layer,
    nn.BatchNorm2d: _batch_norm_layer,
    nn.ReLU: lambda low, layer, x: activation(low, x, ops.Activation("relu")),
    nn.ReLU6: lambda low, layer, x: activation(low, x, ops.Activation("clip", low=0.0, high=6.0)),
    nn.LeakyReLU: lambda low, layer, x: activation(
        low, x, ops.Activation("leaky_relu", slope=float(layer.negative_slope))
    ),
    nn.Hardtanh: lambda low, layer, x: activation(
        low, x, ops.Activation("clip", low=float(layer.min_val), high=float(layer.max_val))
    ),
    nn.ChannelShuffle: _channel_shuffle,
    nn.PixelUnshuffle: _space_to_depth,
    nn.Flatten: lambda low, layer, x: flatten(low, x, layer.start_dim, layer.end_dim),
    nn.MaxPool2d: lambda low, layer, x: max_pool2d(
        low, x, layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode, layer.return_indices
    ),
    nn.AvgPool2d: lambda low, layer, x: avg_pool2d(
        low, x, layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode, layer.count_include_pad,
        layer.divisor_override,
    ),
    nn.AdaptiveMaxPool2d: lambda low, layer, x: adaptive_pool(low, x, "max", layer.output_size),
    nn.AdaptiveAvgPool2d: lambda low, layer, x: adaptive_pool(low, x, "average", layer.output_size),
    nn.Dropout: _keep,
    nn.Dropout1d: _keep,
    nn.Dropout2d: _keep,
    nn.Identity: _keep,
}  # fmt: skip
"""Layer class → how it is lowered."""
