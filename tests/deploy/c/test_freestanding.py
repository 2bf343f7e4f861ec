"""Emitted C where there is little: no library, 16-bit int, x87, old compilers, many warnings, several policies."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache
from math import floor
from pathlib import Path

import numpy as np
import pytest

from nimbleq.deploy.decider import open_library
from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.targets.c.isa import AVX2, PORTABLE
from nimbleq.deploy.targets.c.text import KERNELS
from nimbleq.deploy.toolchain import compile_library
from nimbleq.errors import ConfigError
from nimbleq.graph.artefact import load_artefact, network_interface
from nimbleq.graph.cost import cost
from nimbleq.graph.formats import FORMATS
from nimbleq.graph.graph import ACTION, Graph, Q
from nimbleq.graph.interpret import interpret
from nimbleq.graph.rewrites.mask import with_mask
from nimbleq.graph.tensor import UINT8
from nimbleq.graph.weight import Storage
from tests.deploy.nets import in_one_unit, int_conv, int_mlp, mlp, pictures_and_numbers
from tests.strategies import random_graph, random_obs

WARNINGS = (
    "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Wconversion", "-Wsign-conversion", "-Wundef", "-Wshadow",
    "-Wdouble-promotion", "-Wmissing-prototypes", "-Wcast-align", "-Wcast-qual", "-Wfloat-equal",
    "-Wstrict-prototypes", "-Wunused-macros", "-Wredundant-decls", "-Wvla", "-Wunused-function",
    "-Wbad-function-cast", "-Wmissing-declarations",
)  # fmt: skip
ZOO = Path(__file__).parents[3] / "zoo"
X87 = ("-m32", "-mno-sse", "-mfpmath=387")


def needs(program: str) -> str:
    """Path of a program, or the test is skipped."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"needs {program}")
    return found


def packed(graph: Graph) -> Graph:
    """Its matrices as integers of 5 bits."""
    number = FORMATS["int5"]
    held = {name: np.rint(w).clip(-15, 15).astype(np.int8) for name, w in graph.weights.items() if w.ndim > 1}
    return replace(graph, weights={**graph.weights, **held}, storage=dict.fromkeys(held, Storage(number)))


def policies() -> list[Graph]:
    return [
        mlp(3, 17, 5),
        packed(mlp(3, 9, 5)),
        with_mask(int_mlp(4, 40, 3, high=127)),
        int_mlp(7, 24, 3, shift=12),
        int_conv(5, (1, 1)),
        pictures_and_numbers(),
        random_graph(np.random.default_rng(3), numbers="float"),
        random_graph(np.random.default_rng(4), numbers="int", obs="image"),
        *(load_artefact(ZOO / name / "artefacts" / "small").graph for name in ("cartpole", "lunarlander")),
    ]


def write(graphs: Sequence[Graph], folder: Path) -> list[str]:
    """The policies ``net0`` … in ``folder``; names of the C files."""
    for index, graph in enumerate(graphs):
        for file, text in emit_c(graph, f"net{index}").items():
            (folder / file).write_text(text)
    return [f"net{index}.c" for index in range(len(graphs))]


def write_together(graphs: Sequence[Graph], folder: Path) -> str:
    """The policies in ``folder``; name of the one C file."""
    for file, text in in_one_unit(graphs).items():
        (folder / file).write_text(text)
    return "nets.c"


NATIVE = [("gcc", ("-march=native",)), ("clang", ("-march=native", "-Wcomma", "-Wunreachable-code"))]
COMPILERS = [
    *(pytest.param(*row, marks=pytest.mark.long) for row in NATIVE),
    ("gcc", ("-DNQ_SCALAR", "-Wstack-usage=2048")),
    pytest.param("gcc", X87, marks=pytest.mark.long),
    ("gcc", ("-ffreestanding", "-march=native")),
    pytest.param("clang", ("-DNQ_SCALAR",), marks=pytest.mark.long),
    ("avr-gcc", ("-mmcu=atmega1284p",)),
    ("aarch64-linux-gnu-gcc", ()),
    ("arm-none-eabi-gcc", ("-mcpu=cortex-m4", "-mthumb")),
]


@pytest.mark.parametrize(("compiler", "flags"), COMPILERS)
def test_no_compiler_warns(compiler: str, flags: tuple[str, ...], tmp_path: Path) -> None:
    for file in write(policies(), tmp_path):
        assert_no_warning(compiler, flags, tmp_path, file)


@pytest.mark.parametrize(("compiler", "flags"), NATIVE)
def test_no_compiler_warns_about_many_in_one_unit(compiler: str, flags: tuple[str, ...], tmp_path: Path) -> None:
    assert_no_warning(compiler, flags, tmp_path, write_together(policies(), tmp_path))


def assert_no_warning(compiler: str, flags: Sequence[str], folder: Path, file: str) -> None:
    command = [needs(compiler), "-std=c99", "-O1", *WARNINGS, *flags, "-c", file, "-o", "out.o"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (file, done.stderr[:1000])
    assert not done.stderr


def test_clang_reads_packed_weights_one_by_one(tmp_path: Path) -> None:
    """By gathers, a decision of 4-64-64-2 with 4-bit weights took 167 µs in place of 3.3."""
    program, graph = needs("clang"), int_mlp(4, 40, 3)
    graph = replace(
        graph, weights={name: np.clip(w, -7, 7) if w.dtype == np.int8 else w for name, w in graph.weights.items()}
    )
    graph = graph.with_storage(
        {name: Storage(FORMATS["int4"]) for name, w in graph.weights.items() if w.dtype == np.int8}
    )
    for file, text in emit_c(graph, "net", isas=(PORTABLE,)).items():
        (tmp_path / file).write_text(text)
    command = [program, "-std=c99", "-O3", "-march=x86-64-v3", "-S", "net.c", "-o", "net.s"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert "gather" not in (tmp_path / "net.s").read_text()


def test_only_the_compilers_own_headers_are_included() -> None:
    for graph in policies():
        for text in emit_c(graph, isas=(PORTABLE,)).values():
            # C99 4p6: what a freestanding implementation has; and what a compiler brings for its processor.
            brought = {"arm_acle.h", "arm_neon.h", "wasm_simd128.h"}
            included = set(re.findall(r"#include <(.*?)>", text)) - brought
            assert included <= {"float.h", "limits.h", "stddef.h", "stdint.h"}
        both = emit_c(graph, isas=(AVX2, PORTABLE))["policy.c"]
        assert "mem" not in re.findall(r"\b(mem)(?:cpy|set|move)\b", re.sub(r"/\*.*?\*/", "", both, flags=re.S))


def test_a_file_holds_only_functions_that_it_calls() -> None:
    for graph in [*policies(), int_mlp(4, 2)]:
        for isa in (AVX2, PORTABLE):
            text = re.sub(r"/\*.*?\*/", "", emit_c(graph, isas=(isa,))["policy.c"], flags=re.S)
            helpers = re.findall(r"^(?:static|POLICY_INLINE) [^(;{=]*?(policy_\w+)\(", text, re.M)
            assert "policy_trunk" in helpers
            assert [name for name in helpers if len(re.findall(rf"\b{name}\b", text)) < 2] == []


def test_nothing_is_linked(tmp_path: Path) -> None:
    gcc = needs("gcc")
    file = write_together(policies()[:4], tmp_path)
    for flags in (("-march=native",), ("-ffreestanding",)):
        command = [gcc, "-std=c99", "-O3", "-fno-tree-loop-distribute-patterns", "-fno-stack-protector", *flags, "-c"]
        subprocess.run([*command, file], cwd=tmp_path, check=True)
        shown = subprocess.run(
            ["nm", "--undefined-only", "nets.o"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        symbols = {line.split()[-1] for line in shown.stdout.splitlines() if " U " in line}
        assert symbols <= {"_GLOBAL_OFFSET_TABLE_"}


def test_two_policies_fit_one_program_and_one_unit(tmp_path: Path) -> None:
    gcc = needs("gcc")
    graphs = {"steer": mlp(4, 8, 2), "brake": int_mlp(6, 40, 3, high=127)}
    obs = np.arange(1, 7, dtype=np.float32)
    main = "#include <stdio.h>\nint main(void) { float x[6] = {1, 2, 3, 4, 5, 6};"
    main += ' printf("%d %d", steer_act(x), brake_act(x)); return 0; }\n'
    for name, graph in graphs.items():
        for file, text in emit_c(graph, name).items():
            (tmp_path / file).write_text(text)
    (tmp_path / "apart.c").write_text('#include "steer.h"\n#include "brake.h"\n' + main)
    (tmp_path / "together.c").write_text('#include "steer.c"\n#include "brake.c"\n' + main)
    want = [int(interpret(graph, obs[None, : graph.obs_type.size])[ACTION][0]) for graph in graphs.values()]
    for sources in (("apart.c", "steer.c", "brake.c"), ("together.c",)):
        subprocess.run([gcc, "-std=c99", "-march=native", "-Wall", "-Werror", *sources], cwd=tmp_path, check=True)
        done = subprocess.run([str(tmp_path / "a.out")], capture_output=True, text=True, check=True)
        assert done.stdout == f"{want[0]} {want[1]}"


@pytest.mark.parametrize("name", ["int", "restrict", "a-b", "2x", "", "_x", "stdint", "String", "x" * 99, "é"])
def test_names_that_c_does_not_take_are_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        emit_c(mlp(2, 2), name)


def test_portable_weights_are_stored_without_padding() -> None:
    for graph in (mlp(3, 17, 5), int_mlp(3, 5, 2), int_conv(3)):
        text = emit_c(graph, isas=(PORTABLE,))["policy.c"]
        stored = sum(
            int(count) * {"float": 4, "int8_t": 1, "uint8_t": 1, "int32_t": 4}[kind]
            for kind, count in re.findall(r"static const (\w+) policy_\w+\[(\d+)\]", text)
        )
        assert stored == cost(graph).size_bytes
        stored_twice = re.search(r"#if[^\n]*\n(?:(?!#endif)[^\n]*\n)*static const \w+ policy_\w+\[", text)
        assert stored_twice is None, "one form of the weights, whatever it is compiled for"


def test_constants_are_named_after_their_layers_and_sizes_stand_on_top() -> None:
    for graph in policies():
        text = emit_c(graph, isas=(PORTABLE,))["policy.c"]
        constants = re.findall(r"static const (\w+) policy_(\w+)\[(\d+)\]", text)
        layers = {re.sub(r"\W+", "_", node.output) for node in graph.nodes}
        for _, name, _ in constants:
            assert any(name.startswith(f"{layer}_") for layer in layers), name
        size = sum(int(n) * {"float": 4, "int8_t": 1, "uint8_t": 1, "int32_t": 4}[kind] for kind, _, n in constants)
        ram = re.search(r"constants (\d+) bytes; RAM (\d+) bytes", text.split("#include")[0])
        assert ram is not None
        assert int(ram[1]) == size
        assert f"WORKSPACE_BYTES {ram[2]}" in emit_c(graph, isas=(PORTABLE,))["policy.h"]
        assert "(void)arena" not in text


def test_names_of_layers_become_c_names(tmp_path: Path) -> None:
    gcc = needs("gcc")
    names = ["a.b", "a_b", "a/b", "é", "ö", "int", "Q", "q_bias", "*/ x", "w" * 90, "w" * 91, "0"]
    graph = mlp(3, *[5] * len(names), 2)
    new = {f"h{index}": name for index, name in enumerate(names)}
    nodes = tuple(
        replace(node, inputs=tuple(new.get(i, i) for i in node.inputs), output=new.get(node.output, node.output))
        for node in graph.nodes
    )
    renamed = replace(graph, nodes=nodes)
    obs = random_obs(np.random.default_rng(0), renamed, 20)
    library = compile_library(emit_c(renamed, "net"), tmp_path / "net.so", gcc, ("-O1",))
    action, _ = open_library(library, "net", renamed, network_interface(renamed)).run(obs)
    np.testing.assert_array_equal(action, interpret(graph, obs)[ACTION])


@cache
def links(compiler: str, flags: tuple[str, ...]) -> bool:
    """Whether an empty program can be built: not without gcc-multilib for 32 bits, say, or clang's sanitizers."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "empty.c").write_text("#include <stdio.h>\nint main(void) { return 0; }\n")
        command = [compiler, "-std=c99", *flags, "empty.c", "-o", "empty"]
        return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0


def answers(
    graph: Graph, obs: np.ndarray, folder: Path, flags: Sequence[str], compiler: str = "gcc", under: Sequence[str] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Actions and action values of ``obs [N, *O]`` from a program built with ``flags``, run by ``under``."""
    for file, text in emit_c(graph, "net").items():
        (folder / file).write_text(text)
    (folder / "main.c").write_text(driver(graph, len(obs)))
    if not links(needs(compiler), tuple(flags)):
        pytest.skip(f"needs the libraries of {compiler} {' '.join(flags)}")
    command = [compiler, "-std=c99", *flags, "main.c", "net.c", "-o", "run"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]
    ran = subprocess.run([*under, str(folder / "run")], input=obs.tobytes(), capture_output=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, b"")
    table = np.frombuffer(ran.stdout, np.int32).reshape(len(obs), 1 + graph.actions)
    return table[:, 0], table[:, 1:].copy().view(np.float32)


def driver(graph: Graph, count: int) -> str:
    """A program that also fails where an answer depends on what the memory of the policy held before."""
    element = "uint8_t" if graph.obs_type.qtype == UINT8 else "float"
    return f"""#include "net.h"
#include <stdio.h>
#include <string.h>
static unsigned char room[NET_WORKSPACE_BYTES + 64];
int main(void)
{{
    unsigned char *const used = room + (64 - (uintptr_t)room % 64) % 64;
    static {element} obs[NET_OBS_SIZE];
    float q[NET_ACTIONS], again[NET_ACTIONS];
    for (int i = 0; i < {count}; ++i) {{
        if (fread(obs, sizeof obs, 1, stdin) != 1) return 1;
        const int32_t action = net_act(obs);
        net_q(obs, q);
        memset(room, 0xff, sizeof room);
        if (net_act_with(used, obs) != action) return 2;
        memset(room, 0x5a, sizeof room);
        net_q_with(used, obs, again);
        if (memcmp(q, again, sizeof q) != 0) return 3;
        fwrite(&action, sizeof action, 1, stdout);
        fwrite(q, sizeof q, 1, stdout);
    }}
    return 0;
}}
"""


@pytest.mark.parametrize("seed", [127697, 21309])
def test_an_odd_number_of_bytes_and_whatever_stands_behind_them(seed: int, tmp_path: Path) -> None:
    """75 and 105 bytes of convolutions: the byte after them meets a lane of two zero weights, which is not zero."""
    graph = random_graph(np.random.default_rng(seed), numbers="int", obs="image" if seed == 127697 else "any")
    obs = random_obs(np.random.default_rng(1), graph, 20)
    action, q = answers(graph, obs, tmp_path, ("-O2", "-march=native"))
    wanted = interpret(graph, obs)
    np.testing.assert_array_equal(action, wanted[ACTION])
    np.testing.assert_array_equal(q, wanted[Q])


FLAGS = [
    (*X87, "-O2"),
    ("-O2", "-mfpmath=387", "-DNQ_SCALAR"),
    ("-Ofast", "-march=native"),
    ("-O2", "-ffast-math", "-DNQ_SCALAR"),
    ("-O2", "-D__DBL_MANT_DIG__=24", "-DNQ_SCALAR"),
    ("-O2", "-funsigned-char", "-DNQ_SCALAR"),
]
MORE_X87 = [(*X87, "-O0"), (*X87, "-O2", "-ffast-math"), (*X87, "-O2", "-std=gnu99")]


@pytest.mark.parametrize(
    "flags", [*FLAGS, *(pytest.param(flags, marks=pytest.mark.long) for flags in MORE_X87)], ids=" ".join
)
def test_integers_are_the_same_however_it_is_compiled(flags: tuple[str, ...], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for graph in (int_mlp(8, 32, 32, 4), int_mlp(40, 40, 3, high=127), int_conv(19)):
        obs = random_obs(rng, graph, 500)
        if obs.dtype == np.float32:
            obs = np.concatenate([obs, np.round(obs * 64) / 64, obs * 1e-30, obs * 1e30]).astype(np.float32)
        action, q = answers(graph, obs, tmp_path, flags)
        want = interpret(graph, obs)
        np.testing.assert_array_equal(action, want[ACTION])
        np.testing.assert_array_equal(q.view(np.uint32), want[Q].view(np.uint32))


@pytest.mark.parametrize("mantissa", [24, 53])
def test_quantize_is_exact_also_where_double_is_short(mantissa: int, tmp_path: Path) -> None:
    """Hard cases: halves, one bit beside them, both ends, subnormal and huge numbers, all signs of the zero point."""
    gcc = needs("gcc")
    rng = np.random.default_rng(1)
    base = np.concatenate([rng.normal(size=400) * 10.0 ** rng.integers(-40, 38, 400), (np.arange(400) - 200) / 2])
    x = np.concatenate([base, np.nextafter(base.astype(np.float32), np.float32(9e9)), -base]).astype(np.float32)
    inverse = np.abs(rng.choice(np.concatenate([base, [1.0, 0.5, 3.0]]), len(x))).astype(np.float32)
    inverse[::3] = 1.0
    zero = rng.integers(-128, 128, len(x))
    text = f"""#include <float.h>
#include <stdint.h>
#undef DBL_MANT_DIG
#define DBL_MANT_DIG {mantissa}
{(KERNELS / "quantize.h").read_text()}
void all(const float *x, const float *inverse, const int32_t *zero, int32_t *y);
void all(const float *x, const float *inverse, const int32_t *zero, int32_t *y)
{{
    for (int i = 0; i < {len(x)}; ++i) y[i] = nq_quantize(x[i], inverse[i], zero[i], -100, 127);
}}
"""
    library = compile_library({"q.c": text}, tmp_path / "q.so", gcc, ("-O2",))
    y = np.empty(len(x), np.int32)
    arrays = (x, inverse, zero.astype(np.int32), y)
    ctypes.CDLL(str(library)).all(*(array.ctypes.data_as(ctypes.c_void_p) for array in arrays))
    want = [
        min(max(floor(Fraction(float(a)) * Fraction(float(b)) + Fraction(1, 2)) + int(z), -100), 127)
        for a, b, z in zip(x, inverse, zero, strict=True)
    ]
    assert y.tolist() == want


def test_a_16_bit_int_gives_the_same_integers(tmp_path: Path) -> None:
    avr, simulator = needs("avr-gcc"), needs("simavr")
    graph = int_mlp(6, 20, 3)
    obs = random_obs(np.random.default_rng(2), graph, 12)
    for file, text in emit_c(graph, "net").items():
        (tmp_path / file).write_text(text)
    numbers = ",".join(f"{value!r}f" for value in obs.reshape(-1).astype(float).tolist())
    (tmp_path / "main.c").write_text(f"""#include "net.h"
#include <avr/io.h>
#include <avr/interrupt.h>
#include <avr/sleep.h>
#include <stdio.h>
static int put(char c, FILE *f) {{ (void)f; while (!(UCSR0A & _BV(UDRE0))); UDR0 = (unsigned char)c; return 0; }}
static FILE out = FDEV_SETUP_STREAM(put, NULL, _FDEV_SETUP_WRITE);
static const float obs[] = {{{numbers}}};
int main(void)
{{
    UCSR0B = _BV(TXEN0);
    for (int i = 0; i < {len(obs)}; ++i) {{
        union {{ float real; uint32_t bits; }} q[3];
        net_q(obs + i * 6, &q[0].real);
        fprintf(&out, "=%d %08lx %08lx %08lx\\n", net_act(obs + i * 6), q[0].bits, q[1].bits, q[2].bits);
    }}
    cli();
    sleep_mode();
    return 0;
}}
""")
    command = [avr, "-std=gnu99", "-Os", "-mmcu=atmega1284p", "main.c", "net.c", "-o", "run.elf"]
    subprocess.run(command, cwd=tmp_path, check=True)
    done = subprocess.run(
        [simulator, "-m", "atmega1284p", "-f", "16000000", "run.elf"], cwd=tmp_path, capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    lines = re.findall(r"=(\d) ([0-9a-f]{8}) ([0-9a-f]{8}) ([0-9a-f]{8})", done.stdout + done.stderr)
    want = interpret(graph, obs)
    assert [int(line[0]) for line in lines] == want[ACTION].tolist()
    bits = [[int(word, 16) for word in line[1:]] for line in lines]
    assert bits == want[Q].view(np.uint32).tolist()


def test_a_policy_too_large_for_the_int_says_so() -> None:
    assert "INT_MAX" not in emit_c(mlp(40, 40, 3))["policy.c"]
    assert "#if INT_MAX < 40000" in emit_c(mlp(200, 200, 3))["policy.c"]


def test_masked_policies_choose_legal_actions_only(tmp_path: Path) -> None:
    gcc = needs("gcc")
    rng = np.random.default_rng(3)
    for index, graph in enumerate((with_mask(mlp(4, 8, 5)), with_mask(int_mlp(4, 40, 5)))):
        files = emit_c(graph, "net")
        assert "net_act(" not in files["net.h"]
        obs, mask = random_obs(rng, graph, 300), rng.random((300, 5)) < 0.4
        mask[np.arange(300), rng.integers(0, 5, 300)] = True
        want = interpret(graph, obs, mask)
        best = np.where(mask, want[Q], -np.inf).argmax(axis=1)
        for build, flags in enumerate((("-O2", "-march=native"), ("-O1", "-DNQ_SCALAR"))):
            library = compile_library(files, tmp_path / f"{index}{build}.so", gcc, flags)
            decider = open_library(library, "net", graph, network_interface(graph))
            action, _ = decider.run(obs, mask)
            np.testing.assert_array_equal(action, want[ACTION])
            np.testing.assert_array_equal(action, best)
            none, _ = decider.run(obs[:1], np.zeros((1, 5), bool))
            assert none[0] == -1
