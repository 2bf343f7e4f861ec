"""How C reads a weight of each number format: `READERS`. A new format needs a row here.

Weights lie in the C file as they are stored in the model, packed, and are decoded where they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nimbleq.deploy.targets.c.text import SINGLY
from nimbleq.graph.formats import BFloat16, Float32, Format, Int, Power, Scaled, SignedLevels, Ternary
from nimbleq.types import Array

KERNELS = ("code", "int", "wide_int", "ternary", "log2", "times_log2", "apot4", "times_apot4", "bf16", "power")
"""Functions ``nq_…`` that read, each in a file of `native/kernels` with its name."""
_PLAIN = "{w}[{i}]"
PLACE = 149
"""Of a float's exponent field and its 23 bits: what the kernel ``quantize_power`` counts from."""
_PRODUCT = "(uint32_t)((int32_t){x} * {weight})"
BYTES_PRODUCT = "(uint32_t)(int32_t)({x} * {weight})"
"""Of two bytes, as an ``int``: one instruction of an AVR, where 32 bits take 70 cycles."""


def _values(values: Array, number: Format) -> Array:
    return values


def _codes(values: Array, number: Format) -> Array:
    return number.encode(values)


def _packed(values: Array, number: Format) -> Array:
    return np.frombuffer(number.pack(number.encode(values)), np.uint8)


@dataclass(frozen=True)
class Reader:
    """How C reads the weights of one format.

    Attributes:
        element: C type of the array's elements.
        read: C expression of weight number ``{i}`` of the array ``{w}``.
        array: ``(values, format) → elements`` of the array.
        product: C expression, uint32, of the int32 ``{x}`` times the weight ``{i}`` of ``{w}``, which is ``{weight}``.
        place: C expression of 149 less the exponent, where values are powers of two (see the kernel
            ``quantize_power``); else empty.
    """

    element: str
    read: str = _PLAIN
    array: Callable[[Array, Format], Array] = field(default=_packed)
    product: str = _PRODUCT
    place: str = ""

    @property
    def plain(self) -> bool:
        """Whether the array's elements are the weights."""
        return self.read == _PLAIN


def _int(number: Int) -> Reader:
    if number.native is not None:
        return Reader(f"{number.dtype}_t", array=_values)
    return Reader("uint8_t", f"nq_int({{w}}, {{i}}, {number.bits}u)")


def _scaled(number: Scaled) -> Reader:
    whole = number.bits in (8, 16, 32)
    read = _PLAIN if whole else f"nq_{'int' if number.bits < 8 else 'wide_int'}({{w}}, {{i}}, {number.bits}u)"
    if number.shift:
        read = f"((int32_t){read} * {1 << number.shift})"
    if whole:
        return Reader(f"int{number.bits}_t", read, array=lambda values, _: _elements(values, number))
    return Reader("uint8_t", read)


def _elements(values: Array, number: Scaled) -> Array:
    return number.encode(values).astype(f"int{number.bits}")


def _levels(number: SignedLevels) -> Reader:
    kernel, arguments = _LEVELS[str(number)]
    call = f"({{w}}, {{i}}{arguments})"
    product = f"nq_times_{kernel}({{x}}, {call[1:]}"
    return Reader("uint8_t", f"nq_{kernel}{call}", product=product)


_LEVELS = {"log2": ("log2", ", 4u"), "log2-3": ("log2", ", 3u"), "apot4": ("apot4", "")}
"""Format → its kernel, and what the kernel is told."""


def _power(number: Power) -> Reader:
    place = f"({PLACE - number.least} - (int32_t)nq_code({{w}}, {{i}}, {number.bits}u))"
    return Reader("uint8_t", f"nq_power({PLACE} - {place})", place=place)


READERS: Mapping[type[Format], Callable[[Any], Reader]] = {
    Float32: lambda _: Reader("float", array=_values),
    BFloat16: lambda _: Reader("uint16_t", "nq_bf16({w}[{i}])", array=_codes),
    Int: _int,
    Ternary: lambda _: Reader("uint8_t", "nq_ternary({w}, {i})"),
    SignedLevels: _levels,
    Power: _power,
    Scaled: _scaled,
}
"""Kind of format → how C reads it."""


def plain_reader(values: Array, number: Format, more: int) -> Reader | None:
    """Reads ``values`` as an array that is not packed; None where that takes over ``more`` > 0 bytes more."""
    packed = READERS[type(number)](number)
    if not more or (packed.plain and values.dtype.kind == "f"):
        return None
    if isinstance(number, Power) and number.least >= PLACE - 255 and number.most <= PLACE:
        bits, places = 8, (PLACE - np.log2(values)).astype(np.uint8)
        reader = Reader("uint8_t", f"nq_power({PLACE} - {{w}}[{{i}}])", lambda *_: places, place="{w}[{i}]")
    elif values.dtype.kind == "i":
        bits = next(bits for bits in (8, 16, 32) if -(1 << bits - 1) <= values.min() and values.max() < 1 << bits - 1)
        reader = Reader(f"int{bits}_t", array=lambda values, _: values.astype(f"int{bits}"))
    else:
        return None
    size = len(packed.array(values, number).tobytes())
    return reader if values.size * bits // 8 <= size + more else None


@dataclass(frozen=True)
class Stored:
    """A constant array of weights in the order in which C uses them.

    Attributes:
        name: in C.
        count: number of weights.
        reader: of its format.
    """

    name: str
    count: int
    reader: Reader

    def at(self, index: str) -> str:
        """C expression of one weight; of the only one, where there is one."""
        return self.reader.read.format(w=self.name, i=self._place(index))

    def place_at(self, index: str) -> str:
        """C expression of its `Reader.place`; empty where weights are not stored as powers of two."""
        return self.reader.place.format(w=self.name, i=self._place(index))

    @property
    def singly(self) -> str:
        """Before the loop that reads them: a macro, where the kernel ``code`` unpacks them."""
        packed = any(f"nq_{kernel}(" in self.reader.read for kernel in ("code", "int", "log2", "apot4"))
        return SINGLY if packed else ""

    @property
    def start(self) -> str:
        """A declaration: reading in order begins."""
        return f"const NQ_FLASH {self.reader.element} *w = {self.name};" if self.reader.plain else "uint32_t w = 0;"

    @property
    def next(self) -> str:
        """C expression of the next weight in order."""
        return "*w++" if self.reader.plain else self.reader.read.format(w=self.name, i="w++")

    def times_next(self, x: str) -> str:
        """C expression, uint32, of the integer ``x`` times the next weight in order."""
        return self.reader.product.format(x=x, weight=self.next, w=self.name, i="w++")

    def times_at(self, x: str, index: str) -> str:
        """C expression, uint32, of the integer ``x`` times one weight."""
        return self.reader.product.format(x=x, weight=self.at(index), w=self.name, i=self._place(index))

    def _place(self, index: str) -> str:
        """C expression of a place; kernels take it without a sign."""
        if self.count == 1 or "{w}, {i}" not in self.reader.read:
            return index if self.count > 1 else "0"
        return f"(uint32_t){index}" if index.isidentifier() or index.startswith("(") else f"(uint32_t)({index})"
