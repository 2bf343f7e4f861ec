"""Foreign pickles are read, not run: plain values come out equal to pickle's own, everything else is refused."""

from __future__ import annotations

import collections
import contextlib
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbleq.bridge.checkpoints.pickle_values import Record
from nimbleq.bridge.checkpoints.unpickle import read_pickle
from nimbleq.errors import FileError
from tests.bomb import Bomb

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner)
        | st.frozensets(st.integers()) | st.sets(st.text())
    ),
    max_leaves=20,
)  # fmt: skip


def written(folder: Path, data: bytes) -> Path:
    path = folder / "file.pkl"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_come_out_as_pickle_gives_them(tmp_path: Path, protocol: int) -> None:
    @settings(max_examples=40, deadline=None)
    @given(PLAIN)
    def same(value: Any) -> None:
        if protocol < 4 and _has_set(value):
            return  # written as a call of set(), which is refused
        assert read_pickle(written(tmp_path, pickle.dumps(value, protocol))) == value

    same()


def _has_set(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_set, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_set, value))
    return isinstance(value, set | frozenset)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", ["f4", "f8", ">f8", "i8", "u1", "?", "<i2"])
def test_arrays_and_scalars(tmp_path: Path, protocol: int, dtype: str) -> None:
    values = np.arange(12).reshape(3, 4).astype(dtype)
    for array in (values, np.asfortranarray(values), values[:0], values[0, 0]):
        held = {"array": [array, array], "again": (array, 3)}
        got = read_pickle(written(tmp_path, pickle.dumps(held, protocol)))
        for made in (*got["array"], got["again"][0]):
            made = getattr(made, "value", made)
            assert made.dtype == array.dtype
            np.testing.assert_array_equal(made, array)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("place", [lambda bomb: bomb, lambda bomb: {"mean": [bomb]}, lambda bomb: (1, bomb)])
def test_nothing_is_called(tmp_path: Path, protocol: int, place: Any) -> None:
    evidence = tmp_path / "it ran"
    for bomb in (
        Bomb(os.system, f"touch '{evidence}'"),
        Bomb(eval, f"open({str(evidence)!r}, 'w')"),
        Bomb(getattr, os, "system"),
        Bomb(np.load, str(evidence)),
        Bomb(np.frompyfunc, print, 1, 1),
        Bomb(Path.touch, evidence),
        Bomb(collections.Counter, "abc"),
    ):
        try:
            data = pickle.dumps(place(bomb), protocol)
        except (pickle.PicklingError, TypeError):  # modules have no pickle
            continue
        with pytest.raises(FileError, match=r"would call|would make|damaged") as caught:
            read_pickle(written(tmp_path, data))
        assert "\n" not in str(caught.value)
    assert not evidence.exists()


HOSTILE = {
    "call by INST": b"(S'ls'\nios\nsystem\n.",
    "call by OBJ": b"(cos\nsystem\nS'ls'\no.",
    "persistent": b"Pmine\n.",
    "extension": b"\x80\x02\x82\x01.",
    "foreign class": b"\x80\x02cos\nDirEntry\n)\x81.",
    "nested name": b"\x80\x04\x8c\x08builtins\x8c\x10object.__class__\x93)R.",
    "call of a call": b"\x80\x04cnumpy\ndtype\n\x8c\x02f4\x85R)R.",
    "objects in an array": b"\x80\x04cnumpy\ndtype\n\x8c\x01O\x85R.",
    "structured array": b"\x80\x04cnumpy\ndtype\n\x8c\x05f4,f4\x85R.",
    "huge array": b"\x80\x04cnumpy.core.multiarray\n_reconstruct\n)R(K\x01J\xff\xff\xff\x7f\x85"
    b"cnumpy\ndtype\n\x8c\x02f8\x85R\x89C\x08abcdefghtb.",
    "state of a list": b"\x80\x04]}b.",
    "state of a name": b"\x80\x04cgymnasium.x\nY\n}b.",
    "name of two lines": b"\x80\x04\x8c\x04os\n.\x8c\x06system\x93)R.",
    "two values": b"\x80\x04K\x01K\x02.",
    "nothing": b"\x80\x04.",
    "empty": b"",
    "text": b"hello",
    "no stop": b"\x80\x04K\x01",
    "append to a number": b"\x80\x04K\x01K\x02a.",
    "item of a list": b"\x80\x04]K\x01K\x02s.",
    "memo that is not there": b"\x80\x04h\x07.",
    "mark that is not there": b"\x80\x04t.",
    "length beyond the end": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x.",
    "negative length": b"\x80\x04\x8b" + struct.pack("<i", -5) + b".",
    "key that takes for ever": b"\x80\x04}K\x01\x85" + b"2\x86" * 200 + b"K\x01s.",
    "name that takes for ever": b"\x80\x04]" + b"2\x86" * 200 + b")R.",
    "deep key": b"\x80\x04}K\x01" + b"\x85" * 200_000 + b"K\x01s.",
    "escape that is none": b"S'\\k'\n0.",
    "unhashable key": b"\x80\x04}]K\x01s.",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    path = written(tmp_path, data)
    with pytest.raises(FileError) as caught:
        read_pickle(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert len(message) < 400


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 255))
def test_random_and_changed_bytes_never_give_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int, byte: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    data = bytearray(pickle.dumps({"mean": np.arange(3.0), "count": 7, "names": ["a", ("b", None)]}))
    data[at % len(data)] = byte
    for each in (noise, bytes(data), bytes(data[: at % len(data)])):
        with contextlib.suppress(FileError):
            read_pickle(written(folder, each))


def test_objects_of_known_libraries_are_records(tmp_path: Path) -> None:
    gymnasium = pytest.importorskip("gymnasium")
    space = gymnasium.spaces.Box(-1, 2, (3,), np.float32, seed=4)
    read = read_pickle(written(tmp_path, pickle.dumps(space)))
    assert isinstance(read, Record)
    assert str(read.name) == "gymnasium.spaces.box.Box"
    assert read.state["_shape"] == (3,)


@pytest.mark.parametrize("rest", [b"\x03\x04", b"\x03\x04\n.", b"\x03\x04 id\nN."])
def test_a_zip_archive_is_no_pickle_whatever_follows(tmp_path: Path, rest: bytes) -> None:
    with pytest.raises(FileError, match="is not a pickle, but a zip archive"):
        read_pickle(written(tmp_path, b"PK" + rest))
