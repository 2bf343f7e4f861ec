"""How arguments on the command line become values."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

_MOST_DIGITS = 30


def whole_number(text: str) -> int:
    """An integer in any common spelling: ``100000``, ``100_000``, ``1e5``.

    Raises:
        ValueError: it is not an integer.
    """
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a whole number") from None
    if not number.is_finite() or number.adjusted() > _MOST_DIGITS or number != int(number):
        raise ValueError(f"{text!r} is not a whole number")
    return int(number)


@cache
def registry() -> ConstructorRegistry:
    """The constructors of our types, for tyro."""
    made = ConstructorRegistry()

    @made.primitive_rule
    def whole(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        if info.type is not int:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="INT",
            instance_from_str=lambda words: whole_number(words[0]),
            is_instance=lambda value: isinstance(value, int) and not isinstance(value, bool),
            str_from_instance=lambda value: [str(value)],
        )

    return made
