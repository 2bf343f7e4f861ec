from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from nimbleq.compress import search
from nimbleq.compress.certify import certify
from nimbleq.compress.distill import DistillConfig
from nimbleq.compress.quantize import quantize
from nimbleq.compress.recipe import Distill, Fold, Int8, Student
from nimbleq.compress.search import CompressConfig, compress
from nimbleq.errors import ConfigError
from nimbleq.graph.cost import cost
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.seeds import episode_seeds

FAST = DistillConfig(rounds=2, updates=150, last_updates=150, episodes=4, states=500)


@pytest.fixture
def fast():
    return CompressConfig(distill=FAST, select_episodes=40, hidden=((), (4,)))


def _check_contract(compression):
    made = json.loads(json.dumps(compression.to_dict()))
    assert {"size_bytes", "teacher_size_bytes", "macs", "teacher_macs", "return_mean", "teacher_return_mean"} <= set(
        made
    )
    assert {"random_return_mean", "keep", "certified", "candidates", "baselines"} <= set(made)
    keys = {"name", "recipe", "hidden", "bits", "size_bytes", "macs", "episodes", "return_mean", "return_ci95"}
    for candidate in [*made["candidates"], made["baselines"]["linear"]]:
        assert keys | {"agreement", "regret", "latency_us", "status"} == set(candidate)
    assert [c["size_bytes"] for c in made["candidates"]] == sorted(c["size_bytes"] for c in made["candidates"])
    assert [c["status"] for c in made["candidates"]].count("chosen") == 1


def test_balancing_falls_to_a_linear_policy_and_is_certified(balance, balance_teacher, fast):
    made = compress(balance_teacher, balance, fast)
    _check_contract(made)
    assert made.certificate.certified
    assert made.best.status == "chosen"
    assert made.best.size_bytes * 20 <= made.teacher_size_bytes == cost(balance_teacher).size_bytes
    assert made.best.macs * 10 <= made.teacher_macs
    fresh = episode_seeds("final", 5, 20).tolist()
    assert balance(GraphPolicy(made.best.graph), fresh).returns.mean() > 0.97 * balance.limit


def test_seeds_that_chose_never_certify(balance, balance_teacher, fast):
    asked = []

    def recording(policy, seeds, **options):
        asked.append((getattr(policy, "graph", None), list(seeds)))
        return balance(policy, seeds, **options)

    made = compress(balance_teacher, recording, fast)
    judged = made.certificate
    certifying = set(episode_seeds("certify", 0, judged.episodes).tolist())
    first = next(i for i, (_, seeds) in enumerate(asked) if certifying & set(seeds))
    # Nothing is made or selected on them: before the certificate starts nobody has played one.
    assert not certifying & {seed for _, seeds in asked[:first] for seed in seeds}
    assert certifying <= {seed for _, seeds in asked for seed in seeds}


def test_a_refusal_belongs_to_the_policy_it_is_about(balance, balance_teacher, fast, monkeypatch):
    refusals = {}

    def refuse(teacher, student, evaluate, keep, **options):
        bound = -100.0 - 10 * (len(refusals) != 1)  # the second attempt comes closest
        made = replace(certify(teacher, student, evaluate, keep, **options), certified=False, difference_lower95=bound)
        refusals[id(student)] = made
        return made

    monkeypatch.setattr(search, "certify", refuse)
    made = compress(balance_teacher, balance, fast)
    assert len(refusals) == 3
    assert not made.certificate.certified
    assert made.certificate is refusals[id(made.best.graph)]
    assert made.certificate.difference_lower95 == -100.0


def test_a_few_lost_episodes_do_not_hide_behind_the_mean():
    teacher = np.full(1000, 10_000.0)
    student = teacher.copy()
    assert search.tail_holds(student, teacher, margin=100.0)
    student[:8] = 3_000.0  # the mean loses 56, within the margin
    assert not search.tail_holds(student, teacher, margin=100.0)
    noise = np.random.default_rng(0).normal(240, 50, (2, 1000))
    assert search.tail_holds(noise[0], noise[1], margin=4.3)


def test_int8_only_gives_integers(balance, balance_teacher, fast):
    made = compress(
        balance_teacher, balance, CompressConfig(recipe="int8", distill=FAST, select_episodes=40, hidden=((4,),))
    )
    assert {c.bits for c in made.candidates} == {8}
    assert any(node.op.kind == "Requantize" for node in made.best.graph.nodes)


def test_a_recipe_of_passes_is_one_candidate(balance, balance_teacher):
    recipe = (Student((8,)), Distill(), Fold(), Int8())
    made = compress(balance_teacher, balance, CompressConfig(recipe=recipe, distill=FAST, select_episodes=40))
    assert [c.recipe for c in made.candidates] == ["student 8 → distill → fold → int8"]


def test_when_nothing_holds_it_says_so(balance, balance_teacher):
    hopeless = DistillConfig(rounds=1, updates=1, last_updates=1, episodes=2, states=100)

    def upside_down(graph, context):
        last = {"q.weight"} & set(graph.weights) or {graph.nodes[-2].op.weight}
        return graph.with_weights({name: -graph.weights[name] for name in last})

    config = CompressConfig(recipe=(Fold(), upside_down), distill=hopeless, select_episodes=20)
    made = compress(balance_teacher, balance, config)
    assert not made.certificate.certified
    assert made.certificate.reason.startswith("refused")
    assert made.best.status in ("failed", "refused")


def test_wider_teacher_without_norms_can_be_quantized_whole(balance, balance_teacher):
    obs = balance(GraphPolicy(balance_teacher), [1, 2, 3], keep_obs=200).obs
    returns = balance(GraphPolicy(quantize(balance_teacher, obs)), list(range(50))).returns
    assert np.mean(returns) > 0.9 * balance.limit


@pytest.mark.parametrize("keep", [0, 1.5, -0.1])
def test_keep_out_of_range(balance, balance_teacher, keep):
    with pytest.raises(ConfigError, match="keep"):
        compress(balance_teacher, balance, CompressConfig(keep=keep))
    assert balance.played == 0


def test_unknown_recipe(balance, balance_teacher):
    with pytest.raises(ConfigError, match="recipe"):
        compress(balance_teacher, balance, CompressConfig(recipe="int3"))
