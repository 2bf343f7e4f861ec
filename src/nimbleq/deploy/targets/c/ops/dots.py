"""Sums of products of bytes: `DOTS`, the instructions that some processors have for them. A new one is a line here.

Each is a folder of `native/kernels` with the functions of `dot_u8.h` and `dot_i8.h`, which are plain C. They take the
same weights, so the compiler chooses by a condition of the preprocessor, and nothing else of the code depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass

from nimbleq.deploy.targets.c.ops.layer import Layer
from nimbleq.deploy.targets.c.ops.readers import Stored
from nimbleq.deploy.targets.c.ops.sums import bias, requantized

LEAST = 16
"""Products from which on a call pays."""
_BY_ELEMENT = {"uint8_t": "dot_u8", "int8_t": "dot_i8"}
KERNELS = frozenset(_BY_ELEMENT.values())


@dataclass(frozen=True)
class Dot:
    """A row of `DOTS`.

    Attributes:
        name: for people.
        folder: of its kernels.
        condition: of the C preprocessor.
        include: header of the compiler that declares the instructions.
    """

    name: str
    folder: str
    condition: str
    include: str


NEON = Dot(
    name="64-bit ARM with dot products",
    folder="neon",
    condition="defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD) && defined(__GNUC__)",
    include="arm_neon.h",
)
DSP = Dot(
    name="Cortex-M with DSP instructions",
    folder="dsp",
    condition="defined(__ARM_FEATURE_SIMD32) && defined(__ARM_FEATURE_UNALIGNED) && defined(__GNUC__) \\\n    "
    "&& !defined(__ARM_BIG_ENDIAN)",
    include="arm_acle.h",
)
SIMD128 = Dot(
    name="WebAssembly with SIMD",
    folder="simd128",
    condition="defined(__wasm_simd128__)",
    include="wasm_simd128.h",
)
DOTS = (NEON, DSP, SIMD128)


def dot_of(layer: Layer, w: Stored, run: int) -> str:
    """The kernel for ``run`` neighbouring inputs of an integer layer; empty where plain loops have to do."""
    kernel = _BY_ELEMENT.get(layer.source_element, "")
    if run < LEAST or not w.reader.plain or w.reader.element != "int8_t" or not kernel:
        return ""
    layer.use(kernel)
    return f"nq_{kernel}"


def dot_linear(layer: Layer, w: Stored, n_out: int, n_in: int) -> list[str]:
    """Lines of a Linear by dot products; none where `dot_of` has no kernel."""
    dot = dot_of(layer, w, n_in)
    if not dot:
        return []
    return [
        f"for (int o = 0; o < {n_out}; ++o) {{",
        f"    const uint32_t sum = {bias(layer)} + {dot}({layer.x}, {w.name} + o * {n_in}, {n_in});",
        f"    {layer.y}[o] = {requantized(layer)};",
        "}",
    ]
