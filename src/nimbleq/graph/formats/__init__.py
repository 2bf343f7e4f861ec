"""Number formats. A weight's format is a row of `FORMATS`; a new one is a file here and a line in the table."""

from nimbleq.graph.formats.base import Format, IntegerFormat, RealFormat
from nimbleq.graph.formats.bfloat16 import BFloat16
from nimbleq.graph.formats.float32 import Float32
from nimbleq.graph.formats.integer import Int
from nimbleq.graph.formats.levels import SignedLevels
from nimbleq.graph.formats.power import Power
from nimbleq.graph.formats.scaled import Scaled, narrowest, parse_scaled
from nimbleq.graph.formats.ternary import Ternary

FLOAT32 = Float32()
BF16 = BFloat16()
UINT8 = Int(8, signed=False)
INT8 = Int(8, signed=True)
INT32 = Int(32, signed=True)
POWER4 = Power(4, least=-3)
POWER5 = Power(5, least=-16)
TERNARY = Ternary()
LOG2 = SignedLevels("log2", (0, 1, 2, 4, 8, 16, 32, 64), terms=1)
"""0 and ±2^k in 4 bits: code k + 1 is 2^k."""
LOG2_3 = SignedLevels("log2-3", (0, 1, 2, 4), terms=1)
"""The same in 3 bits."""
APOT4 = SignedLevels("apot4", (0, 2, 1, 3, 4, 6, 8, 10), terms=2)
"""Additive powers of two [1909.13144]: ±(a + b) with a of 0, 1, 4, 8 (the upper two bits of a place), b of 0, 2."""

FORMATS: dict[str, Format] = {
    str(row): row
    for row in (
        FLOAT32,
        BF16,
        INT32,
        INT8,
        *(Int(bits, signed=True) for bits in range(7, 1, -1)),
        TERNARY,
        LOG2,
        LOG2_3,
        APOT4,
        *(Scaled(bits, shift) for bits in (8, 6) for shift in (0, 2, 4, 6)),
        *(Scaled(bits, 0) for bits in (12, 16)),
        POWER4,
        POWER5,
    )
}
"""Name in files → format that weights may have; `Scaled` has more widths than are listed, see `format_named`."""


def format_named(name: str) -> Format | None:
    """The format that files call ``name``; None if there is none."""
    return FORMATS.get(name) or parse_scaled(name)


__all__ = [
    "APOT4", "BF16", "FLOAT32", "FORMATS", "INT8", "INT32", "LOG2", "LOG2_3", "POWER4", "POWER5", "TERNARY", "UINT8",
    "BFloat16", "Float32", "Format", "Int", "IntegerFormat", "Power", "RealFormat", "Scaled", "SignedLevels", "Ternary",
    "format_named", "narrowest",
]  # fmt: skip
