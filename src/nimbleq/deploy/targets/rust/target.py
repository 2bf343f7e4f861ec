"""The row of Rust."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nimbleq.deploy.target import Files, NoOptions, RawRun, Run, Source, Target
from nimbleq.deploy.targets.c.raw import has_raw
from nimbleq.deploy.targets.c.raw_harness import raw_answer, raw_bytes, taken
from nimbleq.deploy.targets.cross.row import rows
from nimbleq.deploy.targets.rust.crate import crate
from nimbleq.deploy.targets.rust.raw import raw_harness
from nimbleq.deploy.toolchain import TIMEOUT_SECONDS, CompileError, find_compiler, words
from nimbleq.graph.graph import Graph
from nimbleq.types import Array


def _emit(source: Source, name: str, _: NoOptions) -> Files:
    return {f"rust/{file}": text.encode() for file, text in crate(source, name).items()}


def _cannot_open() -> str | None:
    if find_compiler() is None or shutil.which("ar") is None:
        return "building rust needs a C compiler: install gcc"
    return None if shutil.which("rustc") else "building rust needs its compiler: apt install rustc"


def _open(source: Source, files: Files, name: str, folder: Path) -> Mapping[str, Run]:
    """The crate, built as ``build.rs`` builds it, behind a program that answers observations."""
    program = _built(files, name, _harness(source.graph, name), folder)
    answer = np.dtype([("action", "<i4"), ("q", "<f4", (source.graph.actions,))])

    def run(obs: Array, mask: Array | None) -> tuple[Array, Array]:
        made = subprocess.run([program], input=rows(obs, mask), capture_output=True, check=True)
        found = np.frombuffer(made.stdout, answer)
        return found["action"], found["q"]

    return {"rust (rustc -O)": run}


def _open_raw(source: Source, files: Files, name: str, folder: Path) -> Mapping[str, RawRun]:
    """The environment's side; nothing where there is none."""
    interface = source.interface
    if interface is None or not has_raw(interface):
        return {}
    place = folder / "raw"
    place.mkdir()
    program = _built(files, name, raw_harness(source.graph, interface, name), place)

    def run(raws: Sequence[Any], mask: Array | None) -> tuple[Array, Array, Array]:
        given = b"".join(raw_bytes(interface, raws, mask))
        made = subprocess.run([program], input=given, capture_output=True, check=True)
        found = np.frombuffer(made.stdout, raw_answer(interface))
        return found["index"], found["obs"], taken(interface, found)

    return {"rust (rustc -O) raw": run}


def _built(files: Files, name: str, harness: str, folder: Path) -> Path:
    """A program of the crate and ``harness``."""
    own = {file.removeprefix("rust/"): data for file, data in files.items() if file.startswith("rust/")}
    for file, data in own.items():
        (folder / file).write_bytes(data)
    (folder / "harness.rs").write_text(harness)
    sources = [file.removesuffix(".c") for file in own if file.endswith(".c")]
    rustc = ["rustc", "--edition", "2021", "-O", "-D", "warnings", "-L", "."]
    for command in (
        *([*words(str(find_compiler())), "-std=c99", "-O2", "-c", f"{one}.c", "-o", f"{one}.o"] for one in sources),
        ["ar", "crs", f"lib{name}_c.a", *(f"{one}.o" for one in sources)],
        [*rustc, "--crate-type", "rlib", "--crate-name", name, "-l", f"static={name}_c", "lib.rs"],
        [*rustc, "--extern", f"{name}=lib{name}.rlib", "harness.rs", "-o", "harness"],
    ):
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )  # fmt: skip
        if done.returncode != 0:
            said = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[-200:])
            raise CompileError(f"{command[0]} refused the code: {said}")
    return folder / "harness"


def _harness(graph: Graph, name: str) -> str:
    real = not graph.obs_type.qtype.is_integer
    read = (
        "core::array::from_fn(|i| f32::from_le_bytes(row[4 * i..4 * i + 4].try_into().unwrap()))"
        if real
        else "row[..OBS_SIZE].try_into().unwrap()"
    )
    width = f"OBS_SIZE * {4 if real else 1}"
    mask, given = "", ""
    if graph.masked:
        mask = f"        let mask: [bool; ACTIONS] = core::array::from_fn(|i| row[{width} + i] != 0);\n"
        given = ", &mask"
    return f"""use std::io::{{Read, Write}};
use {name}::{{Policy, ACTIONS, OBS_SIZE}};

fn main() {{
    let (mut data, mut out) = (Vec::new(), Vec::new());
    std::io::stdin().read_to_end(&mut data).unwrap();
    let mut policy = Policy::new();
    for row in data.chunks_exact({width}{" + ACTIONS" if graph.masked else ""}) {{
        let obs: [{"f32" if real else "u8"}; OBS_SIZE] = {read};
{mask}        let action = policy.act(&obs{given}).map_or(-1, |action| action as i32);
        out.extend(action.to_le_bytes());
        let q: [f32; ACTIONS] = policy.q(&obs).unwrap_or([f32::NAN; ACTIONS]);
        q.iter().for_each(|value| out.extend(value.to_le_bytes()));
    }}
    std::io::stdout().write_all(&out).unwrap();
}}
"""


RUST = Target(
    name="rust",
    purpose="a no_std crate: safe Rust around the policy in C",
    emit=_emit,
    open=_open,
    raw=_open_raw,
    exact=True,
    timed=False,
    cannot_open=_cannot_open,
)
