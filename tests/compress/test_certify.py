from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from nimbleq.compress.certify import certify, worst_decile
from nimbleq.compress.noninferiority import judge, plan
from nimbleq.compress.sequential import boundaries, floor_episodes, lower_bound, spent, student_quantile
from nimbleq.errors import ConfigError
from nimbleq.seeds import episode_seeds
from nimbleq.types import Episodes


@pytest.mark.parametrize(
    ("probability", "freedom", "value"),
    [(0.95, 10, 1.8125), (0.95, 30, 1.6973), (0.99, 20, 2.5280), (0.9999, 298, 3.7657), (0.975, 1000, 1.9623)],
)
def test_student_quantile_matches_tables(probability, freedom, value):
    assert student_quantile(probability, freedom) == pytest.approx(value, rel=1e-3)


def test_alpha_spending_is_o_brien_fleming():
    assert spent(0.05, 1.0) == pytest.approx(0.05)
    assert spent(0.05, 0.5) == pytest.approx(2 - 2 * NormalDist().cdf(1.95996 / 0.5**0.5), rel=1e-4)
    # Classic boundaries for one-sided 0.025 and five equal looks (Lan & DeMets): 4.877, 3.357, 2.680, 2.290, 2.031
    levels = boundaries(0.025, [0.2, 0.4, 0.6, 0.8, 1.0])
    z = [-NormalDist().inv_cdf(level) for level in levels]
    assert z == pytest.approx([4.877, 3.357, 2.680, 2.290, 2.031], abs=0.01)
    assert boundaries(0.05, [1.0])[0] == pytest.approx(0.05, abs=1e-6)


def test_floor_is_the_rule_of_never_seen_failures():
    assert floor_episodes(0.99, 0.05) == 299
    assert 0.99**299 < 0.05 < 0.99**298


def _rejections(rng, draw, keep, looks, alpha, runs):
    """Share of runs in which a group-sequential test certifies ``draw(n) → (teacher, student)``."""
    levels = boundaries(alpha, [n / looks[-1] for n in looks])
    rand = rng.normal(-180, 100, 200)
    passed = 0
    for _ in range(runs):
        teacher, student = draw(looks[-1])
        passed += any(
            judge(teacher[:n], student[:n], rand, keep, level)[0] for n, level in zip(looks, levels, strict=True)
        )
    return passed / runs


@pytest.mark.parametrize("keep", [0.99, 0.8])
def test_type_one_error_at_the_margin(keep):
    rng = np.random.default_rng(0)

    def draw(n):
        teacher = rng.normal(240, 60, n)
        return teacher, teacher + rng.normal(0, 50, n) - (1 - keep) * 420

    rate = _rejections(rng, draw, keep, (320, 560, 800), 0.05, 2000)
    assert rate < 0.05 + 3 * (0.05 * 0.95 / 2000) ** 0.5


@pytest.mark.parametrize("n", [299, 500, 900])
def test_type_one_error_with_rare_total_failures(n):
    """The student loses exactly the margin: it fails totally once in a hundred episodes and is perfect otherwise."""
    rng = np.random.default_rng(1)

    def draw(count):
        return np.full(count, 500.0), np.where(rng.random(count) < 0.01, 20.0, 500.0)

    passed = 0
    for _ in range(2000):
        teacher, student = draw(n)
        passed += judge(teacher, student, np.full(200, 20.0), 0.99, 0.05)[0]
    # A plain t bound would pass about 20 % of these at n = 299.
    assert passed / 2000 < 0.05 + 4 * (0.05 * 0.95 / 2000) ** 0.5


def test_planned_power_is_reached():
    rng = np.random.default_rng(2)
    planned = plan(rng.normal(5, 50, 4000), margin=4.2, keep=0.99)  # clearly no worse: the plan is for equal
    assert 1100 < planned.episodes < 1500
    assert planned.expected_difference == 0

    def draw(n):
        teacher = rng.normal(240, 60, n)
        return teacher, teacher + rng.normal(0, 50, n)

    assert _rejections(rng, draw, 0.99, planned.looks, 0.05, 600) > 0.86


def test_a_coarse_pilot_does_not_refuse_but_a_clear_one_does():
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 26, 300)
    noise -= noise.mean()
    unlucky = plan(noise - 3.5, margin=4.3, keep=0.99, most=4000)
    assert unlucky.episodes == unlucky.looks[-1] == 4000
    assert plan(noise - 3.5, margin=4.3, keep=0.99).episodes > 4000
    assert plan(noise - 9.0, margin=4.3, keep=0.99, most=4000).episodes > 4000
    assert plan(10 * noise, margin=4.3, keep=0.99, most=4000).episodes > 4000


def test_lower_bound_is_lower_for_left_skew_and_never_higher():
    sample = np.r_[np.zeros(298), -480.0]
    plain = sample.mean() - student_quantile(0.95, 298) * sample.std(ddof=1) / 299**0.5
    assert lower_bound(sample, 0.05) < plain - 1
    assert lower_bound(-sample, 0.05) <= -sample.mean()


class Tossed:
    """Returns by seed and policy quality: ``mean − loss`` with seed noise shared by both policies."""

    def __init__(self, noise=0.0, loss=0.0, failures=0.0):
        self.noise, self.loss, self.failures, self.asked = noise, loss, failures, []

    def __call__(self, policy, seeds, *, epsilon=0.0, keep_obs=0):
        self.asked += list(seeds)
        rng = np.random.default_rng([1, *np.asarray(seeds)])
        student = getattr(getattr(policy, "graph", None), "weights", {}).get("student") is not None
        base = np.array([200 + np.random.default_rng(int(s)).normal(0, 20) for s in seeds])
        if epsilon == 1.0:
            base = base - 200
        if student:
            base = (
                base
                - self.loss
                + rng.normal(0, self.noise, len(seeds))
                - 200 * (rng.random(len(seeds)) < self.failures)
            )
        obs = rng.standard_normal((min(keep_obs, 50), 3)).astype(np.float32) if keep_obs else None
        return Episodes(np.asarray(seeds), base, np.ones(len(seeds), int), obs)


@pytest.fixture
def pair(mlp):
    graph, _ = mlp(0, 3, (4,), 2)
    return graph, graph.with_weights({"student": np.zeros(1, np.float32)})


def test_equal_policies_are_certified_with_the_floor(pair):
    made = certify(*pair, Tossed())
    assert made.certified
    assert made.episodes == made.planned_episodes == 299
    assert made.action_flips == 0
    assert made.difference_lower95 > -made.margin
    assert made.margin == pytest.approx(0.01 * (made.teacher_return_mean - made.random_return_mean))
    assert made.reason.startswith("certified")


def test_a_worse_student_is_refused(pair):
    made = certify(*pair, Tossed(noise=5, loss=4))
    assert not made.certified
    assert "refused" in made.reason


def test_a_claim_that_would_cost_too_much_says_how_much(pair):
    made = certify(*pair, Tossed(noise=80), max_episodes=500)
    assert not made.certified
    assert made.episodes == 0
    assert made.planned_episodes > 500
    assert str(made.planned_episodes) in made.reason


def test_a_teacher_like_random_play_is_refused(pair):
    class Flat(Tossed):
        def __call__(self, policy, seeds, **options):
            played = super().__call__(policy, seeds, **options)
            return Episodes(played.seeds, np.full(len(seeds), 7.0), played.lengths, played.obs)

    made = certify(*pair, Flat())
    assert not made.certified
    assert "no better than random" in made.reason


def test_keeping_everything_needs_a_proven_improvement(pair):
    assert not certify(*pair, Tossed(), keep=1.0).certified
    assert certify(*pair, Tossed(noise=5, loss=-4), keep=1.0).certified


@pytest.mark.parametrize("keep", [0.0, 1.5, -1, float("nan")])
def test_keep_out_of_range(pair, keep):
    with pytest.raises(ConfigError, match="keep"):
        certify(*pair, Tossed(), keep=keep)


def test_seeds_of_purposes_never_meet(pair):
    env = Tossed()
    certify(*pair, env)
    certifying = set(episode_seeds("certify", 0, 299).tolist())
    assert certifying <= set(env.asked)
    for other in ("select", "distill", "pilot", "recertify"):
        assert not certifying & set(episode_seeds(other, 0, 4000).tolist())


def test_worst_decile_is_the_mean_of_the_worst_tenth():
    assert worst_decile(np.arange(100.0)) == pytest.approx(4.5)


def test_certificate_is_plain_json(pair):
    import json

    made = json.loads(json.dumps(certify(*pair, Tossed(noise=1)).to_dict()))
    assert made["looks"][0]["episodes"] >= 299
    assert set(made) >= {"certified", "seeds", "planned_episodes", "dead_actions", "alpha", "difference_std"}
