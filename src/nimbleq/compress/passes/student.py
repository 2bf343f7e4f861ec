"""A fresh student network, to be taught by distillation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.compress.passes.base import PassRow
from nimbleq.compress.passes.context import Context
from nimbleq.compress.passes.fit_tree import tree_of
from nimbleq.compress.students import STUDENTS
from nimbleq.errors import ConfigError
from nimbleq.graph.graph import Graph
from nimbleq.graph.rewrites.branches import with_branches


@dataclass(frozen=True)
class Student:
    """Start afresh with a network of these widths.

    Attributes:
        hidden: widths of the hidden layers.
        kind: a name in `STUDENTS`.
    """

    hidden: tuple[int, ...]
    kind: str = "mlp"

    def __call__(self, graph: Graph, context: Context) -> Graph:
        return self.start(graph, context)

    def start(self, graph: Graph, context: Context, number: int = 0) -> Graph:
        """A fresh one; others by their ``number``."""
        rng = np.random.default_rng([context.seed, *self.hidden, *([number] if number else [])])
        made = STUDENTS[self.kind].make(graph.obs_type, self.hidden, graph.actions, context.from_teacher().obs, rng)
        if graph.branches and tree_of(made) is not None:
            raise ConfigError(f"a {self.kind} makes a single choice, the policy one in each of {len(graph.branches)}")
        return with_branches(made, graph.branches)

    def __str__(self) -> str:
        kind = "" if self.kind == "mlp" and self.hidden else f"{self.kind} "
        return f"{kind}student {'-'.join(map(str, self.hidden))}".rstrip()


def student_of(hidden: tuple[int, ...]) -> Student:
    """An MLP; without hidden layers, a linear student."""
    return Student(hidden) if hidden else Student((), "linear")


def parse_widths(text: str) -> tuple[int, ...]:
    """Widths as people write them: ``16-16``, or ``linear`` for none.

    Raises:
        ConfigError: they are none, or not positive.
    """
    words = [] if text == "linear" else text.split("-")
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise ConfigError(f"{text!r} are no widths of layers: give e.g. 16-16, or linear for none")
    return tuple(int(word) for word in words)


def _parse(setting: str) -> Student:
    """``16-16``; ``KIND:16-16``; ``KIND`` alone, for one without widths."""
    if setting in STUDENTS:
        return Student((), setting)
    kind, _, widths = setting.rpartition(":")
    if kind and kind not in STUDENTS:
        raise ConfigError(f"there is no student {kind!r}; choose from {', '.join(STUDENTS)}")
    return Student(parse_widths(widths), kind or "mlp")


ROW = PassRow(_parse, "start afresh with a network of these widths", "16-16")
