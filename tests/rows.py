"""The rows of a table as the parameters of a test."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pytest


def rows(table: Mapping[str, Any], long: Collection[str] = ()) -> list[Any]:
    """A parameter of each row, called by its name; those named in ``long`` are left to `make test-long`."""
    assert set(long) <= set(table), "no such row"
    return [
        pytest.param(*(row if isinstance(row, tuple) else (row,)), id=name, marks=[pytest.mark.long] * (name in long))
        for name, row in table.items()
    ]
