"""Number formats. A weight's format is a row of `FORMATS`; a new one is a file here and a line in the table."""

from nimbleq.graph.formats.base import Format
from nimbleq.graph.formats.float32 import Float32
from nimbleq.graph.formats.integer import Int
from nimbleq.graph.formats.power import Power
from nimbleq.graph.formats.scaled import Scaled

FLOAT32 = Float32()
UINT8 = Int(8, signed=False)
INT8 = Int(8, signed=True)
INT32 = Int(32, signed=True)
POWER4 = Power(4, least=-3)

FORMATS: dict[str, Format] = {
    str(row): row
    for row in (
        FLOAT32,
        INT32,
        INT8,
        *(Int(bits, signed=True) for bits in range(7, 1, -1)),
        *(Scaled(bits, shift) for bits in (8, 6) for shift in (0, 2, 4, 6)),
        POWER4,
    )
}
"""Name in files → format that weights may have."""

__all__ = ["FLOAT32", "FORMATS", "INT8", "INT32", "POWER4", "UINT8", "Float32", "Format", "Int", "Power", "Scaled"]
