"""Tables whose rows are imported when they are first read, so that their names cost no import."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Generic, TypeVar

Row = TypeVar("Row")


class Table(MutableMapping[str, Row], Generic[Row]):
    """Name → row, in the order given.

    Args:
        places: name → ``module:NAME`` of the value that is the row.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = dict(places)
        self._rows: dict[str, Row] = {}

    def __getitem__(self, name: str) -> Row:
        if name not in self._rows:
            module, _, value = self._places[name].partition(":")
            self._rows[name] = getattr(import_module(module), value)
        return self._rows[name]

    def __setitem__(self, name: str, row: Row) -> None:
        self._places.setdefault(name, "")
        self._rows[name] = row

    def __delitem__(self, name: str) -> None:
        del self._places[name]
        self._rows.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
