"""Core ATen op → its handler, which makes graph ops. An op that is not here has no graph form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from nimbleq.bridge.aten import elementwise, linear, reduce, shapes

aten = torch.ops.aten

MOVES = frozenset(
    (
        aten.view, aten._unsafe_view, aten.reshape, aten.permute, aten.transpose, aten.t, aten.expand, aten.repeat,
        aten.select, aten.slice, aten.narrow, aten.unsqueeze, aten.squeeze, aten.flip, aten.roll, aten.clone,
        aten.alias, aten.detach, aten.contiguous, aten.lift_fresh_copy, aten.index, aten._unsafe_index,
        aten.index_select, aten.split, aten.split_with_sizes, aten.unbind, aten.diagonal, aten.unfold, aten.flatten,
        aten.pixel_shuffle, aten.pixel_unshuffle, aten.channel_shuffle, aten.native_channel_shuffle,
        aten.upsample_nearest2d,
    )
)  # fmt: skip
"""Ops that move, repeat or drop elements."""

OPS: dict[Any, Callable[..., Any]] = {
    aten.add: elementwise.add,
    aten.sub: elementwise.sub,
    aten.rsub: elementwise.rsub,
    aten.mul: elementwise.mul,
    aten.div: elementwise.div,
    aten.neg: elementwise.neg,
    aten.abs: elementwise.absolute,
    aten.maximum: elementwise.maximum,
    aten.minimum: elementwise.minimum,
    aten.where: elementwise.where,
    aten.relu: elementwise.relu,
    aten.leaky_relu: elementwise.leaky_relu,
    aten._prelu_kernel: elementwise.prelu,
    aten.hardtanh: elementwise.hardtanh,
    aten.tanh: elementwise.tanh,
    aten.clamp: elementwise.clamp,
    aten.clamp_min: elementwise.clamp_min,
    aten.clamp_max: elementwise.clamp_max,
    aten._softmax: elementwise.softmax,
    aten._log_softmax: elementwise.log_softmax,
    aten.exp: elementwise.exponential,
    aten._to_copy: elementwise.to_copy,
    aten._native_batch_norm_legit_no_training: elementwise.batch_norm,
    aten.native_layer_norm: reduce.layer_norm,
    aten.native_group_norm: reduce.group_norm,
    aten.mean: reduce.mean,
    aten.sum: reduce.total,
    aten.amax: reduce.amax,
    aten.amin: reduce.amin,
    aten.max: reduce.max_dim,
    aten.min: reduce.min_dim,
    aten.addmm: linear.addmm,
    aten.mm: linear.mm,
    aten.bmm: linear.bmm,
    aten.convolution: linear.convolution,
    aten.avg_pool2d: linear.avg_pool2d,
    aten._adaptive_avg_pool2d: linear.adaptive_avg_pool2d,
    aten.max_pool2d_with_indices: linear.max_pool2d,
    aten.adaptive_max_pool2d: linear.adaptive_max_pool2d,
    aten.cat: shapes.cat,
    aten.slice_scatter: shapes.slice_scatter,
    aten.select_scatter: shapes.select_scatter,
    aten.copy: shapes.copy,
    aten.constant_pad_nd: shapes.pad,
    aten.full_like: shapes.full_like,
    aten.sym_size: shapes.sym_size,
}
"""Op → handler ``(builder, *arguments) → Value``."""

INTEGER_OPS = frozenset((aten.max_pool2d_with_indices, aten.cat, aten._to_copy, aten.sym_size))
"""Ops besides the moves that may pass on the integers of a raw image."""
