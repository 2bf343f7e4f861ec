"""The table of passes, and recipes made of them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

from nimbleq.compress.passes import PASSES
from nimbleq.compress.passes.base import PassRow, without_setting
from nimbleq.compress.passes.context import Context
from nimbleq.compress.passes.fold import Fold
from nimbleq.compress.passes.prune import Prune
from nimbleq.compress.passes.quantize import Quantize
from nimbleq.compress.passes.recipe import apply, describe, parse_recipe
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.passes.student import Student
from nimbleq.compress.search.config import CompressConfig
from nimbleq.compress.search.search import compress_policy
from nimbleq.compress.states import actions
from nimbleq.errors import ConfigError, GraphError
from nimbleq.graph.graph import Graph

FAST = DistillConfig(rounds=1, updates=20, last_updates=20, episodes=2, states=100)


@dataclass(frozen=True)
class Halve:
    """A toy pass: all weights of the last layer times 0.5, which changes no action."""

    def __call__(self, graph: Graph, context: Context) -> Graph:
        last = graph.nodes[-2].op
        return graph.with_weights({n: graph.weights[n] * np.float32(0.5) for n in last.weight_names()})

    def __str__(self) -> str:
        return "halve"


BEFORE = {"direct": ("student=linear", "fold")}
"""Pass → those that have to come before it."""
TOY = PassRow(without_setting(Halve()), "halve the action values")


@pytest.mark.parametrize("name", [*PASSES, "toy"])
def test_every_pass_makes_a_policy_for_the_same_environment(name, balance, balance_teacher, monkeypatch):
    monkeypatch.setitem(PASSES, "toy", TOY)
    row = PASSES[name]
    word = f"{name}={row.example}" if row.example else name
    assert row.purpose
    words = [*BEFORE.get(name, ()), word]
    *_, step = recipe = parse_recipe(words)
    assert hash(recipe) == hash(parse_recipe(words)), "equal recipes share what they made"
    assert parse_recipe(words) == recipe
    context = Context(balance_teacher, balance, FAST)
    made = apply(recipe, context)
    states = context.visited(made)
    assert made.obs_type == balance_teacher.obs_type
    assert set(actions(made, states).tolist()) <= {0, 1}
    assert apply(recipe, context) is made
    assert describe(recipe).endswith(str(step))
    assert str(step)


@pytest.mark.parametrize("name", [name for name, row in PASSES.items() if not row.example])
def test_a_pass_without_a_setting_refuses_one(name):
    with pytest.raises(ConfigError, match="takes no setting"):
        parse_recipe([f"{name}=3"])


@pytest.mark.parametrize("word", ["prune", "prune=0", "prune=1.5", "prune=nan", "student=0", "student=", "student=a-b"])
def test_a_setting_that_cannot_be_is_refused(word):
    with pytest.raises(ConfigError, match=word.partition("=")[2] or "''"):
        parse_recipe([word])


def test_a_pass_that_is_not_there_is_one_line_with_those_that_are():
    with pytest.raises(ConfigError, match=r"no pass 'prun'; choose from .*prune=0.5"):
        parse_recipe(["prun=0.5"])


def test_recipes_are_read_in_order():
    assert parse_recipe(["fold", "prune=0.25", "student=8-4", "student=linear", "int8"]) == (
        Fold(), Prune(0.25), Student((8, 4)), Student((), "linear"), Quantize(),
    )  # fmt: skip


def test_a_toy_pass_runs_in_a_search(balance, balance_teacher, monkeypatch):
    monkeypatch.setitem(PASSES, "toy", TOY)
    config = CompressConfig(recipe=parse_recipe(["fold", "toy"]), distill=FAST, select_episodes=40, keep=0.5)
    made = compress_policy(balance_teacher, balance, config)
    assert [c.recipe for c in made.candidates] == ["fold → halve"]
    assert made.candidates[0].agreement == 1.0


@dataclass(frozen=True)
class Narrow:
    """A broken pass: it gives a policy for another environment."""

    other: Graph

    def __call__(self, graph: Graph, context: Context) -> Graph:
        return self.other

    __hash__ = object.__hash__

    def __str__(self) -> str:
        return "narrow"


@pytest.mark.parametrize(("inputs", "count", "fault"), [(5, 2, "reads"), (4, 3, "output 'q'")])
def test_the_graph_is_checked_after_every_pass(mlp, balance, balance_teacher, inputs, count, fault):
    other, _ = mlp(0, inputs, (4,), count)
    with pytest.raises(GraphError, match=f"the pass narrow changed .*{fault}"):
        apply((Fold(), Narrow(other)), Context(balance_teacher, balance, FAST))


def test_the_table_of_passes_needs_no_torch():
    program = "import sys, nimbleq.compress.passes.recipe\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
