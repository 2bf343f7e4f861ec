"""The files of an artefact's folder: read up to a size, JSON with a format version and a digest, and their hashes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nimbleq.errors import FileError
from nimbleq.files import read_bytes, sha256
from nimbleq.version import VERSION

FORMAT = 4
"""Version of the layout; it rises when an older nimbleq cannot read what a newer one writes. 2: the interface,
masks, and weights of any format and encoding. 3: the guard. 4: partners
in its envelope. A file has the oldest version that can read it."""
MODEL, WEIGHTS, GOLDEN = "model.json", "weights.safetensors", "golden.npz"
PROVENANCE, CERTIFICATE = "provenance.json", "certificate.json"
HASHED = (MODEL, WEIGHTS, GOLDEN)
_MAX_BYTES = {MODEL: 32 << 20, PROVENANCE: 32 << 20, CERTIFICATE: 32 << 20, WEIGHTS: 4 << 30, GOLDEN: 256 << 20}


def certificate_file(target: str = "") -> str:
    """Name of the certificate; of the one that holds for the runtime of one target where that is given."""
    return f"certificate-{target}.json" if target else CERTIFICATE


def combined(hashes: Mapping[str, str]) -> str:
    """One digest of the hashes of `HASHED`: the artefact's."""
    return sha256("".join(f"{hashes[name]}  {name}\n" for name in HASHED).encode())


def json_bytes(value: Any, indent: int | None = 1) -> bytes:
    """A JSON file's content; NaN and infinity are refused."""
    return (json.dumps(value, indent=indent, allow_nan=False) + "\n").encode()


def sealed(value: Mapping[str, Any], indent: int | None = 1) -> bytes:
    """A JSON object with its format and the digest of its own content; ``indent`` None puts it on one line."""
    # Through JSON once, so that the digest covers what a reader will see.
    content = json.loads(json_bytes({"format": 1, **value}))
    return json_bytes({**content, "digest": _content_digest(content)}, indent)


def _content_digest(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return sha256(canonical.encode())


def unsealed(path: Path, name: str) -> dict[str, Any]:
    """The content that `sealed` wrote, without format and digest."""
    content = parse(path, name, read_file(path, name))
    if content.pop("digest", None) != _content_digest(content):
        raise FileError(f"{path / name} was changed after it was written: its content does not match its digest")
    del content["format"]
    return content


def read_file(path: Path, name: str) -> bytes:
    """The file ``name`` of the artefact at ``path``.

    Raises:
        FileError: it is missing, larger than such a file can be, or unreadable.
    """
    file = path / name
    if not file.is_file():
        raise FileError(f"{path} is not a complete artefact: {name} is missing")
    most = _MAX_BYTES.get(name, _MAX_BYTES[CERTIFICATE])
    if file.stat().st_size > most:
        raise FileError(f"{file} is larger than {most >> 20} MiB: not an artefact's {name}")
    return read_bytes(file)


def parse(path: Path, name: str, data: bytes) -> dict[str, Any]:
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


def model_of(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The model's JSON and the hashed files' bytes. A newer format is reported before any other error."""
    contents = {MODEL: read_file(path, MODEL)}
    model = parse(path, MODEL, contents[MODEL])
    return model, contents | {name: read_file(path, name) for name in (WEIGHTS, GOLDEN)}


def checked_hashes(path: Path, provenance: Mapping[str, Any], contents: Mapping[str, bytes]) -> dict[str, str]:
    """SHA-256 of the files ``contents``, as ``provenance`` has them.

    Raises:
        FileError: a file is not what was hashed.
    """
    recorded: Any = provenance.get("files")
    for name in HASHED:
        if not isinstance(recorded, dict) or recorded.get(name) != sha256(contents[name]):
            raise FileError(
                f"{path / name} no longer matches the SHA-256 in {PROVENANCE}: damaged or edited; "
                "restore it or make the artefact again"
            )
    return {name: recorded[name] for name in HASHED}
