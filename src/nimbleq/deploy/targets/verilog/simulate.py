"""Running a circuit with Verilator: integers in, action and compared values out, clock by clock."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nimbleq.deploy.target import Run
from nimbleq.deploy.targets.verilog.core import Core
from nimbleq.deploy.targets.verilog.write import action_bits, value_bits
from nimbleq.deploy.toolchain import CompileError, NoCompilerError
from nimbleq.types import Array

SECONDS = 600

_MAIN = """// Feeds the circuit from a file of 32-bit words and writes what comes out.
#include <cstdio>
#include <cstdint>
#include <cstring>
#include <vector>
#include "verilated.h"
#include "Vdut.h"

static const int OBS = {obs_words}, MASK = {mask_words}, VALUES = {value_words};

template <class T> static void put(T &port, const uint32_t *words, int count) {{
    uint64_t value = words[0];
    if (count > 1) value |= static_cast<uint64_t>(words[1]) << 32;
    port = static_cast<T>(value);
}}
template <std::size_t N> static void put(VlWide<N> &port, const uint32_t *words, int) {{
    std::memcpy(&port[0], words, N * 4);
}}
template <class T> static void get(const T &port, uint32_t *words, int count) {{
    const uint64_t value = port;
    words[0] = static_cast<uint32_t>(value);
    if (count > 1) words[1] = static_cast<uint32_t>(value >> 32);
}}
template <std::size_t N> static void get(const VlWide<N> &port, uint32_t *words, int) {{
    std::memcpy(words, &port[0], N * 4);
}}

int main(int, char **paths) {{
    std::FILE *in = std::fopen(paths[1], "rb"), *out = std::fopen(paths[2], "wb");
    if (!in || !out) return 2;
    std::vector<uint32_t> given(OBS + MASK), answer(1 + VALUES);
    Vdut dut;
    auto clock = [&] {{
        dut.clk = 0; dut.eval();
        dut.clk = 1; dut.eval();
    }};
    dut.in_valid = 0; dut.rst = 1;
    clock(); clock();
    dut.rst = 0;
    long waiting = 0, idle = 0;
    bool more = true;
    while (more || waiting) {{
        dut.in_valid = more && dut.in_ready;
        if (dut.in_valid) {{
            if (std::fread(given.data(), 4, given.size(), in) == given.size()) {{
                put(dut.obs, given.data(), OBS);
                {mask}
                ++waiting;
            }} else {{
                more = false;
                dut.in_valid = 0;
            }}
        }}
        clock();
        if (dut.out_valid) {{
            answer[0] = dut.action;
            get(dut.values, answer.data() + 1, VALUES);
            std::fwrite(answer.data(), 4, answer.size(), out);
            --waiting;
            idle = 0;
        }} else if (++idle > 1000000) return 3;
    }}
    return std::fclose(out);
}}
"""


def cannot_simulate() -> str | None:
    """Why circuits cannot be run here."""
    missing = [tool for tool in ("verilator", "make", "g++") if shutil.which(tool) is None]
    return f"running Verilog needs {', '.join(missing)}: install Verilator and a C++ compiler" if missing else None


def simulate(core: Core, files: Mapping[str, bytes], name: str, folder: Path) -> Run:
    """The circuit ``NAME_core`` of ``files``, compiled in ``folder``.

    Raises:
        NoCompilerError: it cannot be compiled here.
        CompileError: Verilator refuses it; warnings count.
    """
    why = cannot_simulate()
    if why:
        raise NoCompilerError(why)
    read, graph, wide = core.levels_type, core.policy, value_bits(core)
    words = {
        "obs_words": _words(read.size * read.qtype.bits),
        "mask_words": _words(graph.actions) if graph.masked else 0,
        "value_words": _words(graph.actions * wide),
    }
    text = _MAIN.format(
        **words,
        mask="put(dut.mask, given.data() + OBS, MASK);" if graph.masked else "",
    )
    (folder / f"{name}.v").write_bytes(files[f"{name}.v"])
    (folder / "main.cpp").write_text(text)
    command = [
        "verilator", "--cc", "--exe", "--build", "-Wall", "-Wno-DECLFILENAME", "-Wno-UNUSED", "-Wno-WIDTH", "-O3",
        "-MAKEFLAGS", "OPT_FAST=-O1 OPT_SLOW=-O0 OPT_GLOBAL=-O0", "--prefix", "Vdut", "--top-module", f"{name}_core",
        "--Mdir", "build", "-o", "dut", f"{name}.v", "main.cpp",
    ]  # fmt: skip
    _call(command, folder)

    def run(obs: Array, mask: Array | None) -> tuple[Array | None, Array | None]:
        levels = core.levels_of(obs)
        given = _packed(levels, read.qtype.bits)
        if graph.masked:
            assert mask is not None, "a masked policy is given its mask"
            given = np.concatenate([given, _packed((mask != 0).astype(np.int64), 1)], axis=1)
        (folder / "in.bin").write_bytes(np.ascontiguousarray(given, "<u4").tobytes())
        _call(["./build/dut", "in.bin", "out.bin"], folder)
        answers = np.frombuffer((folder / "out.bin").read_bytes(), "<u4").reshape(-1, 1 + words["value_words"])
        if len(answers) != len(obs):
            raise CompileError(f"the circuit answered {len(answers)} of {len(obs)} observations")
        values = _unpacked(answers[:, 1:], graph.actions, wide, core.value_type.low < 0)
        return (answers[:, 0] & ((1 << action_bits(core)) - 1)).astype(np.int32), core.q_of(values)

    return run


def _call(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoCompilerError(f"cannot run {command[0]}: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        first = next((line for line in said if "%Error" in line or "%Warning" in line or "error:" in line), "")
        raise CompileError(f"{command[0]} failed ({done.returncode}): {first or ' '.join(said[-1:])}")


def _words(bits: int) -> int:
    return (bits + 31) // 32


def _packed(numbers: Array, bits: int) -> Array:
    """``int[N, F]`` → ``uint32[N, W]``: ``bits`` each, the first in the lowest."""
    shifts = np.arange(bits, dtype=np.int64)
    every = ((numbers[:, :, None].astype(np.int64) >> shifts) & 1).astype(np.uint8).reshape(len(numbers), -1)
    padded = np.pad(every, ((0, 0), (0, -every.shape[1] % 32)))
    return np.packbits(padded, axis=1, bitorder="little").view("<u4")


def _unpacked(words: Array, count: int, bits: int, signed: bool) -> Array:
    """The inverse of `_packed`: ``int32[N, count]``."""
    every = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=1, bitorder="little")[:, : count * bits]
    powers = np.int64(1) << np.arange(bits, dtype=np.int64)
    if signed:
        powers[-1] = -powers[-1]
    return (every.reshape(len(words), count, bits).astype(np.int64) @ powers).astype(np.int32)
