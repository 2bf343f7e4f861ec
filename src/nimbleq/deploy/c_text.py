"""Small pieces of C text: names, numbers, arrays, comments, and the kernels that a file includes."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np

from nimbleq.errors import ConfigError
from nimbleq.types import Array

KERNELS = Path(__file__).parent.parent / "native" / "kernels"
KERNEL_ORDER = (
    "common", "finite", "shape", "requantize", "quantize", "norm", "expectation", "argmax",
    "linear_f32", "linear_i8", "conv_f32", "conv_i8", "quads_u8", "rows_u8",
)  # fmt: skip
_TYPES = {"float32": "float", "float64": "double"}
_KEYWORDS = frozenset((
    "auto", "break", "case", "char", "const", "continue", "default", "do", "double",
    "else", "enum", "extern", "float", "for", "goto", "if", "inline", "int",
    "long", "register", "restrict", "return", "short", "signed", "sizeof", "static", "struct",
    "switch", "typedef", "union", "unsigned", "void", "volatile", "while", "main",
))  # fmt: skip


@cache
def kernel(name: str) -> str:
    """Text of a kernel family, e.g. ``"linear_f32"``."""
    return (KERNELS / f"{name}.h").read_text()


def identifier(name: str) -> str:
    """``name`` when it is usable as a prefix of C names.

    Raises:
        ConfigError: it is not.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,40}", name) or name in _KEYWORDS:
        raise ConfigError(f"{name!r} is not a C identifier: use letters, digits and _, starting with a letter")
    return name


def comment_safe(text: str) -> str:
    """``text`` without anything that could end a comment or continue a line."""
    return re.sub(r"[^A-Za-z0-9_ .,:;()<>=+%@#\[\]-]", "?", text)


def number(value: float) -> str:
    """A float32 literal that reads back as the same bits."""
    if not np.isfinite(value):
        raise ConfigError(f"a weight is {value}: the network cannot be written as C")
    text = f"{float(value):.9g}"
    return f"{text if any(mark in text for mark in '.e') else text + '.0'}f"


def array(name: str, values: Array) -> str:
    """Definition of a constant array."""
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
    return f"static const {kind} {name}[{len(texts)}] NQ_ALIGN = {{\n{lines}\n}};\n"
