"""Byte products by `vpdpbusd`, which is plain C here where the processor does not have it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.targets.c.isa import AVX2, AVX2_VNNI, isas_of_this_machine
from nimbleq.deploy.toolchain import compile_library
from tests.deploy.c.test_c import GCC, assert_agrees
from tests.deploy.nets import in_one_unit, int_conv, int_mlp
from tests.strategies import random_graph

NATIVE = AVX2_VNNI in isas_of_this_machine()
EMULATED = () if NATIVE else ("-include", str(Path(__file__).with_name("emulated_vnni.h")))
pytestmark = pytest.mark.skipif(
    GCC is None or AVX2 not in isas_of_this_machine()[:2], reason="needs gcc and a processor with AVX2"
)


def test_the_interpreters_integers(tmp_path: Path) -> None:
    graphs = [
        int_mlp(4, 64, 64, 2),
        int_mlp(5, 37, 130, 9, shift=36),
        int_mlp(7, 24, 3, shift=12),
        int_conv(),
        int_conv(16, (0, 0), high=255),
        random_graph(np.random.default_rng(1), numbers="int", obs="image"),
    ]
    files = in_one_unit(graphs, isas=(AVX2_VNNI,))
    text = files["nets.c"]
    for kernel in ("_linear_quads_u8(t", "_linear_dot_u8(t", "_conv_u8(t"):
        assert kernel in text, kernel
    library = compile_library(files, tmp_path / "nets.so", str(GCC), ("-O1", "-march=native", *EMULATED))
    for index, graph in enumerate(graphs):
        assert_agrees(graph, library, f"net{index}")


@pytest.mark.parametrize("processor", ["alderlake", "icelake-server"])
def test_the_instruction_is_used_where_it_is(processor: str, tmp_path: Path) -> None:
    for file, text in emit_c(int_mlp(4, 64, 2)).items():
        (tmp_path / file).write_text(text)
    command = [str(GCC), "-std=c99", "-Wall", "-Wextra", "-Werror", "-O2", f"-march={processor}", "-S", "-o", "-"]
    done = subprocess.run([*command, "policy.c"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "vpdpbusd" in done.stdout
    assert "vpmaddubsw" not in done.stdout
