"""``nimbleq export``: artefact → files for a target."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from nimbleq.console import Console, size_text
from nimbleq.deploy.export import OnnxOptions
from nimbleq.verbs.common import Output, artefact_and_run


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """Write an artefact as source or model files.

    Attributes:
        artefact: artefact folder, or a run directory with one compressed artefact.
        to: targets: c (one C99 file and its header), onnx.
        out: folder to write; files of an older build there, as listed in its manifest, are replaced.
        name: of the C functions (NAME_act, NAME_q) and the files; two policies in one program need two names.
        opset: of ONNX models; older engines need an older one, e.g. 13.
        outputs: of ONNX models: both, q (action values) or action.
    """

    artefact: Annotated[Path, tyro.conf.Positional]
    to: tuple[str, ...] = ("c", "onnx")
    out: Path = Path("build")
    name: str = "policy"
    opset: int = 17
    outputs: Literal["both", "q", "action"] = "both"


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """Write the files and list them."""
    path, _ = artefact_and_run(args.artefact)
    onnx = OnnxOptions(args.opset, args.outputs)
    return export_artefact(path, args.to, args.out, console, args.name, onnx), True


def export_artefact(
    artefact: Path,
    targets: tuple[str, ...],
    out: Path,
    console: Console,
    name: str = "policy",
    onnx: OnnxOptions | None = None,
) -> dict[str, Any]:
    """Export one artefact; returns the verb's JSON object."""
    from nimbleq.deploy.export import MANIFEST, ORACLE, export

    manifest = export(artefact, targets, out, name, onnx or OnnxOptions())
    written = [*map(Path, manifest["files"]), Path(MANIFEST), *(p.relative_to(out) for p in (out / ORACLE).iterdir())]
    files = {str(file): (out / file).stat().st_size for file in sorted(written)}
    console.say(
        f"exported {artefact} → {out}: " + ", ".join(f"{name} ({size_text(size)})" for name, size in files.items())
    )
    return {
        "artefact": str(artefact), "out": str(out), "name": name, "targets": manifest["targets"], "files": files,
    }  # fmt: skip
