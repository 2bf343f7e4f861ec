"""An object whose pickle runs something."""

from __future__ import annotations

from typing import Any


class Bomb:
    """Its pickle calls a function when it is loaded."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.called = function, arguments

    def __reduce__(self) -> Any:
        return self.called
