from collections.abc import Callable
from typing import Any

from nimbleq.types import Array

def isas() -> tuple[str, ...]: ...

class Decider:
    def __init__(
        self,
        policy: tuple[str | bytes, str],
        shape: tuple[int, ...],
        uint8: bool,
        actions: int,
        masked: bool,
        error: type[Exception],
        fallback: int,
        read: Callable[[Any], Array],
        read_mask: Callable[[Any], Array],
    ) -> None: ...
    @property
    def refused(self) -> int: ...
    def act(self, obs: Any, /, mask: Any = None) -> int: ...
    def q(self, obs: Any, /) -> Array: ...
    def run(self, obs: Array, mask: Array | None = None) -> tuple[Array, Array]: ...
    def time_act(self, obs: Array, calls: int, mask: Array | None = None, /) -> Array: ...
    def time_empty(self, calls: int, /) -> Array: ...
