"""ONNX ops that change, join or cut shapes, as ops of the layer graph; see `nimbleq.bridge.onnx_ops`."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from nimbleq.bridge.onnx_making import Attributes, Making, Table, Unfit
from nimbleq.graph import ops
from nimbleq.graph.tensor import TensorType


def flatten(making: Making, attributes: Attributes, source: Any) -> str:
    if attributes.get("axis", 1) != 1:
        raise Unfit("it must keep the batch axis (axis 1)")
    return source if len(making.types[source].shape) == 1 else making.emit(ops.Flatten(), source)


def reshape(making: Making, attributes: Attributes, source: Any, shape: Any) -> Any:
    sides = [int(side) for side in np.asarray(shape).reshape(-1)]
    size, own = making.types[source].size, making.types[source].shape
    known = prod(side for side in sides[1:] if side > 0)
    wanted = tuple(size // known if side == -1 else side for side in sides[1:])
    if sides[:1] not in ([-1], [0], [1]) or prod(wanted) != size or 0 in wanted:
        raise Unfit(f"to {sides}: it must keep the batch axis")
    return _as_shape(making, source, own, wanted)


def _as_shape(making: Making, source: str, own: tuple[int, ...], wanted: tuple[int, ...]) -> Any:
    if wanted == own:
        return source
    flat = source if len(own) == 1 else making.emit(ops.Flatten(), source)
    if len(wanted) == 1:
        return flat
    if len(wanted) == 3:
        return making.emit(ops.Unflatten(*wanted), flat)
    if len(wanted) == 2:
        return Table(making.as_float(flat), *wanted)
    raise Unfit(f"to {wanted}: the graph has vectors, tables and images (C, H, W)")


def squeeze(making: Making, attributes: Attributes, source: Any, axes: Any = None) -> Any:
    own = making.types[source].shape
    given = attributes.get("axes") if axes is None else np.asarray(axes).reshape(-1)
    if given is None:
        raise Unfit("it must name its axes, without the batch axis")
    drop = {int(axis) % (len(own) + 1) for axis in given}
    if 0 in drop:
        raise Unfit("it must keep the batch axis")
    return _as_shape(making, source, own, tuple(side for at, side in enumerate(own, 1) if at not in drop))


def concat(making: Making, attributes: Attributes, *sources: Any) -> str:
    if attributes.get("axis") != 1 or not all(isinstance(source, str) for source in sources):
        raise Unfit("it must join tensors along the first axis after the batch (axis 1)")
    return making.emit(ops.Concat(), *sources)


def transpose(making: Making, attributes: Attributes, source: Any) -> str:
    """Channels first: the observation's own order of axes, where nothing has read it in the other order."""
    chain, at = [], source
    makers = {node.output: node for node in making.nodes}
    while at in makers and isinstance(makers[at].op, ops.Affine):
        scalar = all(making.weights[name].size == 1 for name in makers[at].op.weight_names())
        if not scalar or at not in making.once:
            break
        chain.append(at)
        (at,) = makers[at].inputs
    first = not making.moves or at in makers or at not in making.once
    if first or tuple(attributes.get("perm", ())) != (0, 3, 1, 2) or len(making.types[at].shape) != 3:
        raise Unfit("only an observation with channels last can be moved, to channels first, before anything else")
    height, width, channels = making.types[at].shape
    for name in (at, *chain):
        making.types[name] = TensorType((channels, height, width), making.types[name].qtype)
    return str(source)


def part(making: Making, attributes: Attributes, source: Any, *parts: Any) -> str:
    starts, ends, axes, steps = ([int(v) for v in np.asarray(part).reshape(-1)] for part in (*parts, [1])[:4])
    shape = making.types[source].shape
    if len(shape) != 1 or axes not in ([1], [-1]) or steps != [1]:
        raise Unfit("the graph has only parts of a vector, without gaps")
    start, stop, _ = slice(starts[0], ends[0]).indices(shape[0])
    return making.emit(ops.Slice(start, stop), source)
