"""Writing an artefact for its targets: a build folder that can be verified on its own.

Beside the files that the targets write, some of them in a folder of the target's name, it holds

oracle/         the artefact itself: what everything here is checked against
build.json      what is here, with hashes
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nimbleq.deploy.target import Source
from nimbleq.deploy.targets import TARGETS
from nimbleq.deploy.targets.c.text import identifier
from nimbleq.errors import ConfigError, FileError
from nimbleq.files import read_bytes, read_json, sha256, write_bytes, write_folder, write_json
from nimbleq.graph.artefact import Artefact, load_artefact
from nimbleq.graph.artefact_files import CERTIFICATE, GOLDEN, MODEL, PROVENANCE, WEIGHTS, certificate_file
from nimbleq.version import VERSION

MANIFEST = "build.json"
ORACLE = "oracle"
FORMAT = 1
_PARTS = (MODEL, WEIGHTS, GOLDEN, PROVENANCE, CERTIFICATE, *map(certificate_file, TARGETS))


def check_targets(targets: Sequence[str], name: str = "policy") -> None:
    """Refuse what cannot be exported, whatever the artefact.

    Raises:
        ConfigError: an unknown target, a name that C cannot have, or something that a target needs is missing.
    """
    identifier(name)
    unknown = [target for target in targets if target not in TARGETS]
    if unknown or not targets:
        raise ConfigError(f"unknown target {', '.join(unknown) or '(none)'}: use {' or '.join(TARGETS)}")
    for target in targets:
        if why := TARGETS[target].cannot_emit():
            others = " ".join(other for other in TARGETS if not TARGETS[other].cannot_emit())
            raise ConfigError(f"{why}, or give --to {others}")


def check_guarded(artefact: Artefact, targets: Sequence[str]) -> None:
    """Refuse targets that would run a guarded policy without its guard.

    Raises:
        ConfigError: names the first of them.
    """
    without = [target for target in targets if TARGETS[target].guard is None]
    if artefact.guard is not None and without:
        able = " ".join(name for name, row in TARGETS.items() if row.guard is not None)
        raise ConfigError(
            f"{artefact.path} has a guard, which {without[0]} cannot run: give --to {able}, or export the artefact "
            "that it was made from, whose certificate is for the network alone"
        )


def export(
    artefact: Path,
    targets: Sequence[str],
    out: Path,
    name: str = "policy",
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write ``artefact`` for ``targets`` into ``out``, all or nothing.

    An older build there is replaced: what its manifest lists, and nothing else.

    Args:
        targets: of `TARGETS`.
        name: of the C functions and files.
        options: target → how it is written, a value of its `Target.options`; those left out are written as usual.

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
    check_guarded(loaded, targets)
    contents: dict[str, bytes] = {}
    for target in dict.fromkeys(targets):
        row = TARGETS[target]
        if loaded.graph.units and not row.remembers:
            able = " ".join(each.name for each in TARGETS.values() if each.remembers)
            raise ConfigError(f"{artefact} remembers observations, which {target} cannot: give --to {able}")
        files = row.emit(Source.of(loaded), name, (options or {}).get(target, row.options()))
        if twice := sorted(files.keys() & contents.keys()):
            raise ConfigError(f"two of the targets {', '.join(targets)} write {twice[0]}: export them into two folders")
        contents |= files
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
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            write_bytes(folder / file, data)
            if file.endswith(".elf"):
                (folder / file).chmod(0o755)
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
                (out / path).parent.mkdir(parents=True, exist_ok=True)
                (Path(scratch) / path).replace(out / path)
            stale = before - {str(path) for path in fresh}
            for file in [*stale, *(f"{ORACLE}/{part}" for part in _PARTS if Path(ORACLE, part) not in fresh)]:
                (out / file).unlink(missing_ok=True)
            left = {out / folder for file in stale for folder in Path(file).parents} - {out}
            for folder in sorted(left, key=lambda folder: -len(folder.parts)):
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()
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
    unknown = [target for target in manifest["targets"] if target not in TARGETS]
    if unknown:
        raise FileError(
            f"{folder / MANIFEST} is of the target {unknown[0]!r}, which this nimbleq does not know: upgrade"
        )
    for file in manifest["files"]:
        if Path(file).name != file and not re.fullmatch(r"(\w[\w-]*/)+\w[\w.-]*", file):
            raise FileError(
                f"{folder / MANIFEST} names the file {file!r} outside the build: export into another folder"
            )
    return manifest
