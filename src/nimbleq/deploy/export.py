"""Writing an artefact for its targets: a build folder that can be verified on its own.

<name>.c, <name>.h, example.c     target c
model.onnx                        target onnx: float, or the exact integers
model_qdq.onnx                    target onnx, integer graphs: the form that runtimes fuse into int8 kernels
oracle/                           the artefact itself: what everything here is checked against
build.json                        what is here, with hashes
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.targets.c.text import identifier
from nimbleq.errors import ConfigError, FileError
from nimbleq.files import read_bytes, read_json, sha256, write_bytes, write_folder, write_json
from nimbleq.graph import ops
from nimbleq.graph.artefact import CERTIFICATE, GOLDEN, MODEL, PROVENANCE, WEIGHTS, Artefact, load_artefact
from nimbleq.graph.graph import Graph
from nimbleq.graph.tensor import Float32
from nimbleq.version import VERSION

TARGETS = ("c", "onnx")
MANIFEST = "build.json"
ORACLE = "oracle"
FORMAT = 1
QDQ_OPSET = 13
"""From this opset on there is the QDQ form."""


@dataclass(frozen=True)
class OnnxOptions:
    """How ONNX models are written; see `nimbleq.deploy.targets.onnx.emit.emit_onnx`.

    Attributes:
        opset: version of the operators, for engines that know older ones only.
        outputs: ``both``, ``q`` or ``action``.
    """

    opset: int = 17
    outputs: Literal["both", "q", "action"] = "both"


_PARTS = (MODEL, WEIGHTS, GOLDEN, PROVENANCE, CERTIFICATE)


def check_targets(targets: Sequence[str], name: str = "policy") -> None:
    """Refuse what cannot be exported, whatever the artefact.

    Raises:
        ConfigError: an unknown target, a name that C cannot have, or a package that is missing.
    """
    identifier(name)
    unknown = [target for target in targets if target not in TARGETS]
    if unknown or not targets:
        raise ConfigError(f"unknown target {', '.join(unknown) or '(none)'}: use {' or '.join(TARGETS)}")
    if "onnx" in targets and importlib.util.find_spec("onnx") is None:
        raise ConfigError("the target onnx needs the package onnx: pip install 'nimbleq[onnx]', or give --to c")


def export(
    artefact: Path, targets: Sequence[str], out: Path, name: str = "policy", onnx: OnnxOptions = OnnxOptions()
) -> dict[str, Any]:
    """Write ``artefact`` for ``targets`` into ``out``, all or nothing.

    An older build there is replaced: what its manifest lists, and nothing else.

    Args:
        targets: of `TARGETS`.
        name: of the C functions and files.
        onnx: how ONNX models are written.

    Returns:
        The manifest, as in ``build.json``: format, nimbleq, name, artefact_digest, targets, files (name → SHA-256).

    Raises:
        ConfigError: see `check_targets`; or ``out`` holds something that is not a build.
        FileError: the artefact is damaged, or ``out`` cannot be written.
        UnsupportedOpError: a target cannot express an op.
    """
    check_targets(targets, name)
    before = _files_of_build(out)
    loaded = load_artefact(artefact)
    contents: dict[str, bytes] = {}
    for target in dict.fromkeys(targets):
        contents |= _c_files(loaded, name) if target == "c" else _onnx_files(loaded, name, onnx)
    foreign = [file for file in contents if file not in before and (out / file).exists()]
    if foreign:
        raise ConfigError(f"{out / foreign[0]} is in the way and not of nimbleq: move it, or choose another --out")
    manifest = {
        "format": FORMAT,
        "nimbleq": VERSION,
        "name": name,
        "artefact_digest": loaded.digest,
        "targets": list(dict.fromkeys(targets)),
        "files": {file: sha256(data) for file, data in contents.items()},
    }

    def fill(folder: Path) -> None:
        for file, data in contents.items():
            write_bytes(folder / file, data)
        (folder / ORACLE).mkdir()
        for part in _PARTS:
            if (artefact / part).exists():
                shutil.copyfile(artefact / part, folder / ORACLE / part)
        write_json(folder / MANIFEST, manifest)

    if out.exists():
        _renew(out, before, fill)
    else:
        write_folder(out, fill)
    return manifest


def _files_of_build(out: Path) -> set[str]:
    """Names of the files that the manifest in ``out`` lists; none where nothing is there.

    Raises:
        ConfigError: ``out`` holds something that is not a build.
        FileError: its manifest is damaged.
    """
    if not (out / MANIFEST).exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ConfigError(f"{out} exists and is not a build of nimbleq: choose another folder")
        return set()
    return set(_manifest_of(out)["files"])


def _renew(out: Path, before: set[str], fill: Callable[[Path], None]) -> None:
    """Put the files that ``fill`` writes in place of those of the build in ``out``; the manifest comes last.

    All is written beside before anything is replaced. Killed in between, the manifest does not fit: `load_build` says.

    Raises:
        FileError: ``out`` cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(dir=out, prefix=".export-") as scratch:
            fill(Path(scratch))
            fresh = sorted(path.relative_to(scratch) for path in Path(scratch).rglob("*") if path.is_file())
            (out / ORACLE).mkdir(exist_ok=True)
            for path in sorted(fresh, key=lambda path: path.name == MANIFEST):
                (Path(scratch) / path).replace(out / path)
            stale = before - {str(path) for path in fresh}
            for file in [*stale, *(f"{ORACLE}/{part}" for part in _PARTS if Path(ORACLE, part) not in fresh)]:
                (out / file).unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"cannot write {out}: {error.strerror or error}") from error


def load_build(folder: Path) -> tuple[dict[str, Any], Artefact]:
    """The manifest and the oracle of a build.

    Raises:
        FileError: not a build, of a newer format, or a file is not what was exported.
    """
    manifest = _manifest_of(folder)
    for file, expected in manifest["files"].items():
        if sha256(read_bytes(folder / file)) != expected:
            raise FileError(f"{folder / file} was changed after the export: export again")
    oracle = load_artefact(folder / ORACLE)
    if oracle.digest != manifest["artefact_digest"]:
        raise FileError(f"{folder / ORACLE} is not the artefact that was exported: export again")
    return manifest, oracle


def _manifest_of(folder: Path) -> dict[str, Any]:
    if not (folder / MANIFEST).is_file():
        raise FileError(f"{folder} is not a build: there is no {MANIFEST}; make one with nimbleq export")
    manifest = read_json(folder / MANIFEST)
    keys = {"format": int, "name": str, "artefact_digest": str, "targets": list, "files": dict}
    if not isinstance(manifest, dict) or any(not isinstance(manifest.get(key), kind) for key, kind in keys.items()):
        raise FileError(f"{folder / MANIFEST} does not describe a build: export again, into another folder")
    if manifest["format"] > FORMAT:
        raise FileError(
            f"{folder / MANIFEST} has format {manifest['format']}; this nimbleq reads up to {FORMAT}: upgrade"
        )
    for file in manifest["files"]:
        if Path(file).name != file:
            raise FileError(
                f"{folder / MANIFEST} names the file {file!r} outside the build: export into another folder"
            )
    return manifest


def is_integer(graph: Graph) -> bool:
    """True when every layer computes in integers, so that every engine has to give the same bits."""
    floats = (
        ops.Linear, ops.Conv2d, ops.LayerNorm, ops.Add, ops.Dueling, ops.Expectation, ops.Pool, ops.Activation,
        ops.Affine,
    )  # fmt: skip
    return not any(isinstance(n.op, floats) and isinstance(graph.types[n.output].qtype, Float32) for n in graph.nodes)


def _source(artefact: Artefact) -> str:
    return f"artefact {artefact.path.name}, digest {artefact.digest}"


def _c_files(artefact: Artefact, name: str) -> dict[str, bytes]:
    if name.lower() == "example":
        raise ConfigError("'example' is the name of the program that shows how to use the policy: choose another")
    files = emit_c(artefact.graph, name, _source(artefact), artefact.q_meaning, artefact.interface)
    files["example.c"] = _example(artefact.graph, name)
    return {file: text.encode() for file, text in files.items()}


def _onnx_files(artefact: Artefact, name: str, options: OnnxOptions) -> dict[str, bytes]:
    from nimbleq.deploy.targets.onnx.emit import emit_onnx

    graph, source = artefact.graph, _source(artefact)
    chosen: dict[str, Any] = {"source": source, "opset": options.opset, "outputs": options.outputs}
    files = {"model.onnx": emit_onnx(graph, name, **chosen)}
    if any(isinstance(node.op, ops.Requantize) for node in graph.nodes) and options.opset >= QDQ_OPSET:
        files["model_qdq.onnx"] = emit_onnx(graph, name, **chosen, exact=False)
    return files


def _example(graph: Graph, name: str) -> str:
    """A program that decides once; the compile line is on top."""
    element = "float" if isinstance(graph.obs_type.qtype, Float32) else "uint8_t"
    upper = name.upper()
    mask, given, act = "", "", "act"
    if graph.masked:
        mask = f"static uint8_t mask[{upper}_ACTIONS] = {{1}}; /* not 0 where an action is legal */\n"
        given, act = ", mask", "act_masked"
    return f"""/* cc -std=c99 -O3 -march=native example.c {name}.c -o example && ./example */
#include "{name}.h"

#include <stdio.h>

static {element} obs[{upper}_OBS_SIZE]; /* zeros: fill in what the sensors say */
{mask}
int main(void)
{{
    float q[{upper}_ACTIONS];
    if ({name}_q(obs, q) < 0) return 1;
    for (int a = 0; a < {upper}_ACTIONS; ++a) printf("q[%d] = %g\\n", a, (double)q[a]);
    printf("action %d\\n", {name}_{act}(obs{given}));
    return 0;
}}
"""
