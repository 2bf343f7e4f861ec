"""The artefact: a folder with the model, its golden vectors, its provenance and its certificate.

    model.json            the graph without weights
    weights.safetensors   the weights
    golden.npz            observations and the interpreter's answers
    provenance.json       what made it, and the SHA-256 of the three files above
    certificate.json      what was certified, and the digest of the artefact that it holds for

`provenance.json` and `certificate.json` carry a digest of their own content. The digests show damage and later edits of
any one file; they are not signatures: anybody can recompute them all.
Nothing in the folder is code, and reading it runs no code.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from nimbleq.errors import FileError
from nimbleq.files import read_bytes, sha256, write_bytes, write_folder
from nimbleq.graph.codec import decode, decode_packed, decode_weights, encode, weight_arrays
from nimbleq.graph.formats import FORMATS
from nimbleq.graph.golden import Golden, make_golden, read_golden, write_golden
from nimbleq.graph.graph import ACTION, MASK, Graph, Q
from nimbleq.graph.interface import Interface, from_dict, to_dict
from nimbleq.graph.tensor import FLOAT32, INT32, UINT8, Float32, TensorType
from nimbleq.types import Array, ObsSpec
from nimbleq.version import VERSION

FORMAT = 2
"""Version of the layout; it rises when an older nimbleq cannot read what a newer one writes. 2: the interface,
masks, and weights of any format and encoding. A file has the oldest version that can read it."""
MODEL, WEIGHTS, GOLDEN = "model.json", "weights.safetensors", "golden.npz"
PROVENANCE, CERTIFICATE = "provenance.json", "certificate.json"
_HASHED = (MODEL, WEIGHTS, GOLDEN)
_MAX_BYTES = {MODEL: 32 << 20, PROVENANCE: 32 << 20, CERTIFICATE: 32 << 20, WEIGHTS: 4 << 30, GOLDEN: 256 << 20}
_DTYPES = {row.native: row.dtype for row in FORMATS.values() if row.native} | {"U8": np.dtype(np.uint8)}


@dataclass(frozen=True)
class Artefact:
    """Attributes:
    path: the folder.
    graph: the model.
    interface: what its environment gives and takes; if that is unknown, what the network takes and gives.
    golden: observations and answers.
    provenance: what made it, as given to `save_artefact` (``parents``, ``command`` …), and the ``nimbleq`` version.
    certificate: as given to `attach_certificate`; None without one.
    digest: over model, weights and golden vectors; see `digest`.
    """

    path: Path
    graph: Graph
    interface: Interface
    golden: Golden
    provenance: dict[str, Any]
    certificate: dict[str, Any] | None
    digest: str

    @property
    def q_meaning(self) -> str:
        """What the action values mean, in words; empty if that is unknown.

        Those of a trained network are discounted returns; distillation and folding preserve little but their order.
        """
        return str(self.provenance.get("q_meaning", ""))


def save_artefact(
    path: Path,
    graph: Graph,
    golden_obs: Array,
    provenance: Mapping[str, Any],
    certificate: Mapping[str, Any] | None = None,
    interface: Interface | None = None,
    golden_mask: Array | None = None,
) -> Artefact:
    """Write an artefact folder, all or nothing; an existing folder is replaced.

    Args:
        golden_obs: ``[K, *O]`` at least one observation; the interpreter's answers are stored with them.
        provenance: JSON values: command line, digests of parents, and more.
        interface: what the environment gives and takes (None: the network's own input and indices of actions).
        golden_mask: ``[K, A]`` legal actions for the observations, if the graph takes a mask (None: random ones).

    Raises:
        FileError: the place is not writable, or the weights are not finite.
    """
    arrays = weight_arrays(graph)
    missing = [name for name in (Q, ACTION) if name not in graph.outputs]
    if missing:
        raise FileError(f"cannot write {path}: the graph has no output {missing[0]!r}")
    if len(golden_obs) == 0:
        raise FileError(f"cannot write {path}: an artefact needs at least one golden observation")
    golden = make_golden(graph, golden_obs, golden_mask)
    if interface is not None and (fault := misfit(interface, graph)):
        raise FileError(f"cannot write {path}: {fault}")
    extra = {} if interface is None else {"interface": to_dict(interface)}
    if not (np.isfinite(golden.q).all() and np.isfinite(golden.obs).all()):
        raise FileError(f"cannot write {path}: golden observations or their action values hold NaN or infinity")
    contents = {
        MODEL: _json({"format": FORMAT if graph.storage or graph.masked or extra else 1, **encode(graph), **extra}),
        WEIGHTS: safetensors.numpy.save({name: np.asarray(array) for name, array in arrays.items()}),
        GOLDEN: write_golden(golden),
    }
    hashes = {name: sha256(data) for name, data in contents.items()}
    contents[PROVENANCE] = _sealed({**provenance, "nimbleq": VERSION, "files": hashes})
    if certificate is not None:
        contents[CERTIFICATE] = _sealed({**certificate, "artefact_digest": _combined(hashes)}, indent=None)

    def fill(folder: Path) -> None:
        for name, data in contents.items():
            write_bytes(folder / name, data)

    write_folder(path, fill)
    return load_artefact(path)


def load_artefact(path: Path | str) -> Artefact:
    """Read and check the artefact in the folder ``path``.

    Raises:
        FileError: a file is missing, damaged, newer than this nimbleq, not what was hashed, or not a valid model; names
            the file and what is wrong.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileError(f"{path} is not an artefact: there is no such folder")
    model, contents = _model_of(path)
    recorded = _unsealed(path, PROVENANCE)
    hashes = _check_hashes(path, recorded, contents)
    with _naming(path / WEIGHTS):
        arrays = _read_arrays(contents[WEIGHTS])
    with _naming(path / MODEL):
        held = decode_packed(model)
    with _naming(path / WEIGHTS):
        weights = decode_weights(arrays, held)
    with _naming(path / MODEL):
        graph, interface = _read_model(model, weights)
    with _naming(path / GOLDEN):
        golden = read_golden(contents[GOLDEN], graph)
    certificate = _unsealed(path, CERTIFICATE) if (path / CERTIFICATE).exists() else None
    combined = _combined(hashes)
    if certificate is not None and certificate.pop("artefact_digest", None) != combined:
        raise FileError(f"{path / CERTIFICATE} belongs to another model: certify this artefact again")
    provenance = {name: value for name, value in recorded.items() if name != "files"}
    return Artefact(path, graph, interface, golden, provenance, certificate, combined)


def attach_certificate(path: Path, certificate: Mapping[str, Any]) -> Artefact:
    """Store the certificate of the artefact at ``path``, in place of an older one.

    Raises:
        FileError: the artefact is not intact, or the place is not writable.
    """
    contents = {name: _read(path, name) for name in _HASHED}
    hashes = _check_hashes(path, _unsealed(path, PROVENANCE), contents)
    write_bytes(path / CERTIFICATE, _sealed({**certificate, "artefact_digest": _combined(hashes)}, indent=None))
    return load_artefact(path)


def digest(path: Path) -> str:
    """SHA-256 over model, weights and golden vectors: artefacts with the same digest are the same model.

    Raises:
        FileError: one of them is missing.
    """
    return _combined({name: sha256(_read(path, name)) for name in _HASHED})


def _combined(hashes: Mapping[str, str]) -> str:
    return sha256("".join(f"{hashes[name]}  {name}\n" for name in _HASHED).encode())


def _json(value: Any, indent: int | None = 1) -> bytes:
    return (json.dumps(value, indent=indent, allow_nan=False) + "\n").encode()


def _sealed(value: Mapping[str, Any], indent: int | None = 1) -> bytes:
    """A JSON object with its format and the digest of its own content; ``indent`` None puts it on one line."""
    # Through JSON once, so that the digest covers what a reader will see.
    content = json.loads(_json({"format": 1, **value}))
    return _json({**content, "digest": _content_digest(content)}, indent)


def _content_digest(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return sha256(canonical.encode())


def _unsealed(path: Path, name: str) -> dict[str, Any]:
    """The content that `_sealed` wrote, without format and digest."""
    content = _parse(path, name, _read(path, name))
    if content.pop("digest", None) != _content_digest(content):
        raise FileError(f"{path / name} was changed after it was written: its content does not match its digest")
    del content["format"]
    return content


def _read(path: Path, name: str) -> bytes:
    file = path / name
    if not file.is_file():
        raise FileError(f"{path} is not a complete artefact: {name} is missing")
    if file.stat().st_size > _MAX_BYTES[name]:
        raise FileError(f"{file} is larger than {_MAX_BYTES[name] >> 20} MiB: not an artefact's {name}")
    return read_bytes(file)


def _parse(path: Path, name: str, data: bytes) -> dict[str, Any]:
    """A JSON object of a format that this nimbleq reads."""
    file = path / name
    try:
        value = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{file} is not valid JSON ({error}): truncated or damaged") from error
    version = value.get("format") if isinstance(value, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise FileError(f"{file} has no format version: not an artefact's {name}")
    if version > FORMAT:
        raise FileError(
            f"{file} was written by a newer nimbleq (format {version}; this one, {VERSION}, reads up to {FORMAT}): "
            "upgrade nimbleq"
        )
    return dict(value)


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number")


def _model_of(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The model's JSON and the hashed files' bytes. A newer format is reported before any other error."""
    contents = {MODEL: _read(path, MODEL)}
    model = _parse(path, MODEL, contents[MODEL])
    return model, contents | {name: _read(path, name) for name in (WEIGHTS, GOLDEN)}


def _check_hashes(path: Path, provenance: Mapping[str, Any], contents: Mapping[str, bytes]) -> dict[str, str]:
    recorded: Any = provenance.get("files")
    for name in _HASHED:
        if not isinstance(recorded, dict) or recorded.get(name) != sha256(contents[name]):
            raise FileError(
                f"{path / name} no longer matches the SHA-256 in {PROVENANCE}: damaged or edited; "
                "restore it or make the artefact again"
            )
    return {name: recorded[name] for name in _HASHED}


def _read_arrays(data: bytes) -> dict[str, Array]:
    """Weights as they are stored, from safetensors, whose reader checks offsets and sizes before it gives out bytes."""
    try:
        entries = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise FileError(f"it is not a readable safetensors file ({error}): truncated or damaged") from error
    arrays: dict[str, Array] = {}
    for name, entry in entries:
        if entry["dtype"] not in _DTYPES:
            raise FileError(f"weight {name!r} is {entry['dtype']}; a model has {', '.join(_DTYPES)}")
        arrays[name] = np.frombuffer(entry["data"], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return arrays


def _read_model(model: Mapping[str, Any], weights: Mapping[str, Array]) -> tuple[Graph, Interface]:
    graph = decode({name: value for name, value in model.items() if name not in ("format", "interface")}, weights)
    if not {Q, ACTION} <= set(graph.outputs) or len([name for name in graph.inputs if name != MASK]) != 1:
        raise FileError(f"a policy has one observation and the outputs {Q!r} and {ACTION!r}")
    q, action = graph.types[Q], graph.types[ACTION]
    if len(q.shape) != 1 or q.qtype != FLOAT32 or action != TensorType((), INT32):
        raise FileError(f"{Q!r} must be a float32 vector and {ACTION!r} an int32 number, not {q} and {action}")
    interface = from_dict(model["interface"]) if "interface" in model else network_interface(graph)
    if fault := misfit(interface, graph):
        raise FileError(fault)
    return graph, interface


def network_interface(graph: Graph) -> Interface:
    """What a network takes and gives by itself, if its environment is unknown."""
    dtype = "float32" if isinstance(graph.obs_type.qtype, Float32) else "uint8"
    return Interface.of_spec(ObsSpec(graph.obs_type.shape, dtype), graph.actions)


def misfit(interface: Interface, graph: Graph) -> str:
    """Why ``interface`` does not fit ``graph``; empty if it does."""
    kind = TensorType(interface.obs.shape, UINT8 if interface.obs.dtype == "uint8" else FLOAT32)
    if kind != graph.obs_type:
        return f"the interface gives {kind}, the network reads {graph.obs_type}"
    if interface.actions != graph.actions:
        return f"the interface has {interface.actions} actions, the network {graph.actions}"
    if interface.mask is not None and not graph.masked:
        return "the interface has a mask of legal actions, the network takes none: give it one with with_mask"
    return ""


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Errors of the reader name ``file``."""
    try:
        yield
    except FileError as error:
        raise FileError(f"{file}: {error}") from error.__cause__
