"""Hints: lower layers learn the teacher's features; the regressor goes, the layers above stay as they were."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nimbleq.compress.passes import PASSES
from nimbleq.compress.passes.context import Context
from nimbleq.compress.passes.hint import Hint, hidden_layer
from nimbleq.compress.passes.hint_torch import Regressor
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.passes.student import Student, student_of
from nimbleq.errors import ConfigError
from nimbleq.graph.interpret import trace
from nimbleq.types import Episodes

CONFIG = DistillConfig(updates=300, batch_size=64, episodes=4, states=400)


def unexplained(graph, guided, obs, hint):
    """Share of the variance of ``hint`` that no linear map of ``guided`` explains, by least squares."""
    rows = trace(graph, obs)[guided].reshape(len(obs), -1).astype(np.float64)
    rows = np.hstack([rows, np.ones((len(rows), 1))])
    fitted = rows @ np.linalg.lstsq(rows, hint, rcond=None)[0]
    return float(((hint - fitted) ** 2).sum() / ((hint - hint.mean(axis=0)) ** 2).sum())


def test_the_guided_layer_predicts_the_hint_and_nothing_above_moves(balance, balance_teacher):
    context = Context(balance_teacher, balance, CONFIG)
    fresh = student_of((3, 3))(balance_teacher, context)
    made = Hint()(fresh, context)
    changed = {name for name in fresh.weights if not np.array_equal(fresh.weights[name], made.weights[name])}
    assert changed == {"w0", "b0"}, "the first of two hidden layers lies in the middle"
    obs = context.from_teacher().obs
    guided, hint = (hidden_layer(graph, 0.5) for graph in (made, balance_teacher))
    features = trace(balance_teacher, obs)[hint].reshape(len(obs), -1).astype(np.float64)
    before, after = (unexplained(graph, guided, obs, features) for graph in (fresh, made))
    assert after < 0.7 * before


class Pictures:
    """Random pictures in place of an environment."""

    def __call__(self, policy, seeds, *, epsilon=0.0, keep_obs=0):
        rng = np.random.default_rng(0)
        obs = rng.integers(0, 256, (min(keep_obs, 200), 3, 10, 10)).astype(np.uint8)
        return Episodes(np.asarray(seeds), np.zeros(len(seeds)), np.ones(len(seeds), np.int64), obs)


def test_convolutions_take_hints_too(cnn):
    teacher = cnn(0)[0]
    context = Context(teacher, Pictures(), DistillConfig(updates=40, batch_size=32, episodes=2, states=100))
    fresh = Student((4, 8, 8), "mobilenet")(teacher, context)
    made = Hint()(fresh, context)
    changed = {name for name in fresh.weights if not np.array_equal(fresh.weights[name], made.weights[name])}
    assert changed
    assert not changed & {"head", "head.bias"}
    assert made.types == fresh.types


@pytest.mark.parametrize(
    ("guided", "hint", "said"),
    [
        ((4, 10, 10), (6, 8, 8), (6, 8, 8)),  # a 3×3 kernel
        ((4, 5, 5), (6, 10, 10), (6, 5, 5)),  # the hint is pooled
        ((4, 5, 5), (12,), (12,)),
        ((7,), (2, 3, 3), (18,)),
    ],
)
def test_the_regressor_gives_what_is_asked_of_it(guided, hint, said):
    made = Regressor(torch.Size(guided), torch.Size(hint))
    assert made(torch.zeros(2, *guided)).shape == made.target(torch.zeros(2, *hint)).shape == (2, *said)


def test_a_linear_student_has_nothing_to_guide(balance, balance_teacher):
    context = Context(balance_teacher, balance, CONFIG)
    fresh = student_of(())(balance_teacher, context)
    assert Hint()(fresh, context) is fresh


def test_its_setting():
    assert PASSES["hint"].make("") == Hint(0.5)
    assert str(PASSES["hint"].make("1")) == "hint=1"
    with pytest.raises(ConfigError, match="above 0 and at most 1, not '2'"):
        PASSES["hint"].make("2")
