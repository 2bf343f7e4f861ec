"""A `Guard` as JSON values and weights, as `model.json` and `weights.safetensors` hold it, and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from nimbleq.errors import ConfigError, FileError
from nimbleq.graph.codec import decode, decode_packed, decode_weights, encode, weight_arrays
from nimbleq.graph.graph import Graph
from nimbleq.graph.guard import VECTORS, Envelope, Guard
from nimbleq.graph.space_codec import items, number, record, whole
from nimbleq.types import Array

PREFIX = "guard."
"""Of the names of a guard's weights: ``guard.larger.w0``."""
_NETWORKS = ("backup", "larger")
_NEWER = ("partner", "still")
"""Vectors of an envelope that are written where an entry has a partner."""


def guard_to_dict(guard: Guard) -> dict[str, Any]:
    """JSON values, without the numbers of weights; those are in `guard_weights`."""
    envelope = guard.envelope
    return {
        "fallback": guard.fallback,
        "hold": guard.hold,
        "latch": guard.latch,
        "forbidden": list(guard.forbidden),
        "margin": guard.margin,
        "envelope": None if envelope is None else _envelope_to_dict(envelope),
        **{name: None if getattr(guard, name) is None else encode(getattr(guard, name)) for name in _NETWORKS},
    }


def has_partners(guard: Guard | None) -> bool:
    """A nimbleq before format 4 cannot read it."""
    return guard is not None and guard.envelope is not None and bool(guard.envelope.paired.any())


def _envelope_to_dict(envelope: Envelope) -> dict[str, Any]:
    old = not envelope.paired.any()
    return {name: getattr(envelope, name).tolist() for name in VECTORS if not (old and name in _NEWER)}


def guard_weights(guard: Guard) -> dict[str, Array]:
    """The weights of its networks, as they are stored."""
    return {
        f"{PREFIX}{network}.{name}": array
        for network in _NETWORKS
        if (graph := getattr(guard, network)) is not None
        for name, array in weight_arrays(graph).items()
    }


def guard_hash(guard: Guard, graph: str) -> str:
    """SHA-256 of what decides the answers of a guarded policy, with the hash ``graph`` of its own network."""
    made = hashlib.sha256(f"{graph}\n{json.dumps(guard_to_dict(guard), sort_keys=True)}".encode())
    for name, array in sorted(guard_weights(guard).items()):
        made.update(f"{name} {array.dtype} {array.shape}\n".encode())
        made.update(np.ascontiguousarray(array).tobytes())
    return made.hexdigest()


def guard_from_dict(content: Any, arrays: Mapping[str, Array]) -> Guard:
    """What `guard_to_dict` and `guard_weights` wrote.

    Raises:
        FileError: it is not valid; says where.
    """
    record(content, "guard", {"fallback", "hold", "latch", "forbidden", "margin", "envelope", *_NETWORKS})
    forbidden = [whole(action, "guard.forbidden", 0) for action in items(content["forbidden"], "guard.forbidden")]
    try:
        return Guard(
            fallback=whole(content["fallback"], "guard.fallback", 0),
            envelope=_envelope(content["envelope"]),
            hold=_periods(content["hold"], "guard.hold"),
            backup=_network(content["backup"], "backup", arrays),
            forbidden=tuple(forbidden),
            larger=_network(content["larger"], "larger", arrays),
            margin=number(content["margin"], "guard.margin"),
            latch=_periods(content["latch"], "guard.latch"),
        )
    except ConfigError as error:
        raise FileError(f"guard: {error}") from None


def _periods(value: Any, where: str) -> int:
    periods = whole(value, where, 0)
    if periods > 1 << 20:
        raise FileError(f"{where} is {periods}, more than {1 << 20}")
    return periods


def _envelope(content: Any) -> Envelope | None:
    if content is None:
        return None
    where = "guard.envelope"
    newer = isinstance(content, dict) and not content.keys().isdisjoint(_NEWER)
    record(content, where, set(VECTORS) - (set() if newer else set(_NEWER)))
    vectors = {}
    for name, values in content.items():
        read = number if VECTORS[name] is np.float32 else _periods
        numbers = np.array([read(one, where) for one in items(values, where)], np.float64)
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused by the envelope
            vectors[name] = numbers.astype(VECTORS[name])
    return Envelope(**vectors)


def _network(content: Any, name: str, arrays: Mapping[str, Array]) -> Graph | None:
    if content is None:
        return None
    begin = f"{PREFIX}{name}."
    own = {key.removeprefix(begin): array for key, array in arrays.items() if key.startswith(begin)}
    try:
        return decode(content, decode_weights(own, decode_packed(content)))
    except FileError as error:
        raise FileError(f"guard.{name}: {error}") from None
