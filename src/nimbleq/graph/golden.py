"""Golden vectors: observations and the interpreter's answers, saved with an artefact to check any engine.

The file is an ``.npz`` (a zip of ``.npy``). It is read without numpy's own loader: sizes are checked before anything is
unpacked, and object arrays (pickles) are never read.
"""

from __future__ import annotations

import io
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from nimbleq.errors import FileError
from nimbleq.graph.branches import nowhere_legal, parts
from nimbleq.graph.graph import ACTION, Graph, Q
from nimbleq.graph.interpret import checked, interpret_rows
from nimbleq.graph.tensor import FLOAT32, UINT8, TensorType
from nimbleq.types import Array

MAX_BYTES = 256 << 20
"""Largest member of a golden file."""

_DAMAGE = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError, KeyError,
    SyntaxError, TypeError, MemoryError, tokenize.TokenError,
)  # fmt: skip
"""What the standard library and numpy raise on bad zip members and npy headers."""


@dataclass(frozen=True)
class Golden:
    """To a policy that remembers, the rows are the steps of an episode.

    Attributes:
    obs: ``[K, *O]`` float32 or uint8.
    q: float32 ``[K, A]``.
    action: int32 ``[K]``.
    mask: uint8 ``[K, A]`` the legal actions (not 0), for a policy that takes a mask; else None.
    """

    obs: Array
    q: Array
    action: Array
    mask: Array | None = None


def make_golden(graph: Graph, obs: Array, mask: Array | None = None) -> Golden:
    """The interpreter's answers to ``obs[K, *O]``.

    Args:
        mask: bool or uint8 ``[K, A]`` for a policy that takes one; random ones if not given.

    Raises:
        GraphError: the graph does not take such observations.
    """
    stored = np.ascontiguousarray(checked(graph.obs_name, obs, graph.obs_type), dtype=_obs_dtype(graph.obs_type))
    if graph.masked:
        given = mask
        if given is None:
            given = random_masks(np.random.default_rng(len(stored)), len(stored), graph)
        mask = np.ascontiguousarray(given).astype(np.uint8)
    result = interpret_rows(graph, stored, mask)
    return Golden(stored, result[Q], result[ACTION], mask)


def random_masks(rng: np.random.Generator, count: int, graph: Graph) -> Array:
    """``uint8[count, A]`` random masks: each choice is legal (1) half of the time, and at least one per row (and
    dimension)."""
    mask: Array = rng.integers(0, 2, (count, graph.actions), np.uint8)
    for part in parts(graph.branches or (graph.actions,)):
        mask[np.arange(count), rng.integers(part.start, part.stop, count)] = 1
    return mask


def write_golden(golden: Golden) -> bytes:
    """The bytes of the file; the same answers always give the same bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("obs", "q", "action", "mask"):
            if getattr(golden, name) is None:
                continue
            member = io.BytesIO()
            np.lib.format.write_array(member, getattr(golden, name), allow_pickle=False)
            # A ZipInfo of our own has a fixed date.
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue(), zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def read_golden(data: bytes, graph: Graph) -> Golden:
    """Golden vectors that fit ``graph``.

    Raises:
        FileError: damaged, oversized, of another shape or type than the graph's, or not finite.
    """
    obs_dtype = _obs_dtype(graph.obs_type)
    names = ("obs", "q", "action", *(("mask",) if graph.masked else ()))
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            arrays = {name: _member(archive, f"{name}.npy") for name in names}
    except _DAMAGE as error:
        raise FileError(f"it is not a readable npz file ({error}): truncated or damaged") from error
    count = len(arrays["obs"]) if arrays["obs"].ndim else 0
    expected = {
        "obs": ((count, *graph.obs_type.shape), obs_dtype),
        "q": ((count, graph.actions), np.dtype(np.float32)),
        "action": ((count,), np.dtype(np.int32)),
        "mask": ((count, graph.actions), np.dtype(np.uint8)),
    }
    for name in names:
        (shape, dtype), array = expected[name], arrays[name]
        if count == 0 or array.shape != shape or array.dtype != dtype:
            raise FileError(f"{name} is {array.dtype}{array.shape}, the model needs {dtype}{shape}")
        if array.dtype == np.float32 and not np.isfinite(array).all():
            raise FileError(f"{name} holds NaN or infinity")
    if arrays["action"].min() < 0 or arrays["action"].max() >= graph.choices:
        raise FileError("it holds an action that the model does not have")
    if graph.masked and nowhere_legal(arrays["mask"], graph.branches).any():
        raise FileError("it holds a mask that allows no action")
    return Golden(**arrays)


def _obs_dtype(kind: TensorType) -> np.dtype[Any]:
    return kind.qtype.dtype if kind.qtype in (FLOAT32, UINT8) else np.dtype(np.int32)


def _member(archive: zipfile.ZipFile, name: str) -> Array:
    """One ``.npy`` of numbers, at most `MAX_BYTES` unpacked."""
    with archive.open(name) as stream:
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"{name} unpacks to more than {MAX_BYTES >> 20} MiB")
    body = io.BytesIO(data)
    if np.lib.format.read_magic(body) != (1, 0):
        raise ValueError(f"{name} has an unknown npy version")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(body)
    if dtype.hasobject or dtype.kind not in "fiu" or fortran:
        raise ValueError(f"{name} holds {dtype}, not plain numbers in C order")
    values = np.frombuffer(data, dtype, offset=body.tell())
    if any(extent < 0 for extent in shape) or values.size != np.prod([1, *shape], dtype=object):
        raise ValueError(f"{name} does not hold the {shape} numbers that it announces")
    return values.reshape(shape)
