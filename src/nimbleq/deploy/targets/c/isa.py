"""Instruction sets that C is written for: a row says how its layers are made and what they need.

A new one is a row here, files for its layers beside `ops/avx2`, and kernels beside `native/kernels/avx2`.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nimbleq.deploy.targets.c.layout import ALIGNMENT
from nimbleq.deploy.targets.c.ops import PORTABLE as PORTABLE_OPS
from nimbleq.deploy.targets.c.ops import Make
from nimbleq.deploy.targets.c.ops.avx2 import PAIRS, VNNI, layers
from nimbleq.deploy.targets.c.ops.avx2.store import stores_bytes
from nimbleq.deploy.targets.c.ops.avx2.words import words
from nimbleq.deploy.targets.c.ops.dots import DOTS, Dot
from nimbleq.deploy.targets.c.steps import Fuses
from nimbleq.graph.graph import Graph
from nimbleq.graph.ops import Op
from nimbleq.types import Array


@dataclass(frozen=True)
class Isa:
    """Attributes:
    name: for people.
    condition: of the C preprocessor; empty when every compiler and processor will do.
    includes: headers beside ``stdint.h``.
    alignment: of tensors and constants, in bytes.
    stack_bytes: arenas up to this size live on the stack, so that any thread may call; others are static.
    lanes: tensors take a multiple of this many elements, because kernels store whole vectors.
    ops: op → the function that makes its lines.
    fuses: which requantizations its layers do on their sums.
    words: which tensors of bytes it stores as int16, and in which order.
    dots: instructions for sums of products that its compiler may have.
    unpacked: see `Layout.unpacked`.
    flash: whether constants are marked for an AVR, which has other instructions to read them from flash.
    """

    name: str
    condition: str
    includes: tuple[str, ...]
    alignment: int
    stack_bytes: int
    lanes: int
    ops: Mapping[type[Op], Make]
    fuses: Fuses
    words: Callable[[Graph], Mapping[str, Array]]
    dots: tuple[Dot, ...] = ()
    unpacked: int = 0
    flash: bool = False


AVX2 = Isa(
    name="AVX2",
    condition=(
        "defined(__AVX2__) && defined(__FMA__) && defined(__BMI2__) && defined(__x86_64__) && defined(__GNUC__) "
        "\\\n    && __STDC_HOSTED__ && !defined(NQ_SCALAR)"
    ),
    includes=("immintrin.h", "stddef.h"),
    alignment=64,
    stack_bytes=16384,
    lanes=32,
    ops={**PORTABLE_OPS, **layers(PAIRS)},
    fuses=stores_bytes,
    words=words,
)
AVX2_VNNI = replace(
    AVX2,
    name="AVX2 with VNNI",
    condition=(
        "(defined(__AVXVNNI__) || (defined(__AVX512VNNI__) && defined(__AVX512VL__))) \\\n    && " + AVX2.condition
    ),
    ops={**PORTABLE_OPS, **layers(VNNI)},
    words=lambda graph: {},
)
PORTABLE = Isa(
    name="portable",
    condition="",
    includes=(),
    alignment=ALIGNMENT,
    stack_bytes=1920,  # microcontrollers have small ones
    lanes=1,
    ops=PORTABLE_OPS,
    fuses=lambda graph, op: True,
    words=lambda graph: {},
    dots=DOTS,
)


def portable(*dots: Dot, unpacked: int = 0, flash: bool = False) -> Isa:
    """Plain C that knows of these instructions only; for the other arguments see `Isa`."""
    return replace(PORTABLE, dots=dots, unpacked=unpacked, flash=flash)


ISAS = (AVX2_VNNI, AVX2, PORTABLE)
"""Those of a file that runs everywhere: the preprocessor takes the first whose condition holds."""


def isas_of_this_machine() -> tuple[Isa, ...]:
    """Those that code for this processor needs; all of them where it does not say what it can."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ISAS
    flags = set(next((line.split() for line in lines if line.startswith("flags")), []))
    if not {"avx2", "fma", "bmi2"} <= flags or platform.machine() != "x86_64":
        return ISAS
    return (AVX2_VNNI, AVX2) if "avx_vnni" in flags or {"avx512_vnni", "avx512vl"} <= flags else (AVX2,)
