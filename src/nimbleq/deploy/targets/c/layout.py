"""How tensors are stored in C: element types, images with their channels innermost, and the variables they live in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

from nimbleq.errors import UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.encodings import DENSE
from nimbleq.graph.graph import MASK, STATE, Graph
from nimbleq.graph.tensor import TensorType
from nimbleq.types import Array

ALIGNMENT = 8
"""Bytes that the widest element needs."""
_NAME_LENGTH = 30
BYTES = {"float": 4, "int8_t": 1, "uint8_t": 1, "int16_t": 2, "uint16_t": 2, "int32_t": 4, "uint32_t": 4}
"""C type → bytes of one element."""


def c_type(kind: TensorType) -> str:
    """Element type in C.

    Raises:
        UnsupportedOpError: an unsigned integer of more than 31 bits.
    """
    number = kind.qtype
    if not number.is_integer:
        return "float"
    signed = number.low < 0
    if number.bits > 31 and not signed:
        raise UnsupportedOpError(f"of a {kind}", "c", "use at most 31 bits for unsigned integers")
    width = 8 if number.bits <= 8 else 16 if number.bits <= 16 else 32
    return f"{'int' if signed else 'uint'}{width}_t"


def is_image(kind: TensorType) -> bool:
    """True for ``(C, H, W)``, which lies as ``(H, W, C)`` in the arena."""
    return len(kind.shape) == 3


def permutes(kind: TensorType) -> bool:
    """True when ``(C, H, W)`` and ``(H, W, C)`` order the elements differently."""
    return is_image(kind) and kind.shape[0] > 1 and kind.shape[1] * kind.shape[2] > 1


def c_names(names: Iterable[str]) -> dict[str, str]:
    """Each of ``names`` as a part of a C name that no other one has."""
    made: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:_NAME_LENGTH].strip("_") or "tensor"
        known, count = {text.lower() for text in made.values()}, 2
        unique = plain
        while unique.lower() in known:
            unique, count = f"{plain}_{count}", count + 1
        made[name] = unique
    return made


@dataclass(frozen=True)
class Layout:
    """Where the tensors of a graph are.

    Attributes:
        graph: the policy.
        names: tensor → what it is called in C.
        roots: tensor → the tensor whose memory it uses (itself, or the input of a Flatten that moves nothing).
        free_flattens: outputs of a Flatten that only dense Linear ops read: these permute their weights instead.
        raw_obs: the observation when it stays ``(C, H, W)`` because nothing but Flatten reads it.
        sparse: tensors with exact zeros worth skipping (a ReLU made them, or they are `bits`).
        bits: tensors that hold the values of a binary observation, most of them 0.
        skips: whether steps may depend on the observation.
        unpacked: bytes more that a weight may take unpacked, where code that unpacks it would take more.
        words: tensors of bytes that are stored as int16 → which element is stored at each place.
    """

    graph: Graph
    names: Mapping[str, str]
    roots: Mapping[str, str]
    free_flattens: frozenset[str]
    raw_obs: str | None
    sparse: frozenset[str]
    bits: frozenset[str] = frozenset()
    skips: bool = True
    words: Mapping[str, Array] = field(default_factory=dict)
    unpacked: int = 0

    @classmethod
    def of(
        cls,
        graph: Graph,
        skips: bool = True,
        words: Mapping[str, Array] | None = None,
        unpacked: int = 0,
        binary: bool = False,
    ) -> Self:
        """The layout of ``graph``; without ``skips`` no zeros are worth skipping. ``binary``: of its observations."""
        free, obs = _free_flattens(graph), graph.obs_name
        raw = not permutes(graph.obs_type) or all(isinstance(node.op, ops.Flatten) for node in graph.consumers(obs))
        raw_obs = obs if raw and obs not in graph.outputs else None
        roots: dict[str, str] = {}
        for tensor in graph.types:
            producer, roots[tensor] = graph.producer(tensor), tensor
            if producer is not None and isinstance(producer.op, ops.Flatten):
                (source,) = producer.inputs
                if tensor in free or source == raw_obs or not permutes(graph.types[source]):
                    roots[tensor] = roots[source]
        bits = _bits(graph) if binary and skips else frozenset[str]()
        sparse = _sparse(graph) | bits if skips else bits
        return cls(graph, c_names(graph.types), roots, free, raw_obs, sparse, bits, skips, words or {}, unpacked)

    @cached_property
    def variables(self) -> dict[str, str]:
        """Tensor → C expression of its first element's address."""
        found = {tensor: f"t_{self.names[root]}" for tensor, root in self.roots.items()}
        if self.raw_obs is not None:
            found |= {tensor: "obs" for tensor, root in self.roots.items() if root == self.raw_obs}
        return found | ({MASK: "mask"} if self.graph.masked else {}) | ({STATE: "state"} if self.graph.units else {})

    def element(self, tensor: str) -> str:
        """C type of its elements."""
        return "int16_t" if tensor in self.words else c_type(self.graph.types[tensor])

    def in_arena(self, tensor: str) -> bool:
        """False for what the caller holds."""
        return self.roots[tensor] != self.raw_obs and tensor not in (MASK, STATE)


def _free_flattens(graph: Graph) -> frozenset[str]:
    return frozenset(
        node.output
        for node in graph.nodes
        if isinstance(node.op, ops.Flatten)
        and node.output not in graph.outputs
        and all(_is_dense_linear(graph, reader.op) for reader in graph.consumers(node.output))
    )


def _is_dense_linear(graph: Graph, op: ops.Op) -> bool:
    return isinstance(op, ops.Linear) and (op.weight not in graph.storage or graph.storage[op.weight].encoding == DENSE)


def _bits(graph: Graph) -> frozenset[str]:
    """The observation, and what holds its values with the same zeros."""
    found = {graph.obs_name}
    for node in graph.nodes:
        op, moves = node.op, isinstance(node.op, ops.Flatten | ops.Slice | ops.Unflatten)
        quantized = isinstance(op, ops.Quantize) and not op.zero_points(graph.weights).any()
        scaled = isinstance(op, ops.Affine) and not graph.weights[op.shift].any()
        if node.inputs[0] in found and (moves or quantized or scaled):
            found.add(node.output)
    return frozenset(found)


def _sparse(graph: Graph) -> frozenset[str]:
    sparse: set[str] = set()
    for node in graph.nodes:
        relu = isinstance(node.op, ops.Activation) and node.op.function == "relu"
        floor = isinstance(node.op, ops.Requantize) and node.op.zero_point == node.op.low == 0
        moved = isinstance(node.op, ops.Flatten) and node.inputs[0] in sparse
        if relu or floor or moved:
            sparse.add(node.output)
    return frozenset(sparse)
