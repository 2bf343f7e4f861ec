"""Selected and padded elements of an image as convolutions: crops, strides, padding, channel and pixel shuffles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.bridge.aten.values import Gathered
from nimbleq.types import Array

_MAX_KERNEL = 16


@dataclass(frozen=True)
class Kernel:
    """A convolution: ``weight: float64[out, C/groups, kh, kw]``."""

    weight: Array
    stride: tuple[int, int]
    padding: tuple[int, int]
    groups: int = 1


@dataclass(frozen=True)
class Shift:
    """``out[o, i, j] = source[channel[o], i·stride + row[o], j·stride' + col[o]]``, zero outside of the source."""

    channel: Array
    row: Array
    col: Array
    stride: tuple[int, int]
    scale: Array


def shift_of(term: Gathered, shape: tuple[int, ...]) -> Shift | None:
    """The regular shift by which ``term`` selects from an image, or None."""
    if len(term.source.shape) != 3 or len(shape) != 3:
        return None
    _, height, width = term.source.shape
    out, rows, cols = shape
    index = term.index.reshape(shape)
    inside = index >= 0
    scale = term.scale.reshape(out, -1).max(axis=1)
    if not inside.any(axis=(1, 2)).all() or np.any(term.scale.reshape(shape) != scale[:, None, None] * inside):
        return None
    channel = index.reshape(out, -1).max(axis=1) // (height * width)
    at_row, at_col = index % (height * width) // width, index % width
    row_step = _step(at_row, inside, axis=1)
    col_step = _step(at_col, inside, axis=2)
    down, across = np.arange(rows)[:, None] * row_step, np.arange(cols)[None] * col_step
    low = np.iinfo(np.int64).min
    row = np.where(inside, at_row - down, low).reshape(out, -1).max(axis=1)
    col = np.where(inside, at_col - across, low).reshape(out, -1).max(axis=1)
    i, j = down + row[:, None, None], across + col[:, None, None]
    fits = (i >= 0) & (i < height) & (j >= 0) & (j < width)
    wanted = np.where(fits, channel[:, None, None] * height * width + i * width + j, -1)
    return Shift(channel, row, col, (row_step, col_step), scale) if np.array_equal(wanted, index) else None


def _step(at: Array, inside: Array, axis: int) -> int:
    """Distance in the source between neighbours along ``axis``; 1 without neighbours."""
    both = np.take(inside, range(1, at.shape[axis]), axis) & np.take(inside, range(at.shape[axis] - 1), axis)
    steps = np.diff(at, axis=axis)[both]
    return max(1, int(steps[0])) if steps.size else 1


def shifted_kernel(term: Gathered, shape: tuple[int, ...]) -> Kernel | None:
    """The convolution that makes ``term``, of image ``shape``, from its source; None if there is none."""
    shift = shift_of(term, shape)
    if shift is None:
        return None
    channels = term.source.shape[0]
    depthwise = shape[0] == channels and np.array_equal(shift.channel, np.arange(channels))
    weight = np.zeros((shape[0], 1 if depthwise else channels, 1, 1))
    weight[np.arange(shape[0]), 0 if depthwise else shift.channel, 0, 0] = shift.scale
    return moved(weight, shift, term.source.shape, shape, (1, 1), channels if depthwise else 1)


def moved(
    weight: Array,
    shift: Shift,
    source: tuple[int, ...],
    shape: tuple[int, ...],
    stride: tuple[int, int],
    groups: int,
) -> Kernel | None:
    """A kernel over ``source`` equal to ``weight`` (without padding) over the shifted image; its result has ``shape``.

    Offsets are per output channel for a kernel of 1×1, and the same for all channels otherwise.
    """
    out, inner, height, width = weight.shape
    steps = stride[0] * shift.stride[0], stride[1] * shift.stride[1]
    if (height, width) != (1, 1) and (shift.stride != (1, 1) or np.ptp(shift.row) or np.ptp(shift.col)):
        return None
    frames = []
    for offset, window, extent, step, count in (
        (shift.row, height, source[1], steps[0], shape[1]), (shift.col, width, source[2], steps[1], shape[2]),
    ):  # fmt: skip
        after = (count - 1) * step + int(offset.max()) + window - extent
        padding = max(0, -int(offset.min()), after)
        size = max(int(offset.max()) + window + padding, extent + 2 * padding - count * step + 1)
        if size > extent + 2 * padding - (count - 1) * step or size > _MAX_KERNEL:
            return None
        frames.append((padding, size))
    (pad_rows, rows), (pad_cols, cols) = frames
    kernel = np.zeros((out, inner, rows, cols))
    for channel in range(out):
        at = channel if len(shift.row) == out else 0
        top, left = int(shift.row[at]) + pad_rows, int(shift.col[at]) + pad_cols
        kernel[channel, :, top : top + height, left : left + width] = weight[channel]
    return Kernel(kernel, steps, (pad_rows, pad_cols), groups)
