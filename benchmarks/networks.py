"""Networks with random weights for the benchmarks; scales are chosen so that about half of each layer is zero."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.tensor import UINT8, TensorType
from nimbleq.types import Array

NATURE_CONVOLUTIONS = ((32, 4, 8, 4), (64, 32, 4, 2), (64, 64, 3, 1))
"""Output channels, input channels, kernel, stride."""


def mlp(*widths: int, seed: int = 0) -> Graph:
    """A float ReLU network."""
    rng = np.random.default_rng(seed)
    weights: dict[str, Array] = {}
    nodes: list[Node] = []
    tensor = "obs"
    for index, (n_in, n_out) in enumerate(pairwise(widths)):
        last = index == len(widths) - 2
        weights |= _float_layer(rng, index, (n_out, n_in))
        nodes.append(Node(ops.Linear(f"w{index}", f"b{index}"), (tensor,), "q" if last else f"h{index}"))
        if not last:
            nodes.append(Node(ops.Activation("relu"), (f"h{index}",), f"r{index}"))
            tensor = f"r{index}"
    nodes.append(Node(ops.ArgMax(), ("q",), "action"))
    return Graph({"obs": TensorType((widths[0],))}, tuple(nodes), ("q", "action"), weights)


def int_mlp(*widths: int, seed: int = 0) -> Graph:
    """The same in int8."""
    rng = np.random.default_rng(seed)
    weights: dict[str, Array] = {
        "inverse": np.full(widths[0], 32, np.float32),
        "zero": np.full(widths[0], 128, np.int32),
    }
    nodes = [Node(ops.Quantize("inverse", "zero", 8, False), ("obs",), "x")]
    tensor = "x"
    for index, (n_in, n_out) in enumerate(pairwise(widths)):
        weights |= _int_layer(rng, index, (n_out, n_in), 128 if index == 0 else 0, 60)
        nodes.append(Node(ops.Linear(f"w{index}", f"b{index}"), (tensor,), f"a{index}"))
        tensor = f"a{index}"
        if index < len(widths) - 2:
            nodes.append(Node(_requantize(index), (tensor,), f"r{index}"))
            tensor = f"r{index}"
    return _int_graph(TensorType((widths[0],)), nodes, tensor, weights)


def nature(integer: bool = False, scaled: bool = False, seed: int = 0) -> Graph:
    """The network of Mnih et al. 2015 on uint8 images ``(4, 84, 84)``, six actions.

    Args:
        scaled: /255 is an op of its own instead of being folded into the first layer.
    """
    rng = np.random.default_rng(seed)
    weights: dict[str, Array] = {}
    nodes: list[Node] = []
    tensor = "obs"
    if scaled:
        weights |= {"gain": np.full((), 1 / 255, np.float32), "offset": np.zeros((), np.float32)}
        nodes.append(Node(ops.Affine("gain", "offset"), ("obs",), "real"))
        tensor = "real"
    shapes: list[tuple[int, ...]] = [(o, c, k, k) for o, c, k, _ in NATURE_CONVOLUTIONS]
    for index, shape in enumerate([*shapes, (512, 3136), (6, 512)]):
        if integer:
            weights |= _int_layer(rng, index, shape, 0, 120 if index == 0 else 50)
        else:
            weights |= _float_layer(rng, index, shape, 1 / 255 if index == 0 and not scaled else 1.0)
        names = (f"w{index}", f"b{index}")
        stride = NATURE_CONVOLUTIONS[index][3] if index < 3 else 1
        last = index == 4
        op = ops.Conv2d(*names, (stride, stride)) if index < 3 else ops.Linear(*names)
        made = "q" if last and not integer else f"a{index}"
        nodes.append(Node(op, (tensor,), made))
        tensor = made
        if not last:
            nodes.append(Node(_requantize(index) if integer else ops.Activation("relu"), (tensor,), f"r{index}"))
            tensor = f"r{index}"
        if index == 2:
            nodes.append(Node(ops.Flatten(), (tensor,), "flat"))
            tensor = "flat"
    kind = TensorType((4, 84, 84), UINT8)
    if integer:
        return _int_graph(kind, nodes, tensor, weights)
    nodes.append(Node(ops.ArgMax(), ("q",), "action"))
    return Graph({"obs": kind}, tuple(nodes), ("q", "action"), weights)


def _float_layer(rng: np.random.Generator, index: int, shape: tuple[int, ...], gain: float = 1.0) -> dict[str, Array]:
    scale = gain / np.sqrt(np.prod(shape[1:]) / 2)
    return {
        f"w{index}": (rng.normal(size=shape) * scale).astype(np.float32),
        f"b{index}": (rng.normal(size=shape[0]) * 0.05).astype(np.float32),
    }


def _int_layer(
    rng: np.random.Generator, index: int, shape: tuple[int, ...], zero_point: int, level: int
) -> dict[str, Array]:
    """``level``: typical input, from which the shift that brings sums back to bytes follows."""
    weight = np.clip(rng.normal(size=shape) * 40, -127, 127).astype(np.int8)
    offset = zero_point * weight.reshape(shape[0], -1).astype(np.int64).sum(axis=1)
    fan_in = float(np.prod(shape[1:]))
    shift = int(31 + np.log2(40 * level * np.sqrt(fan_in) / 80))
    return {
        f"w{index}": weight,
        f"b{index}": (rng.normal(size=shape[0]) * 50 - offset).astype(np.int32),
        f"m{index}": rng.integers(2**30, 2**31, shape[0]).astype(np.int32),
        f"s{index}": np.full(shape[0], shift, np.int32),
    }


def _requantize(index: int) -> ops.Requantize:
    return ops.Requantize(f"m{index}", f"s{index}", 0, 0, 255, 8, False)


def _int_graph(obs: TensorType, nodes: list[Node], tensor: str, weights: dict[str, Array]) -> Graph:
    weights |= {"scale": np.full(1, 0.01, np.float32), "none": np.zeros(1, np.int32)}
    ends = (Node(ops.ArgMax(), (tensor,), "action"), Node(ops.Dequantize("scale", "none"), (tensor,), "q"))
    return Graph({"obs": obs}, (*nodes, *ends), ("q", "action"), weights)
