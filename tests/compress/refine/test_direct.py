"""Direct search: what is searched is what ships, and it finds policies that play well."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbleq.compress.passes.context import Context
from nimbleq.compress.passes.direct import LAYOUTS, Direct
from nimbleq.compress.passes.recipe import apply, parse_recipe
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.refine.codes import Codes, Rounding, Widths, exponents, neighbours, without_one
from nimbleq.compress.refine.config import DirectConfig, check_direct
from nimbleq.compress.refine.direct import Regret, _sparser, direct_search
from nimbleq.compress.refine.linear import graph_of, is_linear, weights_of
from nimbleq.compress.refine.race import Returns
from nimbleq.compress.refine.team import returns_of, team_of
from nimbleq.compress.states import States, compare, q_values, visit
from nimbleq.config import EnvConfig
from nimbleq.deploy.runtime import Runtime
from nimbleq.deploy.targets.c.isa import PORTABLE
from nimbleq.deploy.targets.c.plan import plan
from nimbleq.errors import ConfigError
from nimbleq.graph.artefact import load_artefact, save_artefact
from nimbleq.graph.cost import cost
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.graph.tensor import TensorType
from nimbleq.rl.training.evaluate import Evaluator
from nimbleq.seeds import episode_seeds

FAST = DirectConfig(generations=3, episodes=6, population=8, regret_generations=10, rounds=0, zeros=0)


def drawn(seed: int, actions: int = 4, features: int = 8, bits: int = 6) -> tuple[Codes, Widths]:
    widths = LAYOUTS[bits].widths
    rng = np.random.default_rng(seed)
    rounding = Rounding(actions, int(rng.integers(actions)), rng.integers(-3, 12, features), 16.0, widths)
    return rounding(rng.standard_normal((actions - 1) * (features + 1))), widths


@pytest.mark.parametrize("bits", LAYOUTS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_graph_does_what_was_searched(bits: int, seed: int) -> None:
    codes, widths = drawn(seed, bits=bits)
    graph = graph_of(codes, TensorType((8,)), widths)
    rng = np.random.default_rng(seed)
    obs = (rng.standard_normal((200, 8)) * rng.choice([1e-3, 1, 100])).astype(np.float32)
    obs[:50] = np.ldexp(np.rint(obs[:50] * 8) + 0.5, -codes.exponent).astype(np.float32)  # halves: they round up
    expected = codes(obs)
    assert np.array_equal(GraphPolicy(graph)(obs), expected)
    mask = rng.random((200, 4)) < 0.5
    mask[:, 0] |= ~mask.any(axis=1)
    assert np.array_equal(GraphPolicy(graph)(obs, mask), codes(obs, mask))


def test_the_emitted_c_does_what_was_searched() -> None:
    for seed in range(3):
        codes, widths = drawn(seed, bits=(3, 4, 6)[seed])
        runtime = Runtime(graph_of(codes, TensorType((8,)), widths))
        obs = np.random.default_rng(seed).standard_normal((2_000, 8)).astype(np.float32)
        assert runtime.status.engine == "c"
        assert [runtime.act(one) for one in obs] == codes(obs).tolist()


def test_the_bytes_that_are_counted_are_those_of_the_file(tmp_path: Path) -> None:
    codes, widths = drawn(1, bits=4)
    graph = graph_of(codes, TensorType((8,)), widths)
    # 4 × 8 weights of 4 bits (or fewer with their places), 4 biases of 6 bits, 8 exponents of 4 bits; nothing else.
    size = cost(graph).size_bytes
    assert size <= 16 + 3 + 4
    stored = [graph.stored(name) for name in graph.weights]
    assert sum(len(one.encoding.pack(one.codes, one.format)) for one in stored) == size
    assert plan(graph, PORTABLE).constant_bytes == size, "the portable C holds the same bytes"
    save_artefact(tmp_path / "small", graph, np.zeros((1, 8), np.float32), {})
    loaded = load_artefact(tmp_path / "small").graph
    assert cost(loaded).size_bytes == size
    assert all(np.array_equal(loaded.weights[name], graph.weights[name]) for name in graph.weights)


@given(seed=st.integers(0, 2**32 - 1), free=st.integers(0, 3))
def test_any_row_may_become_zero(seed: int, free: int) -> None:
    """Argmax does not change when one row is subtracted from all."""
    rng = np.random.default_rng(seed)
    weight, bias = rng.standard_normal((4, 8)), rng.standard_normal(4)
    obs = rng.standard_normal((50, 8))
    rounding = Rounding(4, free, exponents(obs, 16.0, weight), 16.0, Widths(24, 30, 0))
    vector = rounding.vector(weight, bias)
    assert np.isclose(np.abs(vector).mean(), 1)
    rows = np.insert(vector.reshape(3, 9), free, 0, axis=0)
    sums = np.ldexp(obs, rounding.exponent) / 16.0 @ rows[:, :8].T + rows[:, 8]
    assert np.array_equal(sums.argmax(axis=1), (obs @ weight.T + bias).argmax(axis=1))


def test_a_graph_gives_back_its_weights() -> None:
    codes, widths = drawn(3)
    weight, bias = weights_of(graph_of(codes, TensorType((8,)), widths))
    assert np.array_equal(weight, np.ldexp(codes.weight.astype(float), codes.exponent))
    assert np.array_equal(bias, codes.bias)


def test_what_is_not_linear_is_refused(mlp) -> None:
    graph, _ = mlp(0, 4, (8,), 2)
    assert not is_linear(graph)
    with pytest.raises(ConfigError, match="starts from a linear policy"):
        weights_of(graph)
    with pytest.raises(ConfigError, match="direct takes the bits of a weight, 6, 5, 4, 3, 2, not '9'"):
        parse_recipe(["direct=9"])


def test_neighbours_differ_by_one_level() -> None:
    codes, widths = drawn(5, bits=4)
    found = neighbours(codes, widths)
    assert len({one.key for one in found}) == len(found)
    for one in found:
        moved = np.abs(one.weight - codes.weight).sum() + np.abs(one.exponent - codes.exponent).sum()
        assert moved + (np.abs(one.bias - codes.bias).sum() >> widths.bias_shift) == 1
        graph_of(one, TensorType((8,)), widths)  # it has such codes
        assert np.array_equal(one.weight.any(axis=1), codes.weight.any(axis=1))


def test_a_team_plays_as_each_of_its_members_alone() -> None:
    """Also in worker processes, which share its episodes."""
    rows = ([0, 1, 7, 3], [0, 0, 5, 0], [1, 0, -2, -5])
    candidates = [Codes(np.array([[0] * 4, row]), np.array([0, 1]), np.array([2, 3, 5, 4])) for row in rows]
    seeds = episode_seeds("distill", 0, 5)
    with Evaluator(EnvConfig("CartPole-v1")) as evaluate:
        alone = [evaluate(codes, seeds.tolist()).returns for codes in candidates]
        assert np.array_equal(returns_of(candidates, evaluate, seeds), alone)
        assert np.unique(alone).size > 5
    with Evaluator(EnvConfig("CartPole-v1"), workers=2, envs=4) as evaluate:
        assert np.array_equal(returns_of(candidates, evaluate, seeds), alone)
    obs = np.random.default_rng(0).standard_normal((6, 4))
    mask = np.array([[True, False], [False, True]] * 3)
    episode = np.array([0, 1, 2, 3, 4, 5])
    played = team_of(candidates, 2)(obs, mask, episode=episode)
    assert np.array_equal(played, mask[:, 1].astype(int))


@given(seed=st.integers(0, 2**32 - 1))
def test_a_team_acts_in_c_as_in_numpy(seed: int) -> None:
    candidates = [drawn(seed + other)[0] for other in range(3)]
    team, rng = team_of(candidates, 2), np.random.default_rng(seed)
    obs = (rng.standard_normal((60, 8)) * rng.choice([1e-3, 1, 1e3])).astype(np.float32)
    obs[:20] = np.ldexp(np.rint(obs[:20] * 8) + 0.5, -candidates[0].exponent).astype(np.float32)
    obs[20] = 0  # ties
    episode = rng.integers(6, size=60)
    expected = team.by_numpy(obs, None, episode)
    assert np.array_equal(team(obs, episode=episode), expected)
    assert np.array_equal(expected, [candidates[who // 2](one[None])[0] for who, one in zip(episode, obs, strict=True)])
    with pytest.raises(ValueError, match="no policy plays that episode"):
        team(obs, episode=episode + 6)


def test_it_mends_a_poor_policy(balance, balance_teacher) -> None:
    """A start that hardly balances becomes one that does."""
    met = visit(GraphPolicy(balance_teacher), balance, range(8), 500, 0.1)
    q = q_values(balance_teacher, met.obs)
    weight, bias = np.array([[0, 0, 0, 0], [0.3, 0, 1, -0.2]]), np.zeros(2)
    assert balance(lambda obs: (obs @ weight.T + bias).argmax(axis=1), range(100, 150)).returns.mean() < 30
    layout, found = LAYOUTS[4], []
    for config in (FAST, FAST, DirectConfig(generations=5, episodes=8, population=8, regret_generations=10)):
        found.append(direct_search(weight, bias, met, q, balance, layout.widths, layout.levels, 59.9, config, 0))
    assert found[0].key == found[1].key, "the seed decides"
    assert balance(found[2], range(100, 150)).returns.mean() > 55


@pytest.mark.parametrize(("aim", "zeros"), [(59.9, True), (61.0, False)])
def test_who_returns_less_than_the_aim_keeps_its_weights(balance, balance_teacher, aim: float, zeros: bool) -> None:
    met = visit(GraphPolicy(balance_teacher), balance, range(8), 500, 0.1)
    q, layout = q_values(balance_teacher, met.obs), LAYOUTS[4]
    words: list[str] = []
    direct_search(
        np.array([[0, 0, 0, 0], [1.0, 1, 7, 3]]), np.zeros(2), met, q, balance, layout.widths, layout.levels, aim,
        replace(FAST, zeros=1), 0, lambda done, total, note="": words.append(note),
    )  # fmt: skip
    assert any("zero" in word for word in words) == zeros


def test_it_is_a_pass(balance, balance_teacher) -> None:
    config = DistillConfig(rounds=1, updates=50, last_updates=100, episodes=4, states=300)
    context = Context(balance_teacher, balance, config, direct=FAST)
    start = parse_recipe(["student=linear", "distill", "fold"])
    graph = apply((*start, Direct(4)), context)
    assert cost(graph).size_bytes <= 4 + 2 + 2
    assert balance(GraphPolicy(graph), range(100, 150)).returns.mean() > 59
    assert str(parse_recipe(["direct=4"])[0]) == "direct search of 4-bit weights"


def test_regret_is_that_of_comparisons(balance, balance_teacher) -> None:
    met = visit(GraphPolicy(balance_teacher), balance, range(8), 500, 0.1)
    q, codes = q_values(balance_teacher, met.obs), drawn(0, 2, 4)[0]
    mask = np.random.default_rng(0).random((len(met), 2)) < 0.5
    mask[:, 1] |= ~mask.any(axis=1)
    for states in (met, States(met.obs, mask)):
        expected = compare(q, codes(states.obs, states.mask), states.mask).regret
        assert np.isclose(Regret.of(states, q)(codes), expected)
        assert expected > 0


def test_weights_that_bring_nothing_become_zero(balance, balance_teacher) -> None:
    """The sparsest that returns no less; every zero is one multiplication less."""
    met = visit(GraphPolicy(balance_teacher), balance, range(8), 500, 0.1)
    codes = Codes(np.array([[0, 0, 0, 0], [1, 1, 7, 3]]), np.array([0, 0]), np.array([2, 2, 6, 5]))
    assert balance(codes, range(50)).returns.mean() == 60
    assert len(without_one(codes)) == 4
    judge, play = Regret.of(met, q_values(balance_teacher, met.obs)), Returns(balance, 0)
    sparser = _sparser(codes, codes, judge, play, 16)
    assert sparser is not None
    assert np.count_nonzero(sparser.weight) < 4
    assert balance(sparser, range(50)).returns.mean() > 58
    nothing = replace(codes, weight=np.zeros_like(codes.weight))
    assert _sparser(nothing, codes, judge, play, 16) is None
    worse = replace(codes, weight=np.array([[0, 0, 0, 0], [1, 1, 0, 0]]))
    assert balance(worse, range(50)).returns.mean() < 55
    assert _sparser(worse, worse, judge, play, 16) is not None
    assert _sparser(worse, codes, judge, play, 16) is None, "each round is judged beside what the first one had"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"population": 3}, "direct.population must be at least 4, not 3"),
        ({"sigma": float("nan")}, "direct.sigma must be positive, not nan"),
        ({"risk": -1.0}, "direct.risk cannot be negative, not -1.0"),
    ],
)
def test_settings_out_of_range(changed, said) -> None:
    with pytest.raises(ConfigError, match=said):
        check_direct(DirectConfig(**changed))
    check_direct(DirectConfig(regret_generations=0, rounds=0))


def test_a_feature_with_a_large_weight_gets_more_levels() -> None:
    """As many as there are: an int8 saturates at 127."""
    rng = np.random.default_rng(0)
    obs = np.stack([*rng.standard_normal((3, 500)), rng.random(500) < 0.2], axis=1)
    plain, large = np.ones((2, 4)), np.array([[1, 1, 1, 40.0], [1, 1, 1, 1]])
    assert exponents(obs, 16.0, plain).tolist() == [4, 4, 4, 5]
    assert exponents(obs, 16.0, large).tolist() == [4, 4, 4, 7]
