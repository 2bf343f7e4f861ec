"""Hints: before it is distilled, a student's lower layers learn what the teacher's have found (FitNets [1412.6550]).

A hidden layer of the teacher (the *hint*) is predicted from one of the student (the *guided* one) by a regressor that
is learnt with it and dropped afterwards: equation 3 there, ``‖hint − r(guided)‖²``. Only layers up to the guided one
move; distillation then trains them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from nimbleq.compress.passes.base import PassRow
from nimbleq.compress.passes.context import Context
from nimbleq.errors import ConfigError
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph

_MIDDLE = 0.5


@dataclass(frozen=True)
class Hint:
    """Train the lower layers towards features of the teacher, on the states that it visits.

    Attributes:
        depth: of both layers, as a share of the hidden layers of their networks, above 0 and at most 1.
    """

    depth: float = _MIDDLE

    def __call__(self, graph: Graph, context: Context) -> Graph:
        guided, hint = hidden_layer(graph, self.depth), hidden_layer(context.teacher, self.depth)
        if guided is None or hint is None:
            return graph  # without hidden layers there is nothing to guide
        from nimbleq.compress.passes.hint_torch import hint_fit

        return hint_fit(graph, context.teacher, guided, hint, context)

    def __str__(self) -> str:
        return "hint" if self.depth == _MIDDLE else f"hint={self.depth:g}"


def hidden_layer(graph: Graph, depth: float) -> str | None:
    """The tensor behind the activation of a hidden layer at this share of all; None where there is no activation."""
    made = [node.output for node in graph.nodes if isinstance(node.op, ops.Activation | ops.Tanh)]
    return made[ceil(depth * len(made)) - 1] if made else None


def _parse(setting: str) -> Hint:
    """A number above 0 and at most 1."""
    try:
        depth = float(setting) if setting else _MIDDLE
    except ValueError:
        depth = 0.0
    if not 0 < depth <= 1:
        raise ConfigError(f"hint takes how deep its layers lie, above 0 and at most 1, not {setting!r}")
    return Hint(depth)


ROW = PassRow(_parse, "teach the lower layers the teacher's features, before distillation", "0.5")
