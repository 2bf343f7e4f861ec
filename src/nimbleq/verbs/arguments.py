"""How arguments on the command line become values."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from nimbleq.config import EngineName, HeadName, TableName, TorsoName, VectorName

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

    @made.primitive_rule
    def named(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        if not (isinstance(info.type, type) and issubclass(info.type, TableName)):
            return None
        names = choices(info.type)
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar=f"{{{','.join(names)}}}",
            instance_from_str=lambda words: words[0],
            is_instance=lambda value: isinstance(value, str),
            str_from_instance=lambda value: [str(value)],
            choices=names,
        )

    return made


def choices(kind: type[TableName]) -> tuple[str, ...]:
    """The names that the table of ``kind`` has."""
    from nimbleq.rl.envs import vectors
    from nimbleq.rl.learners import engines
    from nimbleq.rl.nets.heads import table as heads
    from nimbleq.rl.nets.torsos import table as torsos

    tables: dict[type[TableName], Callable[[], tuple[str, ...]]] = {
        EngineName: engines.choices,
        HeadName: heads.choices,
        TorsoName: torsos.choices,
        VectorName: vectors.choices,
    }
    return tables[kind]()
