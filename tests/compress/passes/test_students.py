from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nimbleq.compress.passes import PASSES
from nimbleq.compress.passes.context import Context
from nimbleq.compress.passes.distill import distill, distill_all
from nimbleq.compress.passes.fit import fit_all
from nimbleq.compress.passes.labelled import teacher_states
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.passes.students import choose
from nimbleq.compress.states import compare_graphs
from nimbleq.compress.students.mlp import mlp_student
from nimbleq.errors import ConfigError
from nimbleq.graph import ops
from nimbleq.graph.graph import Node

CONFIG = DistillConfig(rounds=2, updates=200, last_updates=300, episodes=6, states=600)


def students(teacher, known, widths):
    return [mlp_student(teacher.obs_type, hidden, 2, known.obs, np.random.default_rng(0)) for hidden in widths]


def test_students_learn_together_from_the_states_of_all(balance, balance_teacher):
    known = teacher_states(balance_teacher, balance, CONFIG, 0)
    fresh = students(balance_teacher, known, ((), (4,), (8, 8)))
    made = distill_all(balance_teacher, fresh, balance, known, CONFIG, 0)
    assert [each.graph.weights["w0"].shape for each in made] == [(2, 4), (4, 4), (8, 4)]
    assert len(made[0].snapshots) == 2
    visited = made[0].visited
    assert all(each.visited is visited for each in made)
    assert len(visited.obs) <= 2 * CONFIG.states
    for before, each in zip(fresh, made, strict=True):
        old, new = (compare_graphs(balance_teacher, graph, visited.states) for graph in (before, each.graph))
        assert new.regret < 0.5 * old.regret


def test_one_student_is_taught_as_by_itself(balance, balance_teacher):
    known = teacher_states(balance_teacher, balance, CONFIG, 0)
    (fresh,) = students(balance_teacher, known, ((4,),))
    alone = distill(balance_teacher, fresh, balance, known, CONFIG, 0).graph
    (together,) = distill_all(balance_teacher, [fresh], balance, known, CONFIG, 0)
    for name, weight in alone.weights.items():
        np.testing.assert_array_equal(weight, together.graph.weights[name])


def test_progress_says_why_torch_trains(balance, balance_teacher):
    known = teacher_states(balance_teacher, balance, CONFIG, 0)
    (fresh,) = students(balance_teacher, known, ((4,),))
    nodes = tuple(
        Node(ops.Activation("leaky_relu", slope=0.1), node.inputs, node.output)
        if isinstance(node.op, ops.Activation)
        else node
        for node in fresh.nodes
    )
    short = replace(CONFIG, rounds=1, last_updates=2)
    for student, wanted in (
        (fresh, "distilling"),
        (replace(fresh, nodes=nodes), "distilling in PyTorch: it has the activation leaky_relu"),
    ):
        notes = []
        distill(balance_teacher, student, balance, known, short, 0, lambda *seen, to=notes: to.append(seen[2]))
        assert set(notes) == {wanted}


def test_ctrl_c_stops_all_of_them(balance, balance_teacher):
    known = teacher_states(balance_teacher, balance, CONFIG, 0)
    fresh = students(balance_teacher, known, ((64, 64), (64, 64), (64, 64)))
    ticks = []

    def tick(done: float, total: float, note: str = "") -> None:
        ticks.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_all(fresh, [known], CONFIG, 10_000_000, 1e-3, 0, tick)
    assert len(ticks) == 1


def test_the_smallest_with_nearly_the_least_regret_is_taken():
    assert choose([0.3, 0.14, 0.1], [10, 20, 30], 1.5) == 1
    assert choose([0.3, 0.14, 0.1], [10, 20, 30], 1.0) == 2
    assert choose([0.3, 0.14, 0.1], [10, 20, 30], 9.0) == 0
    assert choose([0.12, 0.1, 0.1], [20, 20, 20], 1.5) == 1
    assert choose([0.0, 0.0], [20, 10], 1.5) == 1


def test_the_pass(balance, balance_teacher):
    make = PASSES["students"].make
    made = make("2,8,8:1.2")(balance_teacher, Context(balance_teacher, balance, CONFIG))
    assert made.weights["w0"].shape[0] in (2, 8)
    assert str(make("linear,8,16-16")) == "one of students linear, 8, 16-16"
    for wrong in ("", "8,", "8:0.5", "8:x", "8:inf", "8:nan", "0"):
        with pytest.raises(ConfigError, match=r"widths"):
            make(wrong)
