"""What a policy may cost: bytes, multiply-accumulates, and what a target measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from nimbleq.errors import ConfigError
from nimbleq.graph.cost import cost
from nimbleq.graph.graph import Graph


@dataclass(frozen=True)
class Measure:
    """The cost of a policy on a target.

    Attributes:
        name: of the target.
        of: measures a policy: how much, and in which unit.
        memory: bytes of flash, and of RAM and stack; None where the target has none of its own.
    """

    name: str
    of: Callable[[Graph], tuple[float, str]]
    memory: Callable[[Graph], tuple[int, int]] | None = None


@dataclass(frozen=True)
class Limits:
    """Attributes:
    bytes: of everything that a deployment needs of the model (None: any).
    macs: multiply-accumulates of a decision (None: any).
    cost: in the unit of the measure that the search is given (None: any).
    flash: bytes of code, constants and starting values on the measure's target (None: any).
    ram: bytes of static RAM and stack there (None: any).
    """

    bytes: int | None = None
    macs: int | None = None
    cost: float | None = None
    flash: int | None = None
    ram: int | None = None

    @property
    def of_memory(self) -> bool:
        """Whether flash or RAM of the target is bounded."""
        return self.flash is not None or self.ram is not None

    def exceeded(self, graph: Graph, measure: Measure | None = None) -> str:
        """Which limit ``graph`` exceeds, in words; empty where none."""
        spent = cost(graph)
        said = _above(spent.size_bytes, self.bytes, "bytes") or _above(spent.macs, self.macs, "multiply-accumulates")
        if said or measure is None:  # what follows takes a compiler: only for what is small enough
            return said
        if measure.memory is not None and self.of_memory:
            flash, ram = measure.memory(graph)
            said = _above(flash, self.flash, f"bytes of flash on {measure.name}") or _above(
                ram, self.ram, f"bytes of RAM and stack on {measure.name}"
            )
        if said or self.cost is None:
            return said
        amount, unit = measure.of(graph)
        return _above(amount, self.cost, f"{unit} on {measure.name}")


def _above(has: float, most: float | None, what: str) -> str:
    return "" if most is None or has <= most else f"{has:,.4g} {what}, the limit is {most:,.4g}"


def check_limits(limits: Limits) -> None:
    """Raise `ConfigError` for a limit that nothing can keep; names the option."""
    for name, value in vars(limits).items():
        if value is not None and not 0 < value < inf:
            raise ConfigError(f"--max-{name} must be positive, not {value}")
