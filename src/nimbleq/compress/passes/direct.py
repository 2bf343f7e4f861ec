"""Direct search: the integers of a linear policy, found by playing it."""

from __future__ import annotations

from dataclasses import dataclass

from nimbleq.compress.passes.base import PassRow
from nimbleq.compress.passes.context import Context
from nimbleq.compress.refine.codes import Widths
from nimbleq.compress.refine.direct import direct_search
from nimbleq.compress.refine.linear import graph_of, weights_of
from nimbleq.compress.states import q_values
from nimbleq.errors import ConfigError
from nimbleq.graph.graph import Graph
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.seeds import episode_seeds

_EPISODES = 128
_ABOVE = 0.2
"""Standard deviations of the teacher's return above its mean that are enough: a policy that returns more is certified
after fewer episodes, which play slower than those of the search."""


@dataclass(frozen=True)
class Layout:
    """What a number of bits stands for.

    Attributes:
        widths: of weights and biases.
        levels: of an observation, for one deviation.
    """

    widths: Widths
    levels: float


LAYOUTS = {
    6: Layout(Widths(6, 8, 5), 32.0),
    5: Layout(Widths(5, 8, 4), 16.0),
    4: Layout(Widths(4, 6, 4), 16.0),
    3: Layout(Widths(3, 6, 2), 16.0),
    2: Layout(Widths(2, 6, 2), 16.0),
}
"""Bits of a weight → what goes with them."""


@dataclass(frozen=True)
class Direct:
    """The best linear policy of weights with ``bits`` bits that direct search finds from the one given."""

    bits: int

    def __call__(self, graph: Graph, context: Context) -> Graph:
        weight, bias = weights_of(graph)
        layout = LAYOUTS[self.bits]
        seeds = episode_seeds("distill", context.seed, _EPISODES, start=1_500_000)
        teacher = context.evaluate(GraphPolicy(context.teacher), seeds.tolist()).returns
        aim = min(float(teacher.mean() + _ABOVE * teacher.std(ddof=1)), float(teacher.max()))
        states = context.visited(graph)
        q = q_values(context.teacher, states.obs)
        codes = direct_search(
            weight, bias, states, q, context.evaluate, layout.widths, layout.levels, aim, context.direct,
            context.seed, context.tick,
        )  # fmt: skip
        return graph_of(codes, graph.obs_type, layout.widths)

    def __str__(self) -> str:
        return f"direct search of {self.bits}-bit weights"


def _parse(setting: str) -> Direct:
    if setting not in map(str, LAYOUTS):
        raise ConfigError(f"direct takes the bits of a weight, {', '.join(map(str, LAYOUTS))}, not {setting!r}")
    return Direct(int(setting))


ROW = PassRow(_parse, "search the integers of a linear policy directly, by regret and then by return", "4")
