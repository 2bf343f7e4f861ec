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
        unit: of what is measured.
        of: measures a policy.
    """

    name: str
    unit: str
    of: Callable[[Graph], float]


@dataclass(frozen=True)
class Limits:
    """Attributes:
    bytes: of everything that a deployment needs of the model (None: any).
    macs: multiply-accumulates of a decision (None: any).
    cost: in the unit of the measure that the search is given (None: any).
    """

    bytes: int | None = None
    macs: int | None = None
    cost: float | None = None

    def exceeded(self, graph: Graph, measure: Measure | None = None) -> str:
        """Which limit ``graph`` exceeds, in words; empty where none."""
        spent = cost(graph)
        rows: list[tuple[float, float | None, str]] = [
            (spent.size_bytes, self.bytes, "bytes"),
            (spent.macs, self.macs, "multiply-accumulates"),
        ]
        if self.cost is not None and measure is not None:
            rows.append((measure.of(graph), self.cost, f"{measure.unit} on {measure.name}"))
        return next((f"{has:,.4g} {what}, the limit is {most:,.4g}" for has, most, what in rows
                     if most is not None and has > most), "")  # fmt: skip


def check_limits(limits: Limits) -> None:
    """Raise `ConfigError` for a limit that nothing can keep; names the option."""
    for name, value in (("bytes", limits.bytes), ("macs", limits.macs), ("cost", limits.cost)):
        if value is not None and not 0 < value < inf:
            raise ConfigError(f"--max-{name} must be positive, not {value}")
