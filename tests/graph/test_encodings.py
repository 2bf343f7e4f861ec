"""Encodings that leave zeros out: layouts by hand, bytes by formula, the cheapest, and what hostile bytes can do."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbleq.errors import GraphError
from nimbleq.graph import ops
from nimbleq.graph.encodings import DENSE, ENCODINGS, Encoding, cheapest, matrix
from nimbleq.graph.encodings.sparse import LARGEST
from nimbleq.graph.formats import FLOAT32, FORMATS, INT8, Format, Int
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.tensor import UINT8, TensorType
from nimbleq.graph.weight import Storage
from nimbleq.types import Array

SPARSE = [row for row in ENCODINGS.values() if row is not DENSE]
INT4 = Int(4, True)


def codes_of(rows: list[list[int]]) -> Array:
    return np.array(rows, np.int8)


BY_HAND: list[tuple[str, list[list[int]], Format, list[int]]] = [
    ("bitmap", [[0, 5, 0], [7, 0, -1]], INT8, [0b101010, 5, 7, 255]),
    ("bitmap", [[0, 5, 0], [7, 0, -1]], INT4, [0b101010, 0x75, 0x0F]),
    ("csr", [[0, 5, 0], [7, 0, -1]], INT8, [1, 2, 1, 0, 2, 5, 7, 255]),
    ("csr", [[0] * 300, [0] * 299 + [9]], INT8, [0, 0, 1, 0, 299 - 256, 1, 9]),
    # Gaps of one bit: no zero or one zero before each; the last entry is stored, zero or not.
    ("delta", [[0, 5, 0], [7, 9, -1]], INT8, [1, 4, 0, 0, 0, 0b0011, 5, 7, 9, 255]),
    ("delta", [[3, 0, 0, 0, 0, 0, 0, 0]], INT8, [3, 2, 0, 0, 0, 0b110_000, 3, 0]),
    ("2:4", [[0, 5, 0, 7, 0, 0, 0, 9]], INT8, [0b11_00_11_01, 5, 7, 0, 9]),
    ("2:4", [[0, 5, 0, 7, 8]], INT8, [0b00_11_01, 5, 7, 8]),
    ("1:4", [[0, 5, 0, 0], [0, 0, 0, 6]], INT8, [0b11_01, 5, 6]),
    ("block4", [[0, 5], [0, 0], [0, -1], [0, 2], [3, 0]], INT8, [1, 1, 1, 0, 5, 0, 255, 2, 3]),
]


@pytest.mark.parametrize(("name", "rows", "number", "wanted"), BY_HAND)
def test_layouts_by_hand(name: str, rows: list[list[int]], number: Format, wanted: list[int]) -> None:
    codes, encoding = codes_of(rows), ENCODINGS[name]
    assert list(encoding.pack(codes, number)) == wanted
    assert np.array_equal(number.decode(encoding.unpack(bytes(wanted), codes.shape, number)), codes)


def test_the_stored_codes_are_the_multiplications() -> None:
    codes = codes_of([[0, 5, 0, 7], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1], [2, 0, 0, 0]])
    counted = {name: row.multiplied(codes, INT8) for name, row in ENCODINGS.items() if not row.misfit(codes, INT8)}
    assert counted == {"dense": 20, "2:4": 10, "block4": 9, "csr": 4, "bitmap": 4, "delta": counted["delta"]}
    assert 4 <= counted["delta"] < 10


@pytest.mark.parametrize("encoding", SPARSE, ids=str)
@pytest.mark.parametrize("number", [FLOAT32, INT8, INT4], ids=str)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_fits_comes_back_and_what_does_not_is_refused(number: Format, encoding: Encoding, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(extent) for extent in rng.integers(1, 9, rng.integers(1, 5)))
    values = np.rint(rng.normal(size=shape) * 3) * (rng.random(shape) < rng.random())
    codes = number.encode(values)
    if why := encoding.misfit(codes, number):
        for action in (encoding.pack, encoding.nbytes, encoding.split):
            with pytest.raises(GraphError, match=r"among 4 neighbours"):
                action(codes, number)
        with pytest.raises(GraphError, match=r"weight 'w' has .* among 4 neighbours"):
            policy(number.decode(matrix(codes))).with_storage({"w": Storage(number, encoding)})
        assert "among 4 neighbours" in why
        return
    data = encoding.pack(codes, number)
    assert len(data) == encoding.nbytes(codes, number)
    assert np.array_equal(number.decode(encoding.unpack(data, shape, number)), number.decode(codes))
    assert np.count_nonzero(values) <= encoding.multiplied(codes, number) <= max(values.size, 1)
    for wrong in (data[:-1], data + b"\0"):
        with pytest.raises(GraphError):
            encoding.unpack(wrong, shape, number)


def policy(values: Array) -> Graph:
    kind = TensorType((values.shape[1],), UINT8) if values.dtype == np.int8 else TensorType((values.shape[1],))
    return Graph({"obs": kind}, (Node(ops.Linear("w"), ("obs",), "y"),), ("y",), {"w": values})


@pytest.mark.parametrize("encoding", SPARSE, ids=str)
@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=40), seed=st.integers(0, 2**32 - 1))
def test_hostile_bytes_give_an_array_or_one_clear_error(encoding: Encoding, data: bytes, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(extent) for extent in rng.integers(1, 12, 2))
    number = list(FORMATS.values())[seed % len(FORMATS)]
    if seed % 2:  # one bit of a sound array turned
        values = np.rint(rng.normal(size=shape) * 3)
        values[:, np.arange(shape[1]) % 4 != seed % 4] = 0
        codes = number.encode(values)
        sound = bytearray(b"" if encoding.misfit(codes, number) else encoding.pack(codes, number))
        if sound:
            sound[seed % len(sound)] ^= 1 << seed // 8 % 8
        data = bytes(sound)
    with suppress(GraphError):
        assert encoding.unpack(data, shape, number).shape == shape


@pytest.mark.parametrize("encoding", SPARSE, ids=str)
def test_few_bytes_cannot_ask_for_gigabytes(encoding: Encoding) -> None:
    with pytest.raises(GraphError, match="entries"):
        encoding.unpack(bytes(64), (1 << 15, 1 << 15), INT8)
    assert encoding.misfit(np.zeros(LARGEST + 1, np.int8), INT8)


@pytest.mark.parametrize(
    ("encoding", "data", "message"),
    [
        ("csr", [9, 0, 0], "more entries in a row"),
        ("csr", [2, 0, 1, 1, 7, 7], "do not rise"),
        ("csr", [1, 0, 3, 7], "outside"),
        ("block4", [9], "more blocks"),
        ("delta", [0, 1, 0, 0, 0, 0], "distances of 0 bits"),
        ("delta", [8, 1, 0, 0, 0, 9, 1], "last entry"),
        ("delta", [8, 255, 255, 255, 255], "distances of 8 bits"),
        ("2:4", [0b0000_0101, 1, 2, 3, 4], "do not rise"),
        ("bitmap", [], "cut off"),
    ],
)
def test_faults_are_named(encoding: str, data: list[int], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        ENCODINGS[encoding].unpack(bytes(data), (2, 3) if encoding != "2:4" else (2, 4), INT8)


def test_the_cheapest_by_real_bytes() -> None:
    rng = np.random.default_rng(0)

    def best(keep: float, number: Format = INT8, shape: tuple[int, ...] = (64, 64)) -> str:
        codes = rng.integers(1, 8, shape).astype(np.int8) * (rng.random(shape) < keep)
        return str(cheapest(codes, number))

    assert best(1.0) == best(0.95) == "dense"
    assert best(0.5) == "bitmap"  # CSR with indices of 8 bits would take as much as dense
    assert best(0.02) in ("delta", "csr")
    assert best(0.9, INT4) == "dense"  # a bit for each entry is a quarter of it
    blocks = rng.integers(1, 8, (64, 64)).astype(np.int8) * np.repeat(rng.random((16, 64)) < 0.1, 4, axis=0)
    assert str(cheapest(blocks, INT8)) == "block4"
    quarter = np.zeros((64, 64), np.int8)
    quarter[np.arange(64)[:, None], np.arange(0, 64, 4) + rng.integers(0, 4, (64, 16))] = 3
    assert str(cheapest(quarter, INT8)) == "1:4"
    assert ENCODINGS["1:4"].nbytes(quarter, INT8) == 64 * 16 + 64 * 16 // 4


def test_csr_at_int8_with_wide_indices_loses_below_two_thirds() -> None:
    """An entry takes 24 bits instead of 8, so two thirds have to be zero."""
    rng = np.random.default_rng(1)
    for sparsity, wins in ((0.6, False), (0.75, True)):
        codes = rng.integers(1, 8, (16, 1000)).astype(np.int8) * (rng.random((16, 1000)) > sparsity)
        assert (ENCODINGS["csr"].nbytes(codes, INT8) < DENSE.nbytes(codes, INT8)) == wins
