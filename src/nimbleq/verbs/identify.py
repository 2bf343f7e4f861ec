"""``nimbleq identify``: which policy is in a binary file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from nimbleq.console import Console
from nimbleq.deploy.identity import marks
from nimbleq.errors import ConfigError, FileError
from nimbleq.files import read_bytes
from nimbleq.graph.artefact import digest, load_artefact
from nimbleq.graph.artefact_files import MODEL
from nimbleq.graph.guard import describe_guard
from nimbleq.verbs.common import Output


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """Find the marks of artefacts in a program, firmware or library, and name the policies and their certificates.

    The exit code is 1 if there is a mark of an artefact that is nowhere in the folders.

    Attributes:
        file: .elf, .bin, .so, .o, .wasm: any file that holds the program's bytes as they are.
        among: folders with runs, artefacts or builds, searched with everything below.
    """

    file: Annotated[Path, tyro.conf.Positional]
    among: tuple[Path, ...] = (Path(),)


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """Name what is in the file."""
    found = marks(read_bytes(args.file))
    if not found:
        raise ConfigError(
            f"{args.file} holds no mark of nimbleq: it has no exported policy, or is packed or hexadecimal (give the "
            ".elf or .bin)"
        )
    artefacts = {mark: list(_artefacts(mark, args.among)) for mark in found}
    for mark, known in artefacts.items():
        if not known:
            console.say(
                f"{args.file}: the policy {mark}, whose artefact is not in {_listed(args.among)} (--among FOLDER)"
            )
        for one in known:
            console.say(
                f"{args.file}: the policy {mark}, artefact {one['artefact']}, {_guard(one['guard'])}"
                f"{_certificate(one['certificate'])}"
            )
    policies = [{"digest": mark, "artefacts": known} for mark, known in artefacts.items()]
    return {"file": str(args.file), "policies": policies}, all(artefacts.values())


def _artefacts(mark: str, among: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Those whose digest begins with ``mark``."""
    for folder in among:
        for model in sorted(folder.rglob(MODEL)):
            try:
                if digest(model.parent).startswith(mark):
                    artefact = load_artefact(model.parent)
                    yield {
                        "artefact": str(model.parent), "digest": artefact.digest, "certificate": artefact.certificate,
                        "guard": None if artefact.guard is None else describe_guard(artefact.guard),
                    }  # fmt: skip
            except FileError:
                continue  # damaged, or not an artefact


def _guard(facts: list[str] | None) -> str:
    return "" if facts is None else "behind its guard (NAME_guard_act; NAME_act is the network alone): "


def _certificate(certificate: dict[str, Any] | None) -> str:
    if certificate is None:
        return "without a certificate"
    keep, episodes = certificate.get("keep"), certificate.get("episodes")
    share = f"{keep:.1%} of the teacher's return" if isinstance(keep, float) else "its return"
    holds = "certified to keep" if certificate.get("certified") else "not certified to keep"
    return f"{holds} {share} after {episodes} episodes"


def _listed(folders: Sequence[Path]) -> str:
    return ", ".join(map(str, folders))
