"""Small pieces of C text: names, numbers, arrays, comments, and the kernels that a file includes."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from functools import cache
from pathlib import Path

import numpy as np

from nimbleq import native
from nimbleq.errors import ConfigError
from nimbleq.types import Array

FLASH = "NQ_FLASH "
"""Before the type of a constant and of what points to it: an AVR then reads it from flash."""
FLASH_MACRO = """/* An AVR reads constants from flash, where the compiler is asked for GNU C. */
#ifdef __FLASH
#define NQ_FLASH __flash
#pragma GCC diagnostic ignored "-Wuninitialized" /* GCC says so of constants that it needs no more */
#else
#define NQ_FLASH
#endif
"""
SINGLY = "NQ_SINGLY "
"""Before a loop that reads packed weights."""
SINGLY_MACRO = """/* With vectors Clang fetches packed weights by gathers, which takes 50 times as long. */
#ifdef __clang__
#define NQ_SINGLY _Pragma("clang loop vectorize(disable)")
#else
#define NQ_SINGLY
#endif
"""
KERNELS = Path(native.__file__).parent / "kernels"
KERNEL_ORDER = (
    "finite", "finite_many", "activations", "activate", "requantize", "quantize", "real", "exact_double", "sqrt",
    "norm", "exp", "expectation", "tanh", "gru", "stream",
    "code", "int", "wide_int", "ternary", "log2", "times_log2", "apot4", "times_apot4", "bf16", "power", "shift",
    "quantize_power", "half", "less", "less_whole", "dot_u8", "dot_i8",
    "argmax_i32", "argmax_f32", "argmax_masked_i32", "argmax_masked_f32", "argmax_steady_i32", "argmax_steady_f32",
    "avx2/vectors", "avx2/activate8", "avx2/wide", "avx2/nonzero8", "avx2/store", "avx2/linear_f32", "avx2/linear_i8",
    "avx2/conv_f32", "avx2/conv_i8", "avx2/sums", "avx2/bytes_pairs", "avx2/bytes_vnni", "avx2/quads_u8",
    "avx2/rows_u8", "avx2/walk_f32", "avx2/walk_i8", "avx2/quantize_f32", "avx2/widen8", "avx2/blocks_f32",
    "avx2/blocks_i8", "avx2/dot_i16", "avx2/places_u8", "avx2/scatter_f32", "avx2/scatter_i8",
)  # fmt: skip
_NEEDS = {
    "activate": ("activations",),
    "expectation": ("exp",),
    "tanh": ("exp",),
    "gru": ("exp", "tanh"),
    "norm": ("sqrt",),
    "stream": ("sqrt",),
    "int": ("code",),
    "log2": ("code",),
    "times_log2": ("code",),
    "apot4": ("code",),
    "times_apot4": ("code",),
    "avx2/linear_f32": ("activations", "activate", "avx2/vectors", "avx2/activate8", "avx2/wide"),
    "avx2/conv_f32": ("activations", "avx2/vectors", "avx2/activate8", "avx2/wide"),
    "avx2/linear_i8": ("avx2/vectors", "avx2/nonzero8", "avx2/store"),
    "avx2/conv_i8": ("avx2/vectors", "avx2/store"),
    "avx2/quads_u8": ("avx2/vectors", "avx2/store", "avx2/sums"),
    "avx2/rows_u8": ("avx2/vectors", "avx2/nonzero8", "avx2/store"),
    "avx2/blocks_f32": ("activations", "avx2/vectors", "avx2/activate8"),
    "avx2/blocks_i8": ("avx2/vectors", "avx2/store"),
    "avx2/walk_f32": ("activations", "avx2/vectors", "avx2/activate8", "avx2/wide"),
    "avx2/walk_i8": ("avx2/vectors", "avx2/store"),
    "avx2/dot_i16": ("avx2/store",),
    "avx2/quantize_f32": ("avx2/vectors",),
    "avx2/places_u8": ("avx2/vectors", "avx2/nonzero8"),
    "avx2/scatter_f32": ("activations", "avx2/vectors", "avx2/activate8"),
    "avx2/scatter_i8": ("avx2/vectors", "avx2/store"),
}
_TYPES = {"float32": "float", "float64": "double"}
_HEADERS = frozenset((
    "assert", "complex", "ctype", "errno", "fenv", "float", "inttypes", "iso646", "limits", "locale", "math", "setjmp",
    "signal", "stdalign", "stdarg", "stdatomic", "stdbool", "stddef", "stdint", "stdio", "stdlib", "stdnoreturn",
    "string", "tgmath", "threads", "time", "uchar", "wchar", "wctype", "immintrin", "arm_neon", "arm_acle",
    "wasm_simd128",
))  # fmt: skip
"""A policy's header with one of these names would be taken for the compiler's."""
KEYWORDS = frozenset((
    "auto", "break", "case", "char", "const", "continue", "default", "do", "double",
    "else", "enum", "extern", "float", "for", "goto", "if", "inline", "int",
    "long", "register", "restrict", "return", "short", "signed", "sizeof", "static", "struct",
    "switch", "typedef", "union", "unsigned", "void", "volatile", "while", "main",
))  # fmt: skip


@cache
def _file(name: str) -> str:
    return (KERNELS / f"{name}.h").read_text()


def kernels(used: Set[str]) -> str:
    """Text of kernel families, e.g. ``{"avx2/linear_f32"}``, and of those that they need."""
    wanted = {need for name in used for need in (name, *_NEEDS.get(name, ()))}
    return "\n".join(_file(name) for name in KERNEL_ORDER if name in wanted)


def chosen(used: Set[str], folders: Sequence[tuple[str, str, str]]) -> str:
    """Text of kernels that are there in several forms, and in plain C.

    Args:
        folders: condition, header of the compiler and folder of each form.
    """
    wanted = [name for name in KERNEL_ORDER if name in used]
    if not folders or not wanted:
        return kernels(set(wanted))
    lines: list[str] = []
    for condition, include, folder in folders:
        lines += [f"#{'el' if lines else ''}if !defined(NQ_SCALAR) && {condition}", f"#include <{include}>", ""]
        lines += [_file(f"{folder}/{name}") for name in wanted]
    return "\n".join([*lines, "#else", *(_file(name) for name in wanted), "#endif", ""])


def used(kernels: str, code: str) -> str:
    """Of ``kernels``, in blocks with a blank line between, those that ``code`` or a kept one names."""
    kept: list[str] = []
    names = _names(code)
    for block in reversed(kernels.split("\n\n")):
        if not (defined := _defined(block)) or names & defined:
            kept.append(block)
            names |= _names(block)
    return "\n\n".join(reversed(kept)).rstrip("\n") + "\n"


def _names(text: str) -> set[str]:
    return set(re.findall(r"\b(?:nq|NQ)_\w+", _uncommented(text)))


def _defined(block: str) -> set[str]:
    """Names of its function, types or constants; none of what only checks the compiler."""
    text = _uncommented(block)
    functions = re.findall(r"^(?:static|NQ_INLINE)\b[^(;{]*?(nq_\w+)\(", text, re.M)
    types = re.findall(r"^(?:typedef [^{;\[]*?|\} )(nq_\w+)(?: __attribute__.*)?;", text, re.M)
    constants = re.findall(r"NQ_\w+", "".join(re.findall(r"^enum \{(.*?)\}", text, re.M)))
    return {*functions, *types, *constants}


def _uncommented(text: str) -> str:
    return re.sub(r"/\*.*?\*/", "", text, flags=re.S)


def macros(text: str) -> str:
    """Definitions of the macros of `native/kernels/avx2/macros.h` that ``text`` mentions."""
    blocks = _file("avx2/macros").split("\n\n")
    names = [re.findall(r"#define (NQ_[A-Z]+)", block) for block in blocks]
    return "\n\n".join(block.strip() for block, own in zip(blocks, names, strict=True) if _mentions(text, own)) + "\n"


def _mentions(text: str, names: Sequence[str]) -> bool:
    return any(re.search(rf"\b{name}\b", text) for name in names)


def renamed(text: str, name: str) -> str:
    """``text`` with ``nq_`` and ``NQ_`` of every C name replaced by those of the policy ``name``."""
    return re.sub(r"\bNQ_(?!SCALAR\b)", f"{name.upper()}_", re.sub(r"\bnq_", f"{name}_", text))


def identifier(name: str) -> str:
    """``name`` when it is usable as a prefix of C names, and for a C file and its header.

    Raises:
        ConfigError: it is not.
    """
    if name in KEYWORDS:
        raise ConfigError(f"{name!r} is a word of C itself: choose another name")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,40}", name):
        raise ConfigError(f"{name!r} is not a C identifier: use letters, digits and _, starting with a letter")
    if name.lower() in _HEADERS:
        raise ConfigError(f"{name!r} is the name of a header of C: choose another")
    return name


def comment_safe(text: str) -> str:
    """``text`` without anything that could end a comment or continue a line."""
    return re.sub(r"[^A-Za-z0-9_ .,:;()<>=+%@#'\[\]-]", "?", text)


def comment_lines(text: str) -> str:
    """`comment_safe` of each line."""
    return "\n".join(map(comment_safe, text.split("\n")))


def number(value: float) -> str:
    """A float32 literal that reads back as the same bits."""
    if not np.isfinite(value):
        raise ConfigError(f"a weight is {value}: the network cannot be written as C")
    text = f"{float(value):.9g}"
    return f"{text if any(mark in text for mark in '.e') else text + '.0'}f"


def array(name: str, values: Array, aligned: bool, flash: bool = False) -> str:
    """Definition of a constant array; ``flash`` marks it with `FLASH`."""
    flat = np.ascontiguousarray(values).reshape(-1)
    if flat.dtype == np.float32:
        if not np.isfinite(flat).all():
            number(float(flat[~np.isfinite(flat)][0]))
        # Exact zeros are written short: pruned and padded weights are many.
        texts = ["0" if value == 0.0 else number(value) for value in flat.tolist()]
    else:
        texts = [str(value) if value != -(2**31) else "(-2147483647 - 1)" for value in flat.tolist()]
    kind = _TYPES.get(str(flat.dtype), f"{flat.dtype}_t")
    lines = "\n".join("    " + ",".join(texts[start : start + 12]) + "," for start in range(0, len(texts), 12))
    kind, place = f"{FLASH if flash else ''}{kind}", " NQ_ALIGN" if aligned else ""
    return f"static const {kind} {name}[{len(texts)}]{place} = {{\n{lines}\n}};\n"
