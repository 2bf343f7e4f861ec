"""Running a module in Node."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np

from nimbleq.deploy.target import Run
from nimbleq.deploy.targets.cross.row import rows
from nimbleq.deploy.targets.wasm.parts import filled, loader
from nimbleq.deploy.toolchain import TIMEOUT_SECONDS, CompileError
from nimbleq.graph.graph import Graph
from nimbleq.types import Array


def run(module: bytes, graph: Graph, folder: Path) -> Run:
    """A `Run` that starts Node once per batch."""
    (folder / "policy.wasm").write_bytes(module)
    (folder / "policy.mjs").write_bytes(loader(graph))
    (folder / "run.mjs").write_text(filled("run.mjs", graph))
    answer = np.dtype([("action", "<i4"), ("q", "<f4", (graph.actions,))])

    def answers(obs: Array, mask: Array | None) -> tuple[Array, Array]:
        (folder / "in.bin").write_bytes(rows(obs, mask))
        words = ["node", "run.mjs", "policy.wasm", "in.bin", "out.bin", str(int(mask is not None))]
        done = subprocess.run(
            words, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )  # fmt: skip
        if done.returncode != 0:
            raise CompileError(f"the module failed in Node: {' '.join(done.stderr.split())[-200:]}")
        found = np.frombuffer((folder / "out.bin").read_bytes(), answer)
        return found["action"], found["q"]

    return answers
