"""The table of students."""

from __future__ import annotations

import numpy as np
import pytest

from nimbleq.compress.passes.context import Context
from nimbleq.compress.passes.distill import Distill
from nimbleq.compress.passes.fold import Fold
from nimbleq.compress.passes.recipe import apply, parse_recipe
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.passes.student import Student, student_of
from nimbleq.compress.states import q_values
from nimbleq.compress.students import STUDENTS
from nimbleq.compress.students.base import StudentRow
from nimbleq.compress.students.mlp import mlp_student
from nimbleq.errors import ConfigError

FAST = DistillConfig(rounds=1, updates=60, last_updates=60, episodes=2, states=100)


def funnel(obs_type, hidden, actions, obs, rng):
    """A toy kind: an MLP whose second layer has half the width of its first."""
    (width,) = hidden
    return mlp_student(obs_type, (width, width // 2), actions, obs, rng)


@pytest.mark.parametrize("kind", [*(kind for kind, row in STUDENTS.items() if not row.image), "funnel"])
def test_every_student_can_be_taught(kind, balance, balance_teacher, monkeypatch):
    monkeypatch.setitem(STUDENTS, "funnel", StudentRow(funnel, "half as wide in the second layer", (8,)))
    row = STUDENTS[kind]
    assert row.purpose
    start = Student(row.example, kind)
    context = Context(balance_teacher, balance, FAST)
    fresh = apply((start,), context)
    assert (fresh.obs_type, fresh.actions) == (balance_teacher.obs_type, balance_teacher.actions)
    taught = apply((start, Distill(), Fold()), context)
    states = context.from_teacher()

    def error(graph):
        """Of the advantages, up to their scale: 1 − correlation."""
        own, wanted = (q - q.mean(axis=1, keepdims=True) for q in (q_values(graph, states.obs), states.q))
        return 1 - np.corrcoef(own.ravel(), wanted.ravel())[0, 1]

    assert error(taught) < min(0.3, error(fresh))
    words = f"student={kind}:{'-'.join(map(str, row.example))}" if row.example else f"student={kind}"
    assert parse_recipe([words]) == (start,)


def test_linear_is_an_mlp_without_hidden_layers(balance, balance_teacher):
    context = Context(balance_teacher, balance, FAST)
    linear, mlp = apply((student_of(()),), context), apply((Student(()),), context)
    assert str(student_of(())) == "linear student"
    assert str(student_of((16, 8))) == "student 16-8"
    assert len(linear.nodes) == 3
    for name, weight in mlp.weights.items():
        assert np.array_equal(linear.weights[name], weight)


def test_a_linear_student_has_no_widths(balance, balance_teacher):
    with pytest.raises(ConfigError, match="no hidden layers, not 8-8"):
        apply((Student((8, 8), "linear"),), Context(balance_teacher, balance, FAST))


def test_an_unknown_student_is_one_line():
    with pytest.raises(ConfigError, match="no student 'oak'; choose from mlp, linear, tree"):
        parse_recipe(["student=oak:3"])
