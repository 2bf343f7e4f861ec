"""The artefact: a folder with the model, its golden vectors, its provenance and its certificate.

    model.json            the graph without weights, the interface, and the guard
    weights.safetensors   the weights, those of the guard's networks included
    golden.npz            observations and the interpreter's answers
    provenance.json       what made it, and the SHA-256 of the three files above
    certificate.json      what was certified, and the digest of the artefact that it holds for
    certificate-TARGET.json  the same of the runtime of a target that rounds by itself

`provenance.json` and `certificate.json` carry a digest of their own content. The digests show damage and later edits of
any one file; they are not signatures: anybody can recompute them all.
Nothing in the folder is code, and reading it runs no code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from nimbleq.errors import FileError
from nimbleq.files import sha256, write_bytes, write_folder
from nimbleq.graph.artefact_files import (
    CERTIFICATE,
    GOLDEN,
    HASHED,
    MODEL,
    PROVENANCE,
    WEIGHTS,
    certificate_file,
    checked_hashes,
    combined,
    json_bytes,
    model_of,
    read_file,
    sealed,
    unsealed,
)
from nimbleq.graph.codec import decode, decode_packed, decode_weights, encode, weight_arrays
from nimbleq.graph.formats import FORMATS
from nimbleq.graph.golden import Golden, make_golden, read_golden, write_golden
from nimbleq.graph.graph import ACTION, MASK, NEXT_STATE, STATE, Graph, Q
from nimbleq.graph.guard import Guard, misguided
from nimbleq.graph.guard_codec import PREFIX, guard_from_dict, guard_to_dict, guard_weights, has_partners
from nimbleq.graph.interface import Interface
from nimbleq.graph.interface_codec import from_dict, to_dict
from nimbleq.graph.tensor import FLOAT32, INT32, UINT8, Float32, TensorType
from nimbleq.types import Array, ObsSpec
from nimbleq.version import VERSION

_DTYPES = {row.native: row.dtype for row in FORMATS.values() if row.native} | {"U8": np.dtype(np.uint8)}


@dataclass(frozen=True)
class Artefact:
    """A policy as it lies in a folder, read and checked by `load_artefact`.

    Attributes:
        path: the folder.
        graph: the model.
        interface: what its environment gives and takes; if that is unknown, what the network takes and gives.
        guard: what stands between the network and the machine; None without one. It is a part of the policy: the digest
            and the certificate are those of the network behind it.
        golden: observations and answers, the network's own.
        provenance: what made it, as given to `save_artefact` (``parents``, ``command`` …), and the ``nimbleq`` version.
        certificate: as given to `attach_certificate`; None without one.
        digest: over model, weights and golden vectors; see `digest`.
    """

    path: Path
    graph: Graph
    interface: Interface
    guard: Guard | None
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
    guard: Guard | None = None,
) -> Artefact:
    """Write an artefact folder, all or nothing; an existing folder is replaced.

    Args:
        golden_obs: ``[K, *O]`` at least one observation; the interpreter's answers are stored with them.
        provenance: JSON values: command line, digests of parents, and more.
        interface: what the environment gives and takes (None: the network's own input and indices of actions).
        golden_mask: ``[K, A]`` legal actions for the observations, if the graph takes a mask (None: random ones).
        guard: of the policy (None: the network acts alone).

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
    if guard is not None and (fault := misguided(guard, graph)):
        raise FileError(f"cannot write {path}: the guard does not fit: {fault}")
    extra = {} if interface is None else {"interface": to_dict(interface)}
    guarding = {} if guard is None else {"guard": guard_to_dict(guard)}
    if guard is not None:
        arrays |= guard_weights(guard)
    version = 4 if has_partners(guard) else 3 if guarding else 2 if graph.storage or graph.masked or extra else 1
    if not (np.isfinite(golden.q).all() and np.isfinite(golden.obs).all()):
        raise FileError(f"cannot write {path}: golden observations or their action values hold NaN or infinity")
    contents = {
        MODEL: json_bytes({"format": version, **encode(graph), **extra, **guarding}),
        WEIGHTS: safetensors.numpy.save({name: np.asarray(array) for name, array in arrays.items()}),
        GOLDEN: write_golden(golden),
    }
    hashes = {name: sha256(data) for name, data in contents.items()}
    contents[PROVENANCE] = sealed({**provenance, "nimbleq": VERSION, "files": hashes})
    if certificate is not None:
        contents[CERTIFICATE] = sealed({**certificate, "artefact_digest": combined(hashes)}, indent=None)

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
    model, contents = model_of(path)
    recorded = unsealed(path, PROVENANCE)
    hashes = checked_hashes(path, recorded, contents)
    with _naming(path / WEIGHTS):
        arrays = _read_arrays(contents[WEIGHTS])
    with _naming(path / MODEL):
        held = decode_packed(model)
    own = {name: array for name, array in arrays.items() if "guard" not in model or not name.startswith(PREFIX)}
    with _naming(path / WEIGHTS):
        weights = decode_weights(own, held)
    with _naming(path / MODEL):
        graph, interface = _read_model(model, weights)
        guard = _read_guard(model["guard"], arrays, graph) if "guard" in model else None
    with _naming(path / GOLDEN):
        golden = read_golden(contents[GOLDEN], graph)
    whole = combined(hashes)
    certificate = _certificate(path, CERTIFICATE, whole)
    provenance = {name: value for name, value in recorded.items() if name != "files"}
    return Artefact(path, graph, interface, guard, golden, provenance, certificate, whole)


def read_certificate(path: Path, target: str) -> dict[str, Any] | None:
    """The certificate of the artefact at ``path`` as ``target`` runs it; None without one.

    Raises:
        FileError: it is damaged, or belongs to another model.
    """
    return _certificate(path, certificate_file(target), digest(path))


def _certificate(path: Path, name: str, own: str) -> dict[str, Any] | None:
    if not (path / name).exists():
        return None
    certificate = unsealed(path, name)
    if certificate.pop("artefact_digest", None) != own:
        raise FileError(f"{path / name} belongs to another model: certify this artefact again")
    return certificate


def attach_certificate(path: Path, certificate: Mapping[str, Any], target: str = "") -> Artefact:
    """Store the certificate of the artefact at ``path``, in place of an older one.

    Args:
        target: the one on whose runtime it was played; empty: the interpreter, and so every exact target.

    Raises:
        FileError: the artefact is not intact, or the place is not writable.
    """
    contents = {name: read_file(path, name) for name in HASHED}
    hashes = checked_hashes(path, unsealed(path, PROVENANCE), contents)
    content = sealed({**certificate, "artefact_digest": combined(hashes)}, indent=None)
    write_bytes(path / certificate_file(target), content)
    return load_artefact(path)


def digest(path: Path) -> str:
    """SHA-256 over model, weights and golden vectors: artefacts with the same digest are the same model.

    Raises:
        FileError: one of them is missing.
    """
    return combined({name: sha256(read_file(path, name)) for name in HASHED})


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
    parts = ("format", "interface", "guard")
    graph = decode({name: value for name, value in model.items() if name not in parts}, weights)
    _check_policy(graph)
    interface = from_dict(model["interface"]) if "interface" in model else network_interface(graph)
    if fault := misfit(interface, graph):
        raise FileError(fault)
    return graph, interface


def _read_guard(content: Any, arrays: Mapping[str, Array], graph: Graph) -> Guard:
    guard = guard_from_dict(content, arrays)
    for network in (guard.larger, guard.backup):
        if network is not None:
            _check_policy(network)
    if fault := misguided(guard, graph):
        raise FileError(f"the guard does not fit: {fault}")
    return guard


def _check_policy(graph: Graph) -> None:
    if not {Q, ACTION} <= set(graph.outputs) or len([name for name in graph.inputs if name not in (MASK, STATE)]) != 1:
        raise FileError(f"a policy has one observation and the outputs {Q!r} and {ACTION!r}")
    q, action = graph.types[Q], graph.types[ACTION]
    if STATE in graph.inputs or NEXT_STATE in graph.outputs:
        kinds = {graph.inputs.get(STATE), graph.types.get(NEXT_STATE) if NEXT_STATE in graph.outputs else None}
        if len(kinds) > 1 or kinds != {TensorType((graph.units,))}:
            raise FileError(f"a policy that remembers has {STATE!r} in and {NEXT_STATE!r} out, float32 vectors alike")
    if len(q.shape) != 1 or q.qtype != FLOAT32 or action != TensorType((), INT32):
        raise FileError(f"{Q!r} must be a float32 vector and {ACTION!r} an int32 number, not {q} and {action}")


def network_interface(graph: Graph, bits: tuple[tuple[int, int], ...] = ()) -> Interface:
    """What a network takes and gives by itself, if its environment is unknown; ``bits`` as in `ObsSpec`."""
    dtype = "float32" if isinstance(graph.obs_type.qtype, Float32) else "uint8"
    return Interface.of_spec(ObsSpec(graph.obs_type.shape, dtype, bits=bits), graph.actions, graph.branches)


def misfit(interface: Interface, graph: Graph) -> str:
    """Why ``interface`` does not fit ``graph``; empty if it does."""
    kind = TensorType(interface.obs.shape, UINT8 if interface.obs.dtype == "uint8" else FLOAT32)
    if kind != graph.obs_type:
        return f"the interface gives {kind}, the network reads {graph.obs_type}"
    if interface.actions != graph.actions:
        return f"the interface has {interface.actions} actions, the network {graph.actions}"
    if interface.branches != graph.branches:
        return (
            f"the interface has actions of {_dimensions(interface.branches)}, the network {_dimensions(graph.branches)}"
        )
    if interface.mask is not None and not graph.masked:
        return "the interface has a mask of legal actions, the network takes none: give it one with with_mask"
    return ""


def _dimensions(branches: tuple[int, ...]) -> str:
    return f"{' x '.join(map(str, branches))} choices" if branches else "a single choice"


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Errors of the reader name ``file``."""
    try:
        yield
    except FileError as error:
        raise FileError(f"{file}: {error}") from error.__cause__
