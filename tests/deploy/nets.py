"""Small policies with known shapes for the tests of deployment."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.tensor import UINT8, TensorType


def mlp(*widths: int, seed: int = 0) -> Graph:
    """A float ReLU network ``widths[0] → … → widths[-1]``."""
    rng = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {}
    nodes: list[Node] = []
    tensor = "obs"
    for index, (n_in, n_out) in enumerate(pairwise(widths)):
        last = index == len(widths) - 2
        weights[f"w{index}"] = (rng.normal(size=(n_out, n_in)) / np.sqrt(n_in / 2)).astype(np.float32)
        weights[f"b{index}"] = (rng.normal(size=n_out) * 0.05).astype(np.float32)
        nodes.append(Node(ops.Linear(f"w{index}", f"b{index}"), (tensor,), "q" if last else f"h{index}"))
        if not last:
            nodes.append(Node(ops.Activation("relu"), (f"h{index}",), f"r{index}"))
            tensor = f"r{index}"
    nodes.append(Node(ops.ArgMax(), ("q",), "action"))
    return Graph({"obs": TensorType((widths[0],))}, tuple(nodes), ("q", "action"), weights)


def int_mlp(*widths: int, seed: int = 0, shift: int = 38, high: int = 255) -> Graph:
    """An int8 network; ``shift`` below 31 leaves the range of the vector code, ``high`` clamps hidden bytes."""
    rng = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {
        "inverse": np.full(widths[0], 32, np.float32),
        "zero": np.full(widths[0], 128, np.int32),
        "scale": np.full(1, 0.01, np.float32),
        "none": np.zeros(1, np.int32),
    }
    nodes = [Node(ops.Quantize("inverse", "zero", 8, False), ("obs",), "x")]
    tensor = "x"
    for index, (n_in, n_out) in enumerate(pairwise(widths)):
        weights[f"w{index}"] = rng.integers(-128, 128, (n_out, n_in)).astype(np.int8)
        offset = (128 if index == 0 else 0) * weights[f"w{index}"].astype(np.int64).sum(axis=1)
        weights[f"b{index}"] = (rng.integers(-500, 500, n_out) - offset).astype(np.int32)
        nodes.append(Node(ops.Linear(f"w{index}", f"b{index}"), (tensor,), f"a{index}"))
        tensor = f"a{index}"
        if index < len(widths) - 2:
            weights[f"m{index}"] = rng.integers(2**30, 2**31, n_out).astype(np.int32)
            weights[f"s{index}"] = np.full(n_out, shift, np.int32)
            requantize = ops.Requantize(f"m{index}", f"s{index}", 0, 0, high, 8, False)
            nodes.append(Node(requantize, (tensor,), f"r{index}"))
            tensor = f"r{index}"
    nodes += [Node(ops.ArgMax(), (tensor,), "action"), Node(ops.Dequantize("scale", "none"), (tensor,), "q")]
    return Graph({"obs": TensorType((widths[0],))}, tuple(nodes), ("q", "action"), weights)


def int_conv(channels: int = 19, padding: tuple[int, int] = (1, 0), high: int = 127, seed: int = 0) -> Graph:
    """An int8 network on uint8 images: two convolutions and a linear layer, hidden bytes in ``0..high``."""
    rng = np.random.default_rng(seed)
    rows, cols = 8 + 2 * padding[0] - 2, 8 + 2 * padding[1] - 1
    shapes = [(8, 4, 2, 1), (channels, 8, 3, 2), (5, channels * rows * cols)]
    weights: dict[str, np.ndarray] = {"scale": np.full(1, 0.01, np.float32), "none": np.zeros(1, np.int32)}
    for index, shape in enumerate(shapes):
        weights[f"w{index}"] = np.clip(rng.normal(size=shape) * 30, -127, 127).astype(np.int8)
        weights[f"m{index}"] = rng.integers(2**30, 2**31, shape[0]).astype(np.int32)
        weights[f"s{index}"] = np.full(shape[0], 37, np.int32)
    nodes = (
        Node(ops.Conv2d("w0"), ("obs",), "a0"),
        Node(ops.Requantize("m0", "s0", 0, 0, high, 8, False), ("a0",), "r0"),
        Node(ops.Conv2d("w1", None, (1, 1), padding, pad_value=3), ("r0",), "a1"),
        Node(ops.Requantize("m1", "s1", 7, 2, high, 8, False), ("a1",), "r1"),
        Node(ops.Flatten(), ("r1",), "flat"),
        Node(ops.Linear("w2"), ("flat",), "a2"),
        Node(ops.ArgMax(), ("a2",), "action"),
        Node(ops.Dequantize("scale", "none"), ("a2",), "q"),
    )
    return Graph({"obs": TensorType((4, 9, 8), UINT8)}, nodes, ("q", "action"), weights)


def pictures_and_numbers() -> Graph:
    """A vector that holds a picture ``(2, 5, 4)`` and three numbers: convolution beside numbers, then a layer."""
    rng = np.random.default_rng(0)
    weights = {
        "conv.w": rng.normal(size=(6, 2, 3, 3)).astype(np.float32),
        "conv.b": rng.normal(size=6).astype(np.float32),
        "head.w": rng.normal(size=(3, 6 * 3 * 2 + 3)).astype(np.float32),
    }
    nodes = (
        Node(ops.Slice(0, 40), ("obs",), "pixels"),
        Node(ops.Unflatten(2, 5, 4), ("pixels",), "picture"),
        Node(ops.Conv2d("conv.w", "conv.b"), ("picture",), "camera/conv.0"),
        Node(ops.Activation("relu"), ("camera/conv.0",), "seen"),
        Node(ops.Flatten(), ("seen",), "flat"),
        Node(ops.Slice(40, 43), ("obs",), "numbers"),
        Node(ops.Concat(), ("flat", "numbers"), "both"),
        Node(ops.Linear("head.w"), ("both",), "q"),
        Node(ops.ArgMax(), ("q",), "action"),
    )
    return Graph({"obs": TensorType((43,))}, nodes, ("q", "action"), weights)


def in_one_unit(graphs: Sequence[Graph], **options: Any) -> dict[str, str]:
    """The C of all, as ``net0``, ``net1`` …, their code in one file: a processor's headers, a MB, are read once."""
    files: dict[str, str] = {}
    for index, graph in enumerate(graphs):
        files |= emit_c(graph, f"net{index}", **options)
    headers = {name: text for name, text in files.items() if name.endswith(".h")}
    return {**headers, "nets.c": "".join(text for name, text in files.items() if name.endswith(".c"))}
