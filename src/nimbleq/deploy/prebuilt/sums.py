"""Linear and Conv2d as instructions: dense sums packed for `native/engine/sums.h`, sparse ones entry by entry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.deploy.prebuilt.lowering import Lowering
from nimbleq.deploy.prebuilt.program import BYTES, F32, I8, I16, I32, NOWHERE, OBS, U8, Size
from nimbleq.deploy.targets.c.ops.avx2.quads import pairs_fit
from nimbleq.deploy.targets.c.ops.avx2.scatter import Grid, of_conv2d, of_linear
from nimbleq.deploy.targets.c.ops.avx2.store import bias_of, highest, pad_shift
from nimbleq.deploy.targets.c.ops.layer import pad_to
from nimbleq.deploy.targets.c.ops.sparse import is_sparse
from nimbleq.deploy.targets.c.ops.sums import check_int_source, columns, real_weights
from nimbleq.graph import ops
from nimbleq.types import Array

WIDTH = 16
"""Outputs are stored in multiples of it."""
FEW_OUTPUTS = 8
"""Up to so many outputs, and from so many inputs on, vectors run along the inputs."""
SKIPS_FROM = 32
"""From so many inputs and outputs on, skipping inputs that are 0 pays for finding them."""
WIDENED = 8192
"""Up to so many weights of a Linear they are stored as int16, which takes more bytes and less work."""
HIGH_SHIFT = 33
"""From this shift on the high half of a product is enough."""
BYTES_ALWAYS = "avx512-vnni"
"""But with these kernels, whose products are of bytes."""
DENSE_FROM = 0.35
"""A share of weights that are not 0 from which on it is faster to multiply by all of them."""
UNIT = {F32: 1, U8: 4, I16: 2}
"""Inputs that the kernels take at once."""
FUNCTIONS = {"relu": 1, "leaky_relu": 2, "clip": 3}
"""As in `native/kernels/activations.h`."""


@dataclass(frozen=True)
class Windows:
    """Where the inputs of each output pixel lie; fields as in the C structure ``Sums``, in elements."""

    rows: int = 1
    cols: int = 1
    step_y: int = 0
    step_x: int = 0
    runs: int = 1
    run: int = 1
    run_step: int = 0

    @property
    def count(self) -> int:
        """Output pixels."""
        return self.rows * self.cols


@dataclass(frozen=True)
class End:
    """What becomes of a sum."""

    requantizes: int = 0
    zero_point: int = 0
    low: int = 0
    high: int = 0
    multiplier: Array | None = None
    shift: Array | None = None


def activation(op: ops.Activation | None) -> tuple[int, tuple[float, float]]:
    """Function and its two numbers."""
    if op is None:
        return 0, (0.0, 0.0)
    if op.function == "clip":
        return FUNCTIONS["clip"], (op.low, op.high)
    return FUNCTIONS[op.function], (op.slope, 0.0)


def linear(step: Lowering) -> None:
    """A Linear and its epilogue."""
    weight = columns(step.layer)
    if is_sparse(step.layer) and np.mean(weight != 0) < DENSE_FROM:
        x, kind, offset = _input(step, sparse=True)
        at = np.broadcast_to(np.arange(weight.shape[1]), weight.shape)
        _sparse(step, x, kind, Windows(run=weight.shape[1]), weight, at)
        return
    grid = None if _skips(step, F32, weight.shape[1], len(weight)) else of_linear(step.layer, weight, WIDTH)
    if grid is not None:
        _scatter(step, grid)
        return
    x, kind, offset = _input(step)
    if kind == U8 and step.isa != BYTES_ALWAYS and weight.size <= WIDENED and not _proven(step, weight, offset):
        x, kind, offset = step.copied(I16), I16, 0
    _dense(step, x, kind, offset, Windows(run=weight.shape[1]), weight[:, None, :])


def conv2d(step: Lowering) -> None:
    """A Conv2d and its epilogue, on ``(H, W, C)``."""
    op, weight = step.op, step.weight(step.op.weight)
    channels, height, width = step.layer.source_type.shape
    out, rows, cols = step.layer.node_type.shape
    _, group_in, kh, kw = weight.shape
    grid = None if is_sparse(step.layer) else of_conv2d(step.layer, WIDTH)
    if grid is not None:
        _scatter(step, grid)
        return
    dense = op.groups == 1 and not (is_sparse(step.layer) and np.mean(weight != 0) < DENSE_FROM)
    x, kind, offset = _input(step, sparse=not dense)
    line, (above, beside) = width * channels, op.padding
    if above or beside:
        bordered = step.buffer((height + 2 * above) * (line + 2 * beside * channels) + UNIT.get(kind, 1), kind)
        step.add("border", x, bordered, (kind, height, line, above, beside * channels, op.pad_value + offset))
        x, line = bordered, line + 2 * beside * channels
    windows = Windows(rows, cols, op.stride[0] * line, op.stride[1] * channels, kh, kw * group_in, line)
    if dense:
        _dense(step, x, kind, offset, windows, weight.transpose(0, 2, 3, 1).reshape(out, kh, -1))
        return
    group = np.arange(out) // (out // op.groups) * group_in
    inside = np.arange(kh)[:, None, None] * line + np.arange(kw)[:, None] * channels + np.arange(group_in)
    at = group[:, None] + inside.reshape(-1)
    _sparse(step, x, kind, windows, weight.transpose(0, 2, 3, 1).reshape(out, -1), at)


def _input(step: Lowering, sparse: bool = False) -> tuple[str, int, int]:
    """Where the inputs lie, their type, and what was added to them, ready for a kernel."""
    if real_weights(step.layer):
        return step.as_type(F32), F32, 0
    check_int_source(step.layer)
    if sparse:
        return step.x, step.type_x, 0
    if step.type_x == I8:
        return step.as_type(U8, 128), U8, 128
    # Whole groups of inputs are read: the arena has room for that, the caller's observation has not.
    if step.x == OBS and step.layer.source_type.shape[0] % UNIT[step.type_x]:
        return step.copied(step.type_x), step.type_x, 0
    return step.x, step.type_x, 0


def _dense(step: Lowering, x: str, kind: int, offset: int, windows: Windows, weight: Array) -> None:
    """All weights ``[out, runs, run]``."""
    out, unit = len(weight), UNIT[kind]
    bias = bias_of(step.layer, out)
    if kind == F32 and windows.count == windows.runs == 1 and out <= FEW_OUTPUTS <= windows.run:
        lines = pad_to(weight[:, 0], -(-windows.run // WIDTH) * WIDTH).astype(np.float32)
        _add(step, "dots_f32", x, kind, windows, out, WIDTH, 0, 0, NOWHERE, 0, [lines, bias], out)
        return
    if offset:
        # What was added to the inputs is taken off again; sums wrap around on the way, the result fits.
        bias = (bias - offset * weight.astype(np.int64).sum(axis=(1, 2))).astype(np.int32)
    width = -(-out // WIDTH) * WIDTH
    padded = pad_to(pad_to(weight, -(-windows.run // unit) * unit), width, axis=0)
    # [runs, run / unit, out, unit], in blocks of outputs
    ordered = padded.reshape(width, windows.runs, -1, unit).transpose(1, 2, 0, 3)
    block = WIDTH if windows.count > 1 else 64
    element = {F32: np.float32, U8: np.int8, I16: np.int16}[kind]
    packed = [ordered[:, :, start : start + block].astype(element).reshape(-1) for start in range(0, width, block)]
    proven = int(kind == U8 and _proven(step, padded.reshape(width, -1), offset))
    skips = _skips(step, kind, windows.run, out) and windows.count == windows.runs == 1
    scratch = step.buffer(2 * (windows.run + 16), I32) if skips else NOWHERE
    _add(step, {F32: "sums_f32", U8: "sums_u8", I16: "sums_i16"}[kind], x, kind, windows, out, block,
         int(skips), proven, scratch, 0, [np.concatenate(packed), pad_to(bias, width)], width)  # fmt: skip


def _skips(step: Lowering, kind: int, run: int, out: int) -> bool:
    """Whether a Linear compresses its inputs to those that are not 0 first."""
    real = kind == F32 and real_weights(step.layer)
    return real and step.layer.source in step.layer.layout.sparse and min(run, out) >= SKIPS_FROM


def _scatter(step: Lowering, grid: Grid) -> None:
    """Sums that each input which is not 0 is added to."""
    real, inputs, out = real_weights(step.layer), step.layer.source_type.size, step.layer.node_type.shape[0]
    if not real:
        check_int_source(step.layer)
    width = -(-out // WIDTH) * WIDTH
    epilogue = None if step.layer.step.epilogue is None else step.layer.step.epilogue.op
    function, reals = activation(epilogue if isinstance(epilogue, ops.Activation) else None)
    end = End() if real else _end(step, out, width)
    sizes: tuple[Size, ...] = (
        inputs, grid.lines, grid.run, grid.step, grid.pixels, width, grid.first * width, grid.rows, grid.cols, out,
        end.requantizes, end.zero_point, end.low, end.high, function, step.buffer(grid.pixels * width, I32),
        step.type_x, step.type_y, grid.weights.size,
    )  # fmt: skip
    weights, bias = grid.weights.astype(np.float32 if real else np.int32), pad_to(bias_of(step.layer, out), width)
    constants: list[Array | None] = [weights, bias, end.multiplier, end.shift, grid.places(inputs), grid.begins(inputs)]
    step.add("scatter_f32" if real else "scatter_int", step.x, step.y, sizes, reals, constants)


def _proven(step: Lowering, weight: Array, offset: int) -> bool:
    """Whether sums of two products of bytes fit int16, with the kernels that need that."""
    if step.isa != "avx2":
        return False
    border = step.op.pad_value if isinstance(step.op, ops.Conv2d) and step.op.padding != (0, 0) else 0
    top = 255 if offset else max(highest(step.layer.layout.graph, step.layer.source), border)
    return pairs_fit(pad_to(weight, -(-weight.shape[1] // 2) * 2), top)


def _sparse(step: Lowering, x: str, kind: int, windows: Windows, weight: Array, at: Array) -> None:
    """The weights ``[out, window]`` that are not 0, and where their inputs lie from the beginning of the window on."""
    present = weight != 0
    values = weight[present].astype(np.float32 if kind == F32 else np.int32)
    entries = [present.sum(axis=1).astype(np.int32), at[present].astype(np.int32)]
    constants: list[Array | None] = [values, bias_of(step.layer, len(weight))]
    op = "sparse_f32" if kind == F32 else "sparse_int"
    _add(step, op, x, kind, windows, len(weight), WIDTH, 0, 0, NOWHERE, len(values), constants, len(weight), entries)


def _add(
    step: Lowering, op: str, x: str, kind: int, windows: Windows, out: int, block: int, skips: int, proven: int,
    scratch: str, entries: int, constants: list[Array | None], width: int, places: list[Array] | None = None,
) -> None:  # fmt: skip
    """The instruction, its end included."""
    epilogue = None if step.layer.step.epilogue is None else step.layer.step.epilogue.op
    function, reals = activation(epilogue if isinstance(epilogue, ops.Activation) else None)
    end = _end(step, out, width) if kind != F32 else End()
    sizes: tuple[Size, ...] = (
        windows.rows, windows.cols, windows.step_y, windows.step_x, windows.runs, windows.run, windows.run_step,
        out, block, skips, proven, end.requantizes, end.zero_point, end.low, end.high, function, scratch, kind,
        step.type_y, entries,
    )  # fmt: skip
    step.add(op, x, step.y, sizes, reals, [*constants, end.multiplier, end.shift, *(places or ())])


def _end(step: Lowering, out: int, width: int) -> End:
    """How integer sums are stored; a power of two alone gets a multiplier, of the same value."""
    if step.layer.step.epilogue is None:
        return End()
    op = step.layer.step.epilogue.op
    assert isinstance(op, ops.Requantize)
    assert BYTES[step.type_y] == 1
    shift = step.weight(op.shift)
    raised = np.zeros_like(shift) if op.multiplier is not None else np.minimum(30, 62 - shift)
    multiplier = np.left_shift(1, raised) if op.multiplier is None else step.weight(op.multiplier)
    multiplier, shift = (np.broadcast_to(part, (out,)).astype(np.int32) for part in (multiplier, shift + raised))
    mode = 2 if shift.min() >= HIGH_SHIFT else 1
    return End(mode, op.zero_point, op.low, op.high, pad_to(multiplier, width), pad_shift(shift, width))
