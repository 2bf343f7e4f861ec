"""Formats and encodings: every row holds exactly what it says, in as many bytes as it says, under every op."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbleq.errors import FileError, GraphError
from nimbleq.graph import codec, ops
from nimbleq.graph.artefact import load_artefact, save_artefact
from nimbleq.graph.cost import cost
from nimbleq.graph.encodings import DENSE, ENCODINGS, Encoding, from_matrix, matrix
from nimbleq.graph.formats import FLOAT32, FORMATS, INT8, Format, Int
from nimbleq.graph.golden import make_golden
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.interpret import interpret
from nimbleq.graph.ops import OPS
from nimbleq.graph.rewrites.edit import rebuild
from nimbleq.graph.tensor import INT32, UINT8, TensorType
from nimbleq.graph.weight import Storage
from nimbleq.types import Array

RNG = np.random.default_rng(0)
VECTOR, IMAGE = TensorType((6,)), TensorType((2, 4, 3))
BYTES, SUMS = TensorType((6,), UINT8), TensorType((6,), INT32)


def real(*shape: int) -> Array:
    return (RNG.normal(size=shape) * 3).astype(np.float32)


def whole(dtype: type, *shape: int) -> Array:
    return RNG.integers(1, 60, shape).astype(dtype)


def sparse(values: Array) -> Array:
    """``values`` with one of four columns left, so that every encoding holds them."""
    flat = matrix(values).copy()
    flat[:, np.arange(flat.shape[1]) % 4 != 1] = 0
    return from_matrix(flat, values.shape)


CASES: dict[str, list[tuple[ops.Op, tuple[TensorType, ...], dict[str, Array]]]] = {
    "Affine": [(ops.Affine("a", "b"), (VECTOR,), {"a": real(6), "b": real(6)})],
    "Linear": [
        (ops.Linear("a", "b"), (VECTOR,), {"a": real(4, 6), "b": real(4)}),
        (ops.Linear("a", "b"), (BYTES,), {"a": whole(np.int8, 4, 6), "b": whole(np.int32, 4)}),
        (ops.Linear("a", "b"), (VECTOR,), {"a": sparse(real(7, 6)), "b": real(7)}),
        (ops.Linear("a", "b"), (BYTES,), {"a": sparse(whole(np.int8, 7, 6)), "b": whole(np.int32, 7)}),
    ],
    "Conv2d": [
        (ops.Conv2d("a", "b", padding=(1, 1)), (IMAGE,), {"a": real(3, 2, 2, 2), "b": real(3)}),
        (
            ops.Conv2d("a", "b", padding=(1, 1), pad_value=7),
            (replace(IMAGE, qtype=UINT8),),
            {"a": whole(np.int8, 3, 2, 2, 2), "b": whole(np.int32, 3)},
        ),
        (ops.Conv2d("a", "b", padding=(1, 1)), (IMAGE,), {"a": sparse(real(5, 2, 3, 2)), "b": real(5)}),
        (
            ops.Conv2d("a", "b", (1, 2), (1, 1), pad_value=7),
            (replace(IMAGE, qtype=UINT8),),
            {"a": sparse(whole(np.int8, 5, 2, 3, 2)), "b": whole(np.int32, 5)},
        ),
    ],
    "Activation": [(ops.Activation("relu"), (VECTOR,), {})],
    "Tanh": [(ops.Tanh(), (VECTOR,), {}), (ops.Tanh(), (IMAGE,), {})],
    "LayerNorm": [(ops.LayerNorm("a", "b"), (VECTOR,), {"a": real(6), "b": real(6)})],
    "Pool": [
        (ops.Pool("max", (2, 2), (1, 1), (1, 1)), (IMAGE,), {}),
        (ops.Pool("sum", (3, 2), (1, 1)), (replace(IMAGE, qtype=UINT8),), {}),
    ],
    "Flatten": [(ops.Flatten(), (IMAGE,), {})],
    "ChannelShuffle": [
        (ops.ChannelShuffle(3), (TensorType((6, 2, 3)),), {}),
        (ops.ChannelShuffle(2), (TensorType((6, 2, 3), UINT8),), {}),
    ],
    "Slice": [(ops.Slice(1, 4), (VECTOR,), {})],
    "Unflatten": [(ops.Unflatten(1, 2, 3), (VECTOR,), {})],
    "Add": [(ops.Add(), (VECTOR, VECTOR), {})],
    "Concat": [(ops.Concat(), (VECTOR, VECTOR), {})],
    "Dueling": [(ops.Dueling(), (TensorType((1,)), VECTOR), {})],
    "Expectation": [(ops.Expectation("a"), (VECTOR,), {"a": real(3)})],
    "Quantize": [
        (ops.Quantize("a", "b"), (VECTOR,), {"a": np.abs(real(6)), "b": whole(np.int32, 6)}),
        (ops.Quantize("a", None), (VECTOR,), {"a": np.abs(real(1))}),
        (ops.Quantize("a", None, 12), (VECTOR,), {"a": np.abs(real(6))}),
    ],
    "Dequantize": [
        (ops.Dequantize("a", "b"), (BYTES,), {"a": real(6), "b": whole(np.int32, 6)}),
        (ops.Dequantize(None, "b"), (BYTES,), {"b": whole(np.int32, 6)}),
        (ops.Dequantize("a", None), (SUMS,), {"a": real(6)}),
        (ops.Dequantize(None, None), (SUMS,), {}),
    ],
    "Requantize": [
        (ops.Requantize("a", "b", 3, 0, 255), (SUMS,), {"a": whole(np.int32, 6) << 24, "b": whole(np.int32, 6)}),
        (ops.Requantize(None, "b", 3, -9, 900, 12, True), (SUMS,), {"b": np.array([1, 3, 5, 7, 12, 31], np.int32)}),
    ],
    "ObliqueTree": [
        (
            ops.ObliqueTree("a", "b", "c", 4),
            (VECTOR,),
            {"a": real(7, 6), "b": real(7), "c": np.arange(8, dtype=np.int8) % 4},
        ),
        (
            ops.ObliqueTree("a", "b", "c", 3),
            (BYTES,),
            {"a": whole(np.int8, 3, 6) - np.int8(30), "b": whole(np.int32, 3), "c": whole(np.int8, 4, 3)},
        ),
    ],
    "AxisTree": [
        (
            ops.AxisTree("a", "b", "c", 4),
            (VECTOR,),
            {"a": np.array([1, 5, 1], np.int8), "b": real(3), "c": real(4, 4)},
        ),
        (
            ops.AxisTree("a", "b", "c", 3),
            (BYTES,),
            {"a": np.array([0, 5, 2], np.int8), "b": whole(np.int32, 3), "c": np.array([2, 0, 1, 2], np.int8)},
        ),
    ],
    "ArgMax": [(ops.ArgMax(), (VECTOR,), {})],
    "GRU": [(ops.GRU(), (VECTOR, VECTOR, TensorType((2,))), {})],
    "BranchArgMax": [(ops.BranchArgMax((2, 1, 3)), (VECTOR,), {})],
}


EITHER_TYPE = {("ObliqueTree", "b"), ("ObliqueTree", "c"), ("AxisTree", "a"), ("AxisTree", "b"), ("AxisTree", "c")}
"""Weights of an op that may be of more than one type."""


def test_every_op_has_a_case() -> None:
    assert CASES.keys() == OPS.keys()


def held(values: Array, number: Format) -> Array:
    """The values of ``number`` that are nearest to ``values``."""
    return number.decode(number.encode(values))


def suits(op: ops.Op, inputs: dict[str, TensorType], weights: dict[str, Array]) -> bool:
    """Whether ``op`` takes such weights; else it says in one line why not."""
    try:
        Graph(inputs, (Node(op, tuple(inputs), "y"),), ("y",), weights)
    except GraphError as error:
        return "\n" in str(error)
    return True


@pytest.mark.parametrize("number", FORMATS)
@pytest.mark.parametrize("kind", OPS)
def test_an_op_does_the_same_however_its_weights_are_held(kind: str, number: str) -> None:
    for (op, sources, weights), encoding in product(CASES[kind], ENCODINGS.values()):
        how = Storage(FORMATS[number], encoding)
        inputs = {f"x{at}": source for at, source in enumerate(sources)}
        feed = {
            name: whole(np.int32, 5, *t.shape) if t.qtype.is_integer else real(5, *t.shape)
            for name, t in inputs.items()
        }
        for name in weights:
            values = held(weights[name], how.format)
            changed = {**weights, name: values}
            either = (kind, name) in EITHER_TYPE
            if not suits(op, inputs, changed):
                assert either or values.dtype != weights[name].dtype or kind == "Requantize"
                continue
            graph = Graph(inputs, (Node(op, tuple(inputs), "y"),), ("y",), changed)
            if how.encoding.misfit(how.format.encode(values), how.format):
                with pytest.raises(GraphError, match=r"^[^\n]+$"):
                    graph.with_storage({name: how})
                continue
            otherwise = graph.with_storage({name: how})
            assert np.array_equal(otherwise.stored(name).values, values)
            assert np.array_equal(interpret(otherwise, feed)["y"], interpret(graph, feed)["y"])
            packed = how.encoding.pack(how.format.encode(values), how.format)
            assert otherwise.stored(name).nbytes == len(packed)
            rest = sum(graph.stored(other).nbytes for other in weights if other != name)
            assert cost(otherwise).size_bytes == len(packed) + rest
            assert cost(otherwise).macs <= cost(graph).macs


@pytest.mark.parametrize("number", FORMATS.values(), ids=str)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shape=st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_bytes_hold_the_codes(number: Format, seed: int, shape: list[int]) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=shape) * rng.choice([0.1, 10.0, 1e6]) * (rng.random(shape) < rng.random() ** 3)
    for encoding in ENCODINGS.values():
        assert_bytes_hold_the_codes(number, encoding, values)


def assert_bytes_hold_the_codes(number: Format, encoding: Encoding, values: Array) -> None:
    if encoding.misfit(number.encode(values), number):
        values = sparse(values)
    values = held(values, number)
    number.check(values)
    codes = number.encode(values)
    if number.low > 0 and encoding.misfit(codes, number):
        return  # a format without zero
    data = encoding.pack(codes, number)
    assert len(data) == encoding.nbytes(codes, number)
    assert np.array_equal(number.decode(encoding.unpack(data, values.shape, number)), values)
    assert np.abs(values).max() <= number.largest
    with pytest.raises(GraphError):
        encoding.unpack(data + b"\0", values.shape, number)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4, 7, 8, 11, 16, 24, 31, 32])
def test_integers_of_any_width_pack_without_gaps(bits: int, signed: bool) -> None:
    if bits == 32 and not signed:
        return
    number = Int(bits, signed)
    values = np.linspace(number.low, number.high, 13).round().astype(number.dtype)
    data = DENSE.pack(number.encode(values), number)
    assert len(data) == (13 * bits + 7) // 8
    assert np.array_equal(number.decode(DENSE.unpack(data, (13,), number)), values)
    assert (number.encode(np.array([-1e12, 1e12])) == (number.low, number.high)).all()


@dataclass(frozen=True)
class Ternary(Format):
    """−1, 0 or 1 in two bits: what a new row needs to say."""

    bits: int = field(default=2, init=False)
    dtype = np.dtype(np.int8)  # type: ignore[assignment]
    low, high = -1.0, 1.0  # type: ignore[assignment]

    def encode(self, values: Array) -> Array:
        return (np.clip(np.rint(values), -1, 1) + 1).astype(np.uint8)

    def decode(self, codes: Array) -> Array:
        return (codes.astype(np.int64) - 1).astype(np.int8)

    def accept(self, array: Array) -> Array:
        raise GraphError("is no observation")

    def __str__(self) -> str:
        return "ternary"


def integer_policy(values: Array) -> Graph:
    nodes = (
        Node(ops.Linear("w"), ("obs",), "sums"),
        Node(ops.Dequantize("scale", "zero"), ("sums",), Q),
        Node(ops.ArgMax(), ("sums",), ACTION),
    )
    weights = {"w": values, "scale": np.ones(1, np.float32), "zero": np.zeros(1, np.int32)}
    return Graph({"obs": TensorType((values.shape[1],), UINT8)}, nodes, (Q, ACTION), weights)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Storage:
    """A format added to the table, as a new row is, and an encoding."""
    monkeypatch.setitem(FORMATS, "ternary", Ternary())
    return Storage(Ternary(), ENCODINGS["bitmap"])


def test_a_new_row_is_measured_saved_and_run(toy: Storage, tmp_path: Path) -> None:
    values = RNG.integers(-1, 2, (5, 20)).astype(np.int8)
    plain = integer_policy(values)
    assert cost(plain.with_storage({"w": Storage(Ternary())})).size_bytes == 25 + 8
    graph = plain.with_storage({"w": toy})
    nonzero = int((values != 0).sum())
    assert cost(graph).macs == nonzero < cost(plain).macs == 100
    assert cost(graph).size_bytes == 13 + (2 * nonzero + 7) // 8 + 8
    obs = RNG.integers(0, 256, (9, 20)).astype(np.uint8)
    opened = save_artefact(tmp_path / "a", graph, obs, {}).graph
    assert opened.storage == {"w": toy}
    assert np.array_equal(opened.weights["w"], values)
    assert np.array_equal(interpret(opened, obs)[Q], interpret(plain, obs)[Q])
    assert json.loads((tmp_path / "a" / "model.json").read_text())["format"] == 2
    assert pickle.loads(pickle.dumps(graph)).storage == graph.storage


def test_storage_stays_with_the_weight_that_it_is_of() -> None:
    graph = integer_policy(RNG.integers(-7, 8, (3, 4)).astype(np.int8)).with_storage({"w": Storage(Int(4, True))})
    assert graph.stored("w").nbytes == 6
    assert replace(graph, outputs=(Q,)).storage == graph.storage
    assert rebuild(graph, {}).storage == graph.storage
    wide = np.full((3, 4), 100, np.int8)
    assert graph.with_weights({"w": wide}).storage == {}
    assert rebuild(graph, {}, {"w": wide}).storage == {}
    assert graph.with_storage({"w": Storage(INT8)}).storage == {}
    with pytest.raises(GraphError, match="'w' holds numbers that int4 does not have"):
        integer_policy(wide).with_storage({"w": Storage(Int(4, True))})
    with pytest.raises(GraphError, match="'w' is int8, float32 has values of float32"):
        integer_policy(wide).with_storage({"w": Storage(FLOAT32)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "int9"}, "knows no format 'int9'"),
        ({"encoding": "zip"}, "knows no encoding 'zip'"),
        ({"shape": [5, 21]}, "bytes|length"),
        ({"shape": [-5, -20]}, "not a weight's shape"),
        ({"shape": [1 << 20, 1 << 20]}, "not a weight's shape"),
        ({"shape": "5x20"}, "must be list"),
        ({"more": 1}, "unknown field"),
    ],
)
def test_a_weight_that_is_not_what_the_file_says_is_refused(toy: Storage, change: dict[str, Any], message: str) -> None:
    graph = integer_policy(RNG.integers(-1, 2, (5, 20)).astype(np.int8)).with_storage({"w": Storage(Ternary())})
    model, arrays = codec.encode(graph), codec.weight_arrays(graph)
    model["weights"]["w"] |= change
    with pytest.raises(FileError, match=message):
        codec.decode(model, codec.decode_weights(arrays, codec.decode_packed(model)))
    with pytest.raises(FileError, match="is missing"):
        codec.decode_weights({}, codec.decode_packed(codec.encode(graph)))


def test_artefacts_of_the_first_layout_open_with_the_same_weights() -> None:
    folder = Path(__file__).parent / "format1"
    integers, floats = (load_artefact(folder / name) for name in ("int8", "float32"))
    want = {
        "conv.weight": (np.arange(18) % 7 - 3).astype(np.int8).reshape(2, 1, 3, 3),
        "conv.bias": np.array([-40, 75], np.int32),
        "re.multiplier": np.array([1 << 30, (1 << 30) + 12345], np.int32),
        "re.shift": np.array([33, 34], np.int32),
        "head.weight": ((np.arange(96) * 37) % 255 - 127).astype(np.int8).reshape(3, 32),
        "head.bias": np.array([5, -6, 7], np.int32),
        "scale": np.array([0.0123], np.float32),
        "zero": np.zeros(1, np.int32),
    }
    assert integers.graph.weights.keys() == want.keys()
    for name, array in want.items():
        assert integers.graph.weights[name].dtype == array.dtype
        assert np.array_equal(integers.graph.weights[name], array)
    assert floats.graph.weights["w"].tolist() == [[-0.625, -0.375, -0.125], [0.125, 0.375, 0.625]]
    assert integers.certificate == {"certified": True}
    for opened in (integers, floats):
        again = make_golden(opened.graph, opened.golden.obs)
        assert np.array_equal(again.q, opened.golden.q)
        assert np.array_equal(again.action, opened.golden.action)
        assert opened.graph.storage == {}
    assert integers.digest == "a105106f203bc07cfb0a723d54c1cef87d60fb843a488c3e2b86659ba4c73c63"


def test_what_needs_nothing_new_is_written_as_the_first_layout_was(tmp_path: Path) -> None:
    for name in ("int8", "float32"):
        folder = Path(__file__).parent / "format1" / name
        old = load_artefact(folder)
        new = save_artefact(tmp_path / name, old.graph, old.golden.obs, {})
        assert new.digest == old.digest
