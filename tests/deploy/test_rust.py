"""The Rust crate: builds without std and without warnings, and answers like the interpreter."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from nimbleq.deploy.target import Source
from nimbleq.deploy.targets import TARGETS
from nimbleq.deploy.verify import verify
from nimbleq.graph.golden import make_golden
from nimbleq.graph.graph import Graph
from nimbleq.graph.rewrites.mask import with_mask
from tests.deploy.nets import int_conv, int_mlp, mlp
from tests.strategies import random_obs

RUST = TARGETS["rust"]
if why := RUST.cannot_open():
    pytest.skip(why, allow_module_level=True)

LARGE = pytest.mark.targets
POLICIES = [
    pytest.param(with_mask(int_mlp(4, 40, 3)), id="masked"),
    pytest.param(mlp(3, 17, 5), id="float", marks=LARGE),
    pytest.param(int_conv(5), id="image", marks=LARGE),
]


@pytest.mark.parametrize("graph", POLICIES)
def test_it_gives_the_same_answers(graph: Graph, tmp_path: Path) -> None:
    runs = RUST.open(Source(graph), RUST.emit(Source(graph), "net", RUST.options()), "net", tmp_path)
    golden = make_golden(graph, random_obs(np.random.default_rng(0), graph, 40))
    result = verify(graph, golden, runs, observations=2000)
    assert (result.checked, result.mismatches) == (2040, 0), result


@pytest.mark.targets
def test_the_build_script_compiles_for_another_processor(tmp_path: Path) -> None:
    compiler, reader = "arm-none-eabi-gcc", "arm-none-eabi-readelf"
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}")
    for name, data in RUST.emit(Source(int_mlp(4, 8, 3)), "net", RUST.options()).items():
        (tmp_path / Path(name).name).write_bytes(data)
    subprocess.run(["rustc", "--edition", "2021", "build.rs"], cwd=tmp_path, check=True)
    wanted = {"CC": compiler, "CFLAGS": "-mcpu=cortex-m4 -mthumb", "AR": "arm-none-eabi-ar", "OUT_DIR": str(tmp_path)}
    subprocess.run([tmp_path / "build"], cwd=tmp_path, env={**os.environ, **wanted}, check=True, capture_output=True)
    said = subprocess.run([reader, "-A", "libnet_c.a"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert "Tag_CPU_arch: v7E-M" in said


@pytest.mark.targets
def test_cargo_builds_it(tmp_path: Path) -> None:
    if shutil.which("cargo") is None:
        pytest.skip("needs cargo")
    for name, data in RUST.emit(Source(int_mlp(4, 8, 3)), "net", RUST.options()).items():
        (tmp_path / Path(name).name).write_bytes(data)
    subprocess.run(["cargo", "build", "--offline"], cwd=tmp_path, check=True, capture_output=True)
