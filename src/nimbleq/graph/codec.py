"""Graph ⇄ plain JSON values; the weights are stored separately.

Reading trusts nothing: every field is checked for presence and type before an op is made, and the graph checks itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import isfinite, prod
from typing import Any, get_args, get_type_hints

import numpy as np

from nimbleq.errors import FileError, GraphError
from nimbleq.graph.encodings import ENCODINGS
from nimbleq.graph.formats import FORMATS, format_named
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.ops import OPS, Op
from nimbleq.graph.tensor import FLOAT32, Int, QType, TensorType
from nimbleq.graph.weight import Storage, default_storage
from nimbleq.types import Array

MAX_ENTRIES = 1 << 31
"""Most entries of one weight."""
MAX_NODES = 10_000
"""More than any policy has; limits the time that a hostile file can take."""


def encode(graph: Graph) -> dict[str, Any]:
    """The graph as JSON values, without the numbers of its weights: those are in `weight_arrays`; `decode` reads both.

    ``weights`` is present only if some weight is not dense in the format of its type.
    """
    held = {
        name: {"format": str(how.format), "encoding": str(how.encoding), "shape": list(graph.weights[name].shape)}
        for name, how in graph.storage.items()
    }
    return {
        "inputs": [
            {"name": name, "shape": list(kind.shape), "type": str(kind.qtype)} for name, kind in graph.inputs.items()
        ],
        "nodes": [
            {"op": node.op.kind, "inputs": list(node.inputs), "output": node.output, **_op_fields(node.op)}
            for node in graph.nodes
        ],
        "outputs": list(graph.outputs),
        **({"weights": held} if held else {}),
    }


def weight_arrays(graph: Graph) -> dict[str, Array]:
    """Weights as stored: arrays of their own type, or (see `encode`) uint8 ``[bytes]`` of packed codes.

    Raises:
        FileError: a weight is not a value of its format (NaN, infinity); names it.
    """
    arrays: dict[str, Array] = {}
    for name, values in graph.weights.items():
        try:
            how = graph.storage.get(name) or default_storage(values)
            how.format.check(values)
        except GraphError as error:
            raise FileError(f"weight {name!r} {error}") from None
        packed = how.encoding.pack(how.format.encode(values), how.format) if name in graph.storage else None
        arrays[name] = values if packed is None else np.frombuffer(packed, np.uint8)
    return arrays


def _op_fields(op: Op) -> dict[str, Any]:
    values = {field.name: getattr(op, field.name) for field in fields(op)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


@dataclass(frozen=True)
class PackedWeight:
    """Format, encoding and shape of a weight whose codes are packed into bytes."""

    storage: Storage
    shape: tuple[int, ...]


def decode_packed(value: Any) -> dict[str, PackedWeight]:
    """The packed weights that ``value``, written by `encode`, names.

    Raises:
        FileError: see `decode`.
    """
    entries = value.get("weights", {}) if isinstance(value, dict) else {}
    return {name: _packed(entry, f"weights.{name}") for name, entry in _typed(entries, dict, "weights").items()}


def decode_weights(arrays: Mapping[str, Array], packed: Mapping[str, PackedWeight]) -> dict[str, Array]:
    """Values of the weights that `weight_arrays` wrote as ``arrays``.

    Raises:
        FileError: an array is missing, is not what ``packed`` says, or holds NaN or infinity.
    """
    for name in packed.keys() - arrays.keys():
        raise FileError(f"weight {name!r} is missing")
    return {name: _values(name, array, packed.get(name)) for name, array in arrays.items()}


def decode(value: Any, weights: Mapping[str, Array]) -> Graph:
    """The graph that `encode` wrote as ``value``, with these values of its weights.

    Raises:
        FileError: a key is missing, unknown or of the wrong type, or the graph is not valid; says where.
    """
    storage = {name: weight.storage for name, weight in decode_packed(value).items()}
    optional = {"weights"} if storage else set()
    model = _record(value, "the model", {"inputs", "nodes", "outputs"} | optional)
    inputs = [_input(entry, f"inputs[{at}]") for at, entry in enumerate(_list(model["inputs"], "inputs"))]
    entries = _list(model["nodes"], "nodes")
    if len(entries) > MAX_NODES:
        raise FileError(f"it has {len(entries)} nodes, more than the {MAX_NODES} allowed")
    nodes = tuple(_node(entry, f"nodes[{at}]") for at, entry in enumerate(entries))
    outputs = _names(model["outputs"], "outputs")
    if len({name for name, _ in inputs}) != len(inputs) or len(set(outputs)) != len(outputs):
        raise FileError("two inputs or two outputs have the same name")
    try:
        return Graph(dict(inputs), nodes, outputs, weights, storage)
    except GraphError as error:
        raise FileError(f"it is not a valid graph: {error}") from None


def _packed(entry: Any, where: str) -> PackedWeight:
    record = _record(entry, where, {"format", "encoding", "shape"})
    rows: list[Any] = []
    for key, table, row_of in (("format", FORMATS, format_named), ("encoding", ENCODINGS, ENCODINGS.get)):
        name = _typed(record[key], str, f"{where}.{key}")
        row = row_of(name)
        if row is None:
            raise FileError(f"{where}.{key}: this nimbleq knows no {key} {name[:60]!r}, only {', '.join(table)}")
        rows.append(row)
    shape = tuple(_typed(extent, int, f"{where}.shape") for extent in _list(record["shape"], f"{where}.shape"))
    if len(shape) > 8 or min(shape, default=1) < 1 or prod(shape) >= MAX_ENTRIES:
        raise FileError(f"{where}.shape {list(shape)} is not a weight's shape")
    return PackedWeight(Storage(*rows), shape)


def _values(name: str, array: Array, packed: PackedWeight | None) -> Array:
    try:
        if packed is None:
            default_storage(array).format.check(array)
            return array
        number, encoding = packed.storage.format, packed.storage.encoding
        if array.dtype != np.uint8 or array.ndim != 1:
            raise GraphError(f"is {array.dtype}{list(array.shape)}, {packed.storage} is stored as bytes")
        values = number.decode(encoding.unpack(array.tobytes(), packed.shape, number))
        number.check(values)
    except GraphError as error:
        raise FileError(f"weight {name!r} {error}") from None
    return values


def _input(entry: Any, where: str) -> tuple[str, TensorType]:
    record = _record(entry, where, {"name", "shape", "type"})
    shape = tuple(_typed(extent, int, f"{where}.shape") for extent in _list(record["shape"], f"{where}.shape"))
    if len(shape) > 8:
        raise FileError(f"{where}.shape has {len(shape)} axes")
    qtype = _qtype(_typed(record["type"], str, f"{where}.type"), where)
    try:
        return _typed(record["name"], str, f"{where}.name"), TensorType(shape, qtype)
    except GraphError as error:
        raise FileError(f"{where}: {error}") from None


def _qtype(text: str, where: str) -> QType:
    known: dict[str, QType] = {"float32": FLOAT32}
    known |= {str(qtype): qtype for bits in range(2, 33) for qtype in _integers(bits)}
    if text not in known:
        raise FileError(f"{where}.type {text!r} is not a number format")
    return known[text]


def _integers(bits: int) -> tuple[Int, ...]:
    return (Int(bits, True), Int(bits, False)) if bits < 32 else (Int(bits, True),)


def _node(entry: Any, where: str) -> Node:
    if not isinstance(entry, dict) or not isinstance(entry.get("op"), str):
        raise FileError(f"{where} is not a node: it needs an op")
    kind = entry["op"]
    if kind not in OPS:
        raise FileError(f"{where}: this nimbleq knows no op {kind!r}")
    make = OPS[kind]
    hints = {name: hint for name, hint in get_type_hints(make).items() if name not in ("arity", "weight_fields")}
    record = _record(entry, f"{where} ({kind})", {"op", "inputs", "output", *hints})
    values = {name: _field(record[name], hint, f"{where}.{name}") for name, hint in hints.items()}
    output = _typed(record["output"], str, f"{where}.output")
    return Node(make(**values), _names(record["inputs"], f"{where}.inputs"), output)


def _field(value: Any, hint: Any, where: str) -> Any:
    """``value`` as the declared type of an op's field."""
    if hint == tuple[int, int]:
        pair = _list(value, where)
        if len(pair) != 2:
            raise FileError(f"{where} must be a pair of integers")
        return tuple(_field(item, int, where) for item in pair)
    if hint == tuple[int, ...]:
        return tuple(_field(item, int, where) for item in _list(value, where))
    if hint is int:
        number: int = _typed(value, int, where)
        if abs(number) >= 1 << 31:
            raise FileError(f"{where} is too large")
        return number
    if hint is float:
        number_or_int = value if isinstance(value, int) and not isinstance(value, bool) else _typed(value, float, where)
        if abs(number_or_int) > 1e308 or not isfinite(number_or_int):
            raise FileError(f"{where} is not a finite number")
        return float(number_or_int)
    if hint in (str, bool):
        return _typed(value, hint, where)
    if type(None) in get_args(hint):
        return None if value is None else _typed(value, str, where)
    if value not in get_args(hint):
        raise FileError(f"{where} must be one of {', '.join(map(repr, get_args(hint)))}")
    return value


def _typed(value: Any, kind: type, where: str) -> Any:
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise FileError(f"{where} must be {kind.__name__}, not {type(value).__name__}")
    return value


def _list(value: Any, where: str) -> list[Any]:
    items: list[Any] = _typed(value, list, where)
    return items


def _names(value: Any, where: str) -> tuple[str, ...]:
    return tuple(_typed(item, str, where) for item in _list(value, where))


def _record(value: Any, where: str, keys: set[str]) -> dict[str, Any]:
    """An object with exactly ``keys``."""
    if not isinstance(value, dict):
        raise FileError(f"{where} must be an object, not {type(value).__name__}")
    missing, unknown = sorted(keys - value.keys()), sorted(value.keys() - keys)
    if missing:
        raise FileError(f"{where} has no {missing[0]!r}")
    if unknown:
        raise FileError(f"{where} has an unknown field {unknown[0][:60]!r}")
    return value
