"""Running a module in Node."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nimbleq.deploy.target import RawRun, Run
from nimbleq.deploy.targets.c.raw_harness import raw_answer, raw_bytes, taken
from nimbleq.deploy.targets.cross.row import rows
from nimbleq.deploy.targets.wasm.parts import FOLDER, filled
from nimbleq.deploy.toolchain import TIMEOUT_SECONDS, CompileError
from nimbleq.graph.graph import Graph
from nimbleq.graph.interface import Interface
from nimbleq.types import Array


def run(module: bytes, script: bytes, graph: Graph, folder: Path) -> Run:
    """A `Run` that starts Node once per batch; ``script`` loads the module."""
    (folder / "policy.wasm").write_bytes(module)
    (folder / "policy.mjs").write_bytes(script)
    (folder / "run.mjs").write_text(filled("run.mjs", graph))
    answer = np.dtype([("action", "<i4"), ("q", "<f4", (graph.actions,))])

    def answers(obs: Array, mask: Array | None) -> tuple[Array, Array]:
        made = _answered("run.mjs", rows(obs, mask), mask is not None, folder)
        found = np.frombuffer(made, answer)
        return found["action"], found["q"]

    return answers


def run_raw(module: bytes, script: bytes, interface: Interface, folder: Path) -> RawRun:
    """A `RawRun` that starts Node once per batch."""
    (folder / "policy.wasm").write_bytes(module)
    (folder / "policy.mjs").write_bytes(script)
    (folder / "run_raw.mjs").write_bytes((FOLDER / "run_raw.mjs").read_bytes())

    def answers(raws: Sequence[Any], mask: Array | None) -> tuple[Array, Array, Array]:
        given = b"".join(raw_bytes(interface, raws, mask))
        found = np.frombuffer(
            _answered("run_raw.mjs", given, interface.frames is not None, folder), raw_answer(interface)
        )
        return found["index"], found["obs"], taken(interface, found)

    return answers


def _answered(script: str, given: bytes, flag: bool, folder: Path) -> bytes:
    """What ``script`` writes about ``given``."""
    (folder / "in.bin").write_bytes(given)
    words = ["node", script, "policy.wasm", "in.bin", "out.bin", str(int(flag))]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    if done.returncode != 0:
        raise CompileError(f"the module failed in Node: {' '.join(done.stderr.split())[-200:]}")
    return (folder / "out.bin").read_bytes()
