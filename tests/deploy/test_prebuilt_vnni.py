"""The AVX-512 VNNI kernels of the prebuilt engine where no processor has them: SIMDe makes their intrinsics."""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nimbleq import native
from nimbleq.deploy.prebuilt.lower import lower
from nimbleq.deploy.toolchain import find_compiler
from nimbleq.deploy.verify import verify
from nimbleq.graph.golden import make_golden
from nimbleq.graph.graph import Graph
from nimbleq.graph.ops import OPS
from nimbleq.types import Array
from tests.deploy.nets import int_conv, int_mlp, mlp, pictures_and_numbers
from tests.deploy.test_coverage import policies
from tests.strategies import random_obs

ENGINE = Path(native.__file__).parent / "engine"
GCC = find_compiler(("gcc",))
ASK = b"#if !__has_include(<simde/x86/avx512.h>)\n#error missing\n#endif\n"


def has_simde() -> bool:
    """Whether gcc is there and finds the headers."""
    return GCC is not None and subprocess.run([GCC, "-E", "-"], input=ASK, capture_output=True).returncode == 0


pytestmark = [
    pytest.mark.targets,
    pytest.mark.skipif(not has_simde(), reason="needs gcc and libsimde-dev"),
]
HEAD = """
#include <float.h>
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <simde/x86/avx512.h>
#define LANES 16
#define NQ_AVX2
#define NQ_AVX512
#define NQ_VNNI
#define NQ_KERNELS nq_kernels_vnni
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The engine as a library, all 512-bit intrinsics replaced by SIMDe's."""
    folder = tmp_path_factory.mktemp("vnni")
    sums = re.sub(r"\b_mm512_", "simde_mm512_", (ENGINE / "sums.h").read_text())
    (folder / "sums.h").write_text(re.sub(r"\b__m512i\b", "simde__m512i", sums))
    for header in ENGINE.glob("*.h"):
        if header.name != "sums.h":
            (folder / header.name).write_text(header.read_text().replace('"../', f'"{ENGINE.parent}/'))
    own = [line for line in (ENGINE / "vnni.c").read_text().splitlines() if line.startswith('#include "../kernels')]
    text = HEAD + "\n".join([*own, '#include "kernels.h"']).replace('"../', f'"{ENGINE.parent}/')
    (folder / "vnni.c").write_text(text)
    sources = ["vnni.c", str(ENGINE / "program.c"), str(ENGINE / "check.c")]
    flags = ["-O1", "-w", "-mavx2", "-mfma", "-mbmi2", "-shared", "-fPIC", f"-I{folder}"]
    subprocess.run(["gcc", "-std=gnu11", *flags, *sources, "-o", "engine.so"], cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "engine.so"))


def decides(engine: ctypes.CDLL, graph: Graph) -> Callable[[Array, Array | None], tuple[Array, Array]]:
    """The policy of ``graph`` with those kernels."""
    program, why = lower(graph, "avx512-vnni"), ctypes.c_char_p()
    engine.nq_program_new.restype = ctypes.c_void_p
    kernels = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.in_dll(engine, "nq_kernels_vnni")))
    opened = engine.nq_program_new(program, ctypes.c_size_t(len(program)), kernels, ctypes.byref(why))
    assert opened, why.value
    arena = np.empty(np.frombuffer(program, np.int32)[5] + 64, np.uint8)
    dtype = np.uint8 if graph.obs_type.qtype.is_integer else np.float32

    def run(obs: Array, mask: Array | None) -> tuple[Array, Array]:
        start = ctypes.c_void_p(-(-arena.ctypes.data // 64) * 64)
        actions, q = np.empty(len(obs), np.int32), np.empty((len(obs), graph.actions), np.float32)
        legal = None if mask is None else np.ascontiguousarray(mask, np.uint8)
        for index, one in enumerate(np.ascontiguousarray(obs, dtype)):
            given = [ctypes.c_void_p(opened), start, ctypes.c_void_p(one.ctypes.data)]
            flags = None if legal is None else ctypes.c_void_p(legal[index].ctypes.data)
            actions[index] = engine.nq_program_act(*given, flags)
            engine.nq_program_q(*given, ctypes.c_void_p(q[index].ctypes.data))
        return actions, q

    return run


def agrees(engine: ctypes.CDLL, graph: Graph) -> None:
    golden = make_golden(graph, random_obs(np.random.default_rng(0), graph, 40))
    result = verify(graph, golden, {"simulated": decides(engine, graph)}, 40)
    assert result.checked == 80
    assert result.mismatches == 0, result


@pytest.mark.parametrize("kind", sorted(OPS.keys() - {"BranchArgMax", "GRU"}))  # these are refused: test_coverage
def test_every_op(engine: ctypes.CDLL, kind: str) -> None:
    for graph in policies(kind):
        agrees(engine, graph)


def test_networks(engine: ctypes.CDLL) -> None:
    for graph in (
        mlp(4, 64, 64, 2), mlp(70, 130, 9), mlp(3, 17, 40, 5), int_mlp(4, 64, 64, 2), int_mlp(5, 33, 70, 11),
        int_mlp(6, 200, 40, 3, shift=30), int_conv(), int_conv(5, (0, 2), high=255), pictures_and_numbers(),
    ):  # fmt: skip
        agrees(engine, graph)
