"""``nimbleq doctor``: what is installed here, and which engines that gives."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
from dataclasses import dataclass
from typing import Any

from nimbleq.console import Console
from nimbleq.verbs.common import Output
from nimbleq.version import VERSION

PURPOSES = {
    "numpy": "the core",
    "safetensors": "the core",
    "torch": "train, compress, import",
    "gymnasium": "environments",
    "tensorboard": "training curves",
    "ale_py": "Atari environments",
    "minatar": "MinAtar environments",
    "pillow": "watch (GIFs)",
    "onnx": "export --to onnx",
    "onnxruntime": "verify and bench beside ONNX Runtime",
}


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """Say what is installed and which engines work here."""


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """Look and list; never fails."""
    packages = {name: _version(name) for name in PURPOSES}
    compilers = {name: shutil.which(name) for name in ("cc", "gcc", "clang")}
    extensions = {
        name: importlib.util.find_spec(f"nimbleq.native.{name}") is not None for name in ("_runtime", "_learner")
    }
    rows = [[name, version or "missing", PURPOSES[name]] for name, version in packages.items()]
    rows += [[name, "found" if path else "missing", "decisions in C (Runtime)"] for name, path in compilers.items()]
    rows += [[f"native.{name}", "built" if built else "missing", "fast path"] for name, built in extensions.items()]
    console.table(f"nimbleq {VERSION}, Python {platform.python_version()}", ("what", "state", "for"), rows)
    result = {
        "nimbleq": VERSION, "python": platform.python_version(), "packages": packages,
        "compilers": {name: path is not None for name, path in compilers.items()}, "extensions": extensions,
    }  # fmt: skip
    return result, True


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
