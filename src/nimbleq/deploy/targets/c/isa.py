"""Instruction sets that C is written for: how weights are packed, and which kernels read them."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nimbleq.deploy.targets.c import plan as c_plan
from nimbleq.deploy.targets.c.ops import conv, dense, portable
from nimbleq.deploy.targets.c.ops.writer import Writer
from nimbleq.graph.graph import Node

Layer = Callable[[Writer, Node, Node | None], list[str]]
"""Lines of one layer, its epilogue included."""


@dataclass(frozen=True)
class Isa:
    """Attributes:
    name: for people.
    condition: of the C preprocessor; empty when every compiler and processor will do.
    includes: headers beside ``stdint.h``.
    alignment: of tensors and constants, in bytes.
    stack_bytes: arenas up to this size live on the stack, so that any thread may call; others are static.
    lanes: tensors take a multiple of this many elements, because kernels store whole vectors.
    linear, conv2d: the writers of layers.
    """

    name: str
    condition: str
    includes: tuple[str, ...]
    alignment: int
    stack_bytes: int
    lanes: int
    linear: Layer
    conv2d: Layer


AVX2 = Isa(
    name="avx2",
    condition=(
        "defined(__AVX2__) && defined(__FMA__) && defined(__BMI2__) && defined(__x86_64__) && defined(__GNUC__) "
        "\\\n    && __STDC_HOSTED__ && !defined(NQ_SCALAR)"
    ),
    includes=("immintrin.h", "stddef.h"),
    alignment=64,
    stack_bytes=16384,
    lanes=32,
    linear=dense.linear,
    conv2d=conv.conv2d,
)
PORTABLE = Isa(
    name="portable",
    condition="",
    includes=(),
    alignment=c_plan.ALIGNMENT,
    stack_bytes=1920,  # microcontrollers have small ones
    lanes=1,
    linear=portable.linear,
    conv2d=portable.conv2d,
)

ISAS = (AVX2, PORTABLE)
"""Those of a file that runs everywhere: the preprocessor takes the first whose condition holds."""


def isas_of_this_machine() -> tuple[Isa, ...]:
    """Those that code for this processor needs; all of them where it does not say what it can."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ISAS
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return (AVX2,) if {"avx2", "fma", "bmi2"} <= set(flags) and platform.machine() == "x86_64" else ISAS
