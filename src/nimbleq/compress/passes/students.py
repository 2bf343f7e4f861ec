"""Students of several widths, taught at once; regret says which is taken."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite

from nimbleq.compress.passes.base import PassRow
from nimbleq.compress.passes.context import Context
from nimbleq.compress.passes.distill import distill_all
from nimbleq.compress.passes.student import parse_widths, student_of
from nimbleq.compress.states import actions, compare
from nimbleq.errors import ConfigError
from nimbleq.graph.cost import cost
from nimbleq.graph.graph import Graph

_WITHIN = 1.5


@dataclass(frozen=True)
class Students:
    """Teach fresh networks of these widths on the same states; keep the smallest whose regret there is at most
    ``within`` times the least.

    Attributes:
        widths: of each student; the same again is another start.
        within: 1: the best, whatever its size.
    """

    widths: tuple[tuple[int, ...], ...]
    within: float = _WITHIN

    def __call__(self, graph: Graph, context: Context) -> Graph:
        fresh = [student_of(hidden).start(graph, context, index) for index, hidden in enumerate(self.widths)]
        made = distill_all(
            context.teacher, fresh, context.evaluate, context.from_teacher(), context.distill, context.seed,
            context.tick,
        )  # fmt: skip
        visited = made[0].visited
        mask, branches = visited.states.mask, graph.branches
        regrets = [compare(visited.q, actions(each.graph, visited.states), mask, branches).regret for each in made]
        return made[choose(regrets, [cost(each.graph).size_bytes for each in made], self.within)].graph

    def __str__(self) -> str:
        texts = ("-".join(map(str, hidden)) or "linear" for hidden in self.widths)
        return f"one of students {', '.join(texts)}"


def choose(regrets: list[float], sizes: list[int], within: float) -> int:
    """Number of the smallest whose regret is at most ``within`` times the least; among equals, the least regret."""
    enough = [index for index, regret in enumerate(regrets) if regret <= within * min(regrets)]
    return min(enough, key=lambda index: (sizes[index], regrets[index]))


def _parse(setting: str) -> Students:
    """``8,16-16,24-24``; ``8,16-16:2`` with another factor."""
    texts, _, factor = setting.partition(":")
    try:
        within = float(factor) if factor else _WITHIN
    except ValueError:
        within = inf
    if not (within >= 1 and isfinite(within)):
        raise ConfigError(f"students takes widths and perhaps :FACTOR, at least 1, not {setting!r}")
    return Students(tuple(parse_widths(text) for text in texts.split(",")), within)


ROW = PassRow(_parse, "teach several widths at once, keep the smallest with nearly the least regret", "8,16-16")
