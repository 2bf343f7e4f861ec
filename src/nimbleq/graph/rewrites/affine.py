"""Scales and shifts folded into their neighbours: observation normalisation, /255, BatchNorm.

Folded weights are computed in double and rounded once, so results change in their last bits only.
"""

from __future__ import annotations

import numpy as np

from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.rewrites.edit import float64_parameters, float_layer, rebuild, sole_producer, weight_name, with_layer
from nimbleq.graph.tensor import Float32
from nimbleq.types import Array


def _constants(graph: Graph, op: ops.Affine) -> tuple[Array, Array]:
    return graph.weights[op.scale].astype(np.float64), graph.weights[op.shift].astype(np.float64)


def fuse_affines(graph: Graph) -> Graph:
    """One Affine for two in a row, if that needs no more numbers."""
    for second in graph.nodes:
        first = sole_producer(graph, second.inputs[0], second)
        if first is None or not isinstance(second.op, ops.Affine) or not isinstance(first.op, ops.Affine):
            continue
        (scale1, shift1), (scale2, shift2) = _constants(graph, first.op), _constants(graph, second.op)
        scale, shift = scale1 * scale2, np.asarray(shift1 * scale2 + shift2)
        if scale.size + shift.size > scale1.size + shift1.size + scale2.size + shift2.size:
            continue
        names = weight_name(graph, second.op.scale, "scale"), weight_name(graph, second.op.shift, "shift")
        weights = {names[0]: np.asarray(scale, np.float32), names[1]: shift.astype(np.float32)}
        changes = {first.output: (), second.output: (Node(ops.Affine(*names), first.inputs, second.output),)}
        return rebuild(graph, changes, weights)
    return graph


def affine_into_next(graph: Graph) -> Graph:
    """``W·(s∘x + t) + b = (W·s)∘x + (b + W·t)``, also through a Flatten.

    Only if every reader of the Affine can absorb it. A shift cannot pass into a padded convolution:
    its border is zeros, not shifted zeros.
    """
    for affine in graph.nodes:
        if not isinstance(affine.op, ops.Affine) or affine.output in graph.outputs:
            continue
        readers = _readers(graph, affine)
        absorbed = [_absorbed(graph, affine, layer) for layer, _ in readers]
        if not readers or any(parameters is None for parameters in absorbed):
            continue
        for (layer, flatten), parameters in zip(readers, absorbed, strict=True):
            assert parameters is not None
            source = affine.inputs[0]
            if flatten is not None:
                graph = rebuild(graph, {flatten.output: (Node(flatten.op, (source,), flatten.output),)})
                source = flatten.output
            graph = with_layer(graph, layer, *parameters, source, layer.output)
        return graph
    return graph


def _readers(graph: Graph, affine: Node) -> list[tuple[Node, Node | None]]:
    """Readers of an Affine, each with the Flatten in between, if there is one."""
    readers: list[tuple[Node, Node | None]] = []
    for reader in graph.consumers(affine.output):
        if isinstance(reader.op, ops.Flatten) and reader.output not in graph.outputs:
            readers += [(layer, reader) for layer in graph.consumers(reader.output)]
        else:
            readers.append((reader, None))
    return readers


def _per_input(graph: Graph, affine: Node, layer: Node) -> tuple[Array, Array] | None:
    """Scale and shift for each input feature of a Linear or channel of a Conv2d; None if pixels differ."""
    assert isinstance(affine.op, ops.Affine)
    shape = graph.types[affine.output].shape
    full = [np.broadcast_to(constant, shape) for constant in _constants(graph, affine.op)]
    if isinstance(layer.op, ops.Linear):
        return full[0].reshape(-1), full[1].reshape(-1)
    first = [constant[:, :1, :1] for constant in full]
    same = all(np.array_equal(np.broadcast_to(one, shape), constant) for one, constant in zip(first, full, strict=True))
    return (first[0].reshape(-1), first[1].reshape(-1)) if same else None


def _absorbed(graph: Graph, affine: Node, layer: Node) -> tuple[Array, Array] | None:
    """Weight and bias of ``layer`` with the Affine before it folded in; None if that is impossible."""
    op = float_layer(graph, layer)
    constants = None if op is None else _per_input(graph, affine, layer)
    if op is None or constants is None:
        return None
    if isinstance(op, ops.Conv2d) and any(op.padding) and constants[1].any():
        return None
    weight, bias = float64_parameters(graph, op)
    if isinstance(op, ops.Linear):
        scale, shift = constants
        return weight * scale, bias + weight @ shift
    # Output channel o reads the input channels of its group.
    out, group_in = weight.shape[:2]
    first = np.arange(out) // (out // op.groups) * group_in
    channels = first[:, None] + np.arange(group_in)
    scale, shift = (constant[channels][:, :, None, None] for constant in constants)
    return weight * scale, bias + (weight * shift).sum(axis=(1, 2, 3))


def affine_into_previous(graph: Graph) -> Graph:
    """``s∘(W·x + b) + t = (s·W)·x + (s∘b + t)``: BatchNorm after a Linear or Conv2d."""
    for affine in graph.nodes:
        layer = sole_producer(graph, affine.inputs[0], affine)
        op = float_layer(graph, layer)
        if layer is None or op is None or not isinstance(affine.op, ops.Affine):
            continue
        constants = _per_output(graph, affine)
        if constants is None:
            continue
        scale, shift = constants
        weight, bias = float64_parameters(graph, op)
        scaled = weight * scale.reshape((-1,) + (1,) * (weight.ndim - 1))
        return with_layer(graph, layer, scaled, bias * scale + shift, layer.inputs[0], affine.output)
    return graph


def _per_output(graph: Graph, affine: Node) -> tuple[Array, Array] | None:
    """Scale and shift for each output of the layer before; None if pixels differ."""
    assert isinstance(affine.op, ops.Affine)
    kind = graph.types[affine.output]
    assert isinstance(kind.qtype, Float32)
    full = [
        np.broadcast_to(constant, kind.shape).reshape(kind.shape[0], -1) for constant in _constants(graph, affine.op)
    ]
    if any((constant != constant[:, :1]).any() for constant in full):
        return None
    return full[0][:, 0], full[1][:, 0]
