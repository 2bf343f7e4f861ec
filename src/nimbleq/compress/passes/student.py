"""A fresh student network, to be taught by distillation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.compress.passes.base import PassRow
from nimbleq.compress.passes.context import Context
from nimbleq.compress.students.mlp import mlp_student
from nimbleq.errors import ConfigError
from nimbleq.graph.graph import Graph


@dataclass(frozen=True)
class Student:
    """Start afresh with an MLP of these widths (none: a linear policy)."""

    hidden: tuple[int, ...]

    def __call__(self, graph: Graph, context: Context) -> Graph:
        rng = np.random.default_rng([context.seed, *self.hidden])
        return mlp_student(graph.obs_type, self.hidden, graph.actions, context.from_teacher().obs, rng)

    def __str__(self) -> str:
        return f"student {'-'.join(map(str, self.hidden))}" if self.hidden else "linear student"


def parse_widths(text: str) -> tuple[int, ...]:
    """Widths as people write them: ``16-16``, or ``linear`` for none.

    Raises:
        ConfigError: they are none, or not positive.
    """
    words = [] if text == "linear" else text.split("-")
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise ConfigError(f"{text!r} are no widths of layers: give e.g. 16-16, or linear for none")
    return tuple(int(word) for word in words)


ROW = PassRow(lambda setting: Student(parse_widths(setting)), "start afresh with a network of these widths", "16-16")
