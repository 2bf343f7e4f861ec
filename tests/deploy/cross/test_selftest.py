"""What an exported folder holds beside the policy: a self-test that runs, the mark of its artefact, a CMake project."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nimbleq import cli
from nimbleq.deploy.export import export
from nimbleq.deploy.identity import mark, marks
from nimbleq.deploy.target import Source
from nimbleq.deploy.targets import TARGETS
from nimbleq.deploy.targets.cross.emulator import BOARD
from nimbleq.deploy.targets.cross.processor import program
from nimbleq.graph.artefact import load_artefact, save_artefact
from nimbleq.graph.graph import Graph
from nimbleq.graph.guard import Guard
from nimbleq.graph.interface import Interface
from nimbleq.graph.rewrites.mask import with_mask
from nimbleq.graph.space import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from tests.deploy.c.test_freestanding import WARNINGS
from tests.deploy.nets import int_conv, int_mlp, mlp
from tests.deploy.test_guard import ENVELOPE

POLICIES = {"int": int_mlp(4, 8, 3), "masked": with_mask(int_mlp(4, 8, 3)), "float": mlp(4, 8, 3), "image": int_conv(5)}


def exported(graph: Graph, folder: Path, *targets: str, guard: Guard | None = None) -> Path:
    shape = (20, *graph.obs_type.shape)
    obs = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    if graph.obs_type.qtype.is_integer:
        obs = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    save_artefact(folder / "small", graph, obs, {}, guard=guard)
    export(folder / "small", targets, folder / "build")
    return folder / "build"


def needs(*programs: str) -> None:
    for one in programs:
        if shutil.which(one) is None:
            pytest.skip(f"needs {one}")


@pytest.mark.parametrize("name", POLICIES)
def test_the_self_test_of_c_runs_and_finds_a_changed_weight(name: str, tmp_path: Path) -> None:
    needs("gcc")
    build = exported(POLICIES[name], tmp_path, "c")
    (build / "main.c").write_text(
        '#include "policy_selftest.h"\n#include <stdio.h>\n'
        "int main(void) { char line[POLICY_SELFTEST_LINE]; int n = policy_selftest(line);\n"
        "puts(line); return n != 0; }\n"
    )
    command = ["gcc", "-std=c99", "-O1", *WARNINGS, "main.c", "policy.c", "policy_selftest.c", "-o", "run"]
    subprocess.run(command, cwd=build, check=True)
    done = subprocess.run([build / "run"], capture_output=True, text=True, check=True)
    digest = load_artefact(tmp_path / "small").digest[:12]
    assert done.stdout == f"policy {digest}: {7 if name == 'image' else 16} golden vectors, 0 mismatches\n"
    text = (build / "policy.c").read_text()
    digits = [found.end() - 1 for found in re.finditer(r"_weight\[\d+\](?: NQ_ALIGN)? = \{\n    -?\d", text)][-1]
    other = "1" if text[digits] != "1" else "2"
    (build / "policy.c").write_text(text[:digits] + other + text[digits + 1 :])
    subprocess.run(
        ["gcc", "-std=c99", "-w", "main.c", "policy.c", "policy_selftest.c", "-o", "run"], cwd=build, check=True
    )
    done = subprocess.run([build / "run"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert ", 0 mismatches" not in done.stdout


@pytest.mark.parametrize("target", ["aarch64", "cortex-m4", pytest.param("avr", marks=pytest.mark.targets)])
def test_the_exported_program_runs_on_its_emulator(target: str, tmp_path: Path) -> None:
    if why := TARGETS[target].cannot_open():
        pytest.skip(why)
    build = exported(POLICIES["int"], tmp_path, target)
    program = str(build / target / "selftest.elf")
    commands = {
        "aarch64": ["qemu-aarch64", program],
        "cortex-m4": ["qemu-system-arm", "-M", "mps2-an386", "-nographic", "-monitor", "none", "-semihosting-config",
                      "enable=on,target=native", "-kernel", program],
        "avr": ["simavr", "-m", "atmega1284p", "-f", "16000000", program],
    }  # fmt: skip
    done = subprocess.run(commands[target], capture_output=True, text=True, check=True, timeout=60)
    assert "16 golden vectors, 0 mismatches" in done.stdout + done.stderr


def test_a_binary_names_its_artefact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if why := TARGETS["cortex-m4"].cannot_open():
        pytest.skip(why)
    build = exported(POLICIES["int"], tmp_path, "c", "cortex-m4")
    program = build / "cortex-m4" / "selftest.elf"
    assert cli.main(["identify", str(program), "--among", str(tmp_path / "small"), "--json"]) == 0
    [policy] = json.loads(capsys.readouterr().out)["policies"]
    digest = load_artefact(tmp_path / "small").digest
    assert digest.startswith(policy["digest"])
    assert policy["artefacts"] == [
        {"artefact": str(tmp_path / "small"), "digest": digest, "certificate": None, "guard": None}
    ]
    (tmp_path / "nothing").mkdir()
    assert cli.main(["identify", str(program), "--among", str(tmp_path / "nothing")]) == 1
    assert digest[:8] in capsys.readouterr().out
    assert cli.main(["identify", str(build / "policy.c")]) == 2
    assert "holds no mark" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [("gcc",), ("clang",), ("gcc", "-flto"), ("arm-none-eabi-gcc", "-mcpu=cortex-m4")])
def test_the_mark_stays_where_unused_data_is_dropped(flags: tuple[str, ...], tmp_path: Path) -> None:
    needs(flags[0])
    build = exported(POLICIES["int"], tmp_path, "c")
    command = [*flags, "-Os", "-fdata-sections", "-nostdlib", "-Wl,--gc-sections,-e,policy_act", "policy.c", "-lgcc"]
    subprocess.run([*command, "-o", "out"], cwd=build, check=True, capture_output=True)
    assert len(marks((build / "out").read_bytes())) == 1


def test_marks() -> None:
    one, other = "ab" * 32, "12" * 32
    data = b"x" + mark(one) + b"yy" + mark(other) + mark(one) + b"nQid"
    assert marks(data) == (one[:8], other[:8])


@pytest.mark.targets
@pytest.mark.parametrize("target", ["aarch64", "riscv64", "cortex-m4", "cortex-m7", "cortex-m55", "avr"])
def test_the_cmake_project_builds(target: str, tmp_path: Path) -> None:
    needs("cmake")
    if why := TARGETS[target].cannot_open():
        pytest.skip(why)
    build = exported(POLICIES["int"], tmp_path, target) / target
    first = (build / "CMakeLists.txt").read_text().splitlines()[0].removeprefix("# ")
    subprocess.run(first, shell=True, cwd=build, check=True, capture_output=True)
    subprocess.run(["cmake", "--build", "out"], cwd=build, check=True, capture_output=True)
    assert len(marks((build / "out" / "selftest").read_bytes())) == 1


ARDUINO = Path("/usr/share/arduino/hardware/arduino/avr")


@pytest.mark.targets
@pytest.mark.parametrize("guard", [None, Guard(1, ENVELOPE, hold=1)], ids=["alone", "guarded"])
def test_the_arduino_sketch_builds_and_runs(guard: Guard | None, tmp_path: Path) -> None:
    """As the IDE does it: the core and the library compiled, the sketch as C++ with Arduino.h in front."""
    needs("avr-gcc", "avr-g++", "simavr")
    if not ARDUINO.exists():
        pytest.skip("needs arduino-core-avr")
    library = exported(POLICIES["int"], tmp_path, "arduino", guard=guard) / "arduino"
    assert ("policy_guard_act(&guard, obs)" in (library / "examples" / "decide" / "decide.ino").read_text()) == bool(
        guard
    )
    assert json.loads((library / "library.json").read_text())["name"] == "policy"
    (tmp_path / "sketch.cpp").write_text(
        "#include <Arduino.h>\n" + (library / "examples" / "selftest" / "selftest.ino").read_text()
    )
    core = ARDUINO / "cores" / "arduino"
    defines = ["-DF_CPU=16000000L", "-DARDUINO=10808", "-DARDUINO_ARCH_AVR", "-DDECIMAL_DIG=9"]
    folders = [f"-I{core}", f"-I{ARDUINO / 'variants' / 'mega'}", f"-I{library / 'src'}"]
    flags = ["-mmcu=atmega2560", "-Os", "-ffunction-sections", "-fdata-sections", *defines, *folders]
    plain = [*core.glob("*.c"), *(library / "src").glob("*.c"), *core.glob("*.S")]
    for compiler, files in (("avr-gcc", plain), ("avr-g++", [*core.glob("*.cpp"), tmp_path / "sketch.cpp"])):
        standard = ["-std=gnu++11", "-fpermissive", "-fno-exceptions"] if compiler == "avr-g++" else ["-std=gnu11"]
        subprocess.run([compiler, *standard, *flags, "-w", "-c", *files], cwd=tmp_path, check=True)
    objects = sorted(tmp_path.glob("*.o"))
    subprocess.run(
        ["avr-gcc", *flags, "-Wl,--gc-sections", *objects, "-o", "sketch.elf", "-lm"], cwd=tmp_path, check=True
    )
    command = ["timeout", "5", "simavr", "-m", "atmega2560", "-f", "16000000", "sketch.elf"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=30)
    assert b"16 %sgolden vectors, 0 mismatches" % (b"guarded " if guard else b"") in done.stdout + done.stderr
    assert len(marks((tmp_path / "sketch.elf").read_bytes())) == 1


@pytest.mark.targets
@pytest.mark.parametrize("mask", ["obs:legal", "info:legal"])
def test_the_sketch_takes_what_the_environment_gives(mask: str, tmp_path: Path) -> None:
    needs("avr-g++")
    if not ARDUINO.exists():
        pytest.skip("needs arduino-core-avr")
    parts: dict[str, Any] = {"speed": Box((2,), "float32", -9, 9), "gear": Discrete(3, -1)}
    parts["digits"] = MultiDiscrete((3, 2), (1, 2), (2,))
    parts |= {"legal": MultiBinary((3,))} if mask == "obs:legal" else {}
    interface = Interface(Dict(tuple(parts.items())), 3, action_start=4, mask=mask)
    source = Source(with_mask(int_mlp(interface.obs.shape[0], 8, 3)), interface=interface)
    for file, data in TARGETS["arduino"].emit(source, "policy", TARGETS["arduino"].options()).items():
        (tmp_path / Path(file).name).write_bytes(data)
    sketch = (tmp_path / "decide.ino").read_text()
    assert "policy_act_raw(&state, &raw" in sketch
    (tmp_path / "sketch.cpp").write_text("#include <Arduino.h>\n" + sketch)
    core, variant = ARDUINO / "cores" / "arduino", ARDUINO / "variants" / "mega"
    flags = ["-mmcu=atmega2560", "-Os", "-DF_CPU=16000000L", "-DARDUINO=10808", f"-I{core}", f"-I{variant}", "-I."]
    subprocess.run(
        ["avr-g++", "-std=gnu++11", "-fsyntax-only", "-Wall", "-Werror", *flags, "sketch.cpp"], cwd=tmp_path, check=True
    )


ZEPHYR = """cmake_minimum_required(VERSION 3.13)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
project(app C)
set(CONFIG_POLICY y)
function(zephyr_library_named name)
  add_library(${name} STATIC)
  set(here ${name} PARENT_SCOPE)
endfunction()
function(zephyr_library_sources)
  target_sources(${here} PRIVATE ${ARGN})
endfunction()
function(zephyr_include_directories)
  target_include_directories(${here} PUBLIC ${ARGN})
endfunction()
add_subdirectory(library/zephyr)
"""
ZEPHYR_FLAGS = (
    "-Os -ffreestanding -fno-common -fno-strict-aliasing -fno-reorder-functions -ffunction-sections -fdata-sections "
    "-fno-asynchronous-unwind-tables -fno-pie -fno-pic -mcpu=cortex-m4 -mthumb -mabi=aapcs -mfp16-format=ieee -std=c17 "
    "-Wall -Wformat -Wformat-security -Wdouble-promotion -Wpointer-arith -Wexpansion-to-defined -Werror"
)
"""What Zephyr 4 compiles a module with, for a Cortex-M4."""


@pytest.mark.targets
def test_zephyrs_build_takes_the_library(tmp_path: Path) -> None:
    """Zephyr itself is not here: its three functions stand in, with its flags."""
    needs("cmake", "arm-none-eabi-gcc")
    shutil.copytree(exported(POLICIES["int"], tmp_path, "arduino") / "arduino", tmp_path / "library")
    module = (tmp_path / "library" / "zephyr" / "module.yml").read_text()
    assert module == "build:\n  cmake: zephyr\n  kconfig: zephyr/Kconfig\n"
    (tmp_path / "CMakeLists.txt").write_text(ZEPHYR)
    system = ["-DCMAKE_SYSTEM_NAME=Generic", "-DCMAKE_C_COMPILER=arm-none-eabi-gcc", f"-DCMAKE_C_FLAGS={ZEPHYR_FLAGS}"]
    subprocess.run(["cmake", "-S", ".", "-B", "out", *system], cwd=tmp_path, check=True, capture_output=True)
    subprocess.run(["cmake", "--build", "out"], cwd=tmp_path, check=True, capture_output=True)
    assert len(marks((tmp_path / "out" / "library" / "zephyr" / "libpolicy.a").read_bytes())) == 1


@pytest.mark.targets
def test_platformios_flags_compile_the_library(tmp_path: Path) -> None:
    """As its platform atmelavr does for an Arduino: PlatformIO itself is not here."""
    needs("avr-gcc")
    library = exported(POLICIES["int"], tmp_path, "arduino") / "arduino"
    manifest = json.loads((library / "library.json").read_text())
    assert manifest["frameworks"] == manifest["platforms"] == "*"
    flags = ["-std=gnu11", "-fno-fat-lto-objects", "-mmcu=atmega2560", "-Os", "-Wall", "-Werror", "-ffunction-sections"]
    flags += ["-fdata-sections", "-flto", "-DPLATFORMIO=60118", "-DARDUINO_AVR_MEGA2560", "-DF_CPU=16000000L"]
    sources = sorted((library / "src").glob("*.c"))
    subprocess.run(["avr-gcc", *flags, "-c", *sources], cwd=tmp_path, check=True, capture_output=True)
    assert len(list(tmp_path.glob("*.o"))) == len(sources)


BOARDS = [
    (("gcc", "-Wno-missing-declarations"), "linux.c", "selftest.c"),
    (("clang",), "linux.c", "selftest.c"),
    (("arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb"), "cortex_m.c", "selftest.c"),
    (("avr-gcc", "-mmcu=atmega1284p"), "selftest.c"),
]


@pytest.mark.targets
@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board[0][0])
def test_no_compiler_warns_about_the_boards(board: tuple[tuple[str, ...], ...], tmp_path: Path) -> None:
    (compiler, *flags), *files = board
    needs(compiler)
    build = exported(POLICIES["masked"], tmp_path, "c")
    for file in files:
        (build / "board.h").write_bytes((BOARD / "board.h").read_bytes())
        (build / file).write_bytes(program(file, POLICIES["masked"], "policy"))
        command = [compiler, "-std=c99", "-Os", *WARNINGS, *flags, "-c", file, "-o", "out.o"]
        done = subprocess.run(command, cwd=build, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), file


@pytest.mark.targets
@pytest.mark.parametrize("name", POLICIES)
def test_valgrind_finds_nothing(name: str, tmp_path: Path) -> None:
    needs("gcc", "valgrind")
    build = exported(POLICIES[name], tmp_path, "c")
    for file in ("board.h", "linux.c"):
        (build / file).write_bytes((BOARD / file).read_bytes())
    (build / "selftest.c").write_bytes(program("selftest.c", POLICIES[name], "policy"))
    sources = ["selftest.c", "linux.c", "policy.c", "policy_selftest.c"]
    subprocess.run(["gcc", "-std=c99", "-O1", "-g", *sources, "-o", "run"], cwd=build, check=True)
    command = ["valgrind", "--quiet", "--error-exitcode=9", "./run"]
    done = subprocess.run(command, cwd=build, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
