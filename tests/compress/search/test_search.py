from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace

import numpy as np
import pytest

from nimbleq.compress.certify import Attempts, ReturnRange
from nimbleq.compress.certify.forecast import Pilot, episodes_needed
from nimbleq.compress.certify.stream import graph_hash, stream_nonce
from nimbleq.compress.passes.distill import Distill
from nimbleq.compress.passes.fold import Fold
from nimbleq.compress.passes.quantize import Quantize
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.passes.student import Student
from nimbleq.compress.quantize import quantize
from nimbleq.compress.search import ladder, rungs, search, select
from nimbleq.compress.search.config import CompressConfig
from nimbleq.compress.search.rungs import Family, Rung
from nimbleq.compress.search.search import compress_policy
from nimbleq.compress.states import ConstantPolicy
from nimbleq.errors import ConfigError, FileError
from nimbleq.graph.cost import cost
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.graph.rewrite import fold
from nimbleq.seeds import episode_seeds

WIDE = ReturnRange(0.0, 1000.0, "stated in a test")
FAST = DistillConfig(rounds=2, updates=150, last_updates=150, episodes=4, states=500)


@pytest.fixture
def fast():
    return CompressConfig(recipe="distill", distill=FAST, select_episodes=40, hidden=((), (4,)))


def _check_contract(compression):
    made = json.loads(json.dumps(compression.to_dict()))
    assert {"size_bytes", "teacher_size_bytes", "macs", "teacher_macs", "return_mean", "teacher_return_mean"} <= set(
        made
    )
    assert {"random_return_mean", "keep", "certified", "candidates", "baselines"} <= set(made)
    keys = {"name", "recipe", "hidden", "bits", "size_bytes", "macs", "episodes", "return_mean", "return_ci95"}
    for candidate in [*made["candidates"], made["baselines"]["linear"]]:
        assert keys | {"agreement", "regret", "latency_us", "status", "why", "advice"} == set(candidate)
    assert [c["size_bytes"] for c in made["candidates"]] == sorted(c["size_bytes"] for c in made["candidates"])
    assert [c["status"] for c in made["candidates"]].count("chosen") == 1


@pytest.mark.parametrize("taught_in_copy", [True, False])
def test_students_are_taught_in_the_cheaper_copy_unless_told_otherwise(balance, balance_teacher, fast, taught_in_copy):
    balance.low_fidelity = copy = replace(balance)
    distill = replace(FAST, low_fidelity=taught_in_copy)
    made = compress_policy(balance_teacher, balance, replace(fast, distill=distill))
    assert made.certificate.certified
    assert bool(copy.played) == taught_in_copy
    assert balance.played >= len(made.certificate.returns.seeds)


def test_balancing_falls_to_a_linear_policy_and_is_certified(balance, balance_teacher, fast):
    made = compress_policy(balance_teacher, balance, fast)
    _check_contract(made)
    assert made.certificate.certified
    assert made.best.status == "chosen"
    assert made.best.size_bytes * 20 <= made.teacher_size_bytes == cost(balance_teacher).size_bytes
    assert made.best.macs * 10 <= made.teacher_macs
    fresh = episode_seeds("final", 5, 20).tolist()
    assert balance(GraphPolicy(made.best.graph), fresh).returns.mean() > 0.97 * balance.limit


def record_plays(balance):
    """An evaluator that notes ``(hash of the graph or None, seeds)`` of every call."""
    asked = []

    def recording(policy, seeds, **options):
        graph = getattr(policy, "graph", None)
        asked.append((None if graph is None else graph_hash(graph), [int(seed) for seed in seeds]))
        return balance(policy, seeds, **options)

    return asked, recording


def test_no_verdict_comes_from_episodes_of_low_fidelity(balance, balance_teacher, fast):
    """Passes play them; selection, the certificate and random play do not."""
    cheap, recording = record_plays(balance)
    exact, evaluate = record_plays(balance)
    evaluate.low_fidelity = recording
    made = compress_policy(balance_teacher, evaluate, fast)
    judging = [episode_seeds(purpose, fast.seed, 40) for purpose in ("select", "random")]
    judging = {int(seed) for seeds in [*judging, made.certificate.returns.seeds] for seed in seeds}
    assert cheap
    assert not judging & {seed for _, seeds in cheap for seed in seeds}
    assert judging <= {seed for _, seeds in exact for seed in seeds}


def test_seeds_that_chose_never_certify(balance, balance_teacher, fast):
    asked, recording = record_plays(balance)
    made = compress_policy(balance_teacher, recording, fast)
    certifying = set(made.certificate.returns.seeds.tolist())
    first = next(i for i, (_, seeds) in enumerate(asked) if certifying & set(seeds))
    # Nothing is made or selected on them: before the certificate starts nobody has played one.
    assert not certifying & {seed for _, seeds in asked[:first] for seed in seeds}
    made_before = {graph for graph, _ in asked[:first]}
    assert {graph for graph, seeds in asked[first:] if certifying & set(seeds)} <= made_before


@pytest.fixture
def large_first(monkeypatch):
    """A family tries its larger format first, so that both of its candidates are judged."""
    monkeypatch.setitem(ladder.RECIPES, "distill", replace(ladder.RECIPES["distill"], formats=("float32", "int8")))


def test_candidates_are_judged_largest_first_on_seeds_that_follow_from_all_of_them(
    balance, balance_teacher, fast, large_first
):
    asked, recording = record_plays(balance)
    made = compress_policy(balance_teacher, recording, fast)
    assert made.certificate.certified
    by_hash = {graph_hash(c.graph): c for c in made.candidates}
    played = [h for h, seeds in asked if set(seeds) & set(made.certificate.returns.seeds.tolist()) and h in by_hash]
    order = list(dict.fromkeys(played))
    sizes = [by_hash[h].size_bytes for h in order]
    assert len(order) > 1
    assert sizes == sorted(sizes, reverse=True)
    assert made.best is by_hash[order[-1]], "all were certified: the smallest is the result"
    claim = made.certificate.claim
    assert claim.nonce == stream_nonce(order, 1)
    assert (claim.attempt, claim.alpha) == (1, 0.04)
    seeds = made.certificate.returns.seeds
    assert np.array_equal(seeds, episode_seeds("certify", claim.nonce, len(seeds)))
    teacher = graph_hash(balance_teacher)
    for seed in seeds.tolist():
        assert sum(seed in batch for h, batch in asked if h == teacher) == 1, "the teacher plays a seed once for all"


def refusing(monkeypatch, certify_numbers):
    """Judgements, in the order in which they are made; only those with these numbers may certify."""
    judged = []
    play_on = search.play_on

    def judge(begun, players, episodes, **options):
        made = play_on(begun, players, episodes, **options)
        judged.append(made)
        if len(judged) - 1 not in certify_numbers:
            made.__dict__["verdict"] = replace(made.verdict, certified=False)
        return made

    monkeypatch.setattr(search, "play_on", judge)
    return judged


def test_the_first_refusal_ends_a_sequence(balance, balance_teacher, fast, large_first, monkeypatch):
    judged = refusing(monkeypatch, {0})
    made = compress_policy(balance_teacher, balance, fast)
    assert [one.claim.attempt for one in judged] == [1, 1]
    assert made.certificate is judged[0]
    assert made.best.status == "chosen"
    refused = next(c for c in made.candidates if c.status == "refused")
    assert refused.size_bytes < made.best.size_bytes
    assert refused.why


def test_after_a_refusal_larger_candidates_get_new_seeds_and_their_share(balance, balance_teacher, fast, monkeypatch):
    judged = refusing(monkeypatch, ())
    made = compress_policy(balance_teacher, balance, fast)
    attempts = [one.claim.attempt for one in judged]
    assert attempts == sorted(set(attempts)), "every attempt ends with its first refusal"
    assert len(attempts) > 1
    seeds = [set(one.returns.seeds.tolist()) for one in judged]
    assert not seeds[0] & seeds[1]
    assert [one.claim.alpha for one in judged[:2]] == pytest.approx([0.04, 0.008])
    assert not made.certificate.certified
    assert made.certificate in judged
    assert made.certificate.claim.student == graph_hash(made.best.graph)
    assert made.certificate.difference_lower95 == max(one.difference_lower95 for one in judged)


def test_attempts_never_share_a_seed(balance, balance_teacher, fast, monkeypatch):
    judged = refusing(monkeypatch, ())
    monkeypatch.setattr(search, "stream_nonce", lambda *_: 7)  # streams that meet
    compress_policy(balance_teacher, balance, fast)
    seeds = [set(one.returns.seeds.tolist()) for one in judged]
    assert len(seeds) > 1
    assert not seeds[0] & seeds[1]


def test_another_range_for_a_policy_that_was_judged_is_a_new_attempt_on_new_seeds(balance, balance_teacher, tmp_path):
    """Else a range could be chosen after the returns were seen, and every search would have the full share of α."""
    asked = CompressConfig(keep=0.5, recipe=(Fold(), Quantize()), select_episodes=40)
    attempts = Attempts(tmp_path / "attempts.json")
    first, other, again = (
        compress_policy(balance_teacher, balance, replace(asked, return_range=each), number=attempts.number).certificate
        for each in (WIDE, ReturnRange(0.0, 900.0, "stated in a test"), WIDE)
    )
    assert [one.claim.attempt for one in (first, other, again)] == [1, 2, 1]
    assert other.claim.alpha == pytest.approx(0.008)
    assert first.claim.student == other.claim.student
    assert not set(first.returns.seeds.tolist()) & set(other.returns.seeds.tolist())
    assert again.returns.seeds.tolist() == first.returns.seeds.tolist(), "the same claim is the same test"
    assert again.to_dict() == first.to_dict()


def test_a_damaged_list_of_attempts_is_named(tmp_path):
    path = tmp_path / "attempts.json"
    for content in ("[{}]", "3", '[{"students": 3}]', "["):
        path.write_text(content)
        with pytest.raises(FileError, match=r"attempts\.json"):
            Attempts(path).last("a")


def test_a_few_lost_episodes_do_not_hide_behind_the_mean():
    teacher = np.full(1000, 10_000.0)
    student = teacher.copy()
    assert select.tail_holds(student, teacher, margin=100.0)
    student[:8] = 3_000.0  # the mean loses 56, within the margin
    assert not select.tail_holds(student, teacher, margin=100.0)


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, n: rng.normal(240, 50, n),
        lambda rng, n: rng.uniform(0, 500, n),
        lambda rng, n: -rng.exponential(50, n),
        lambda rng, n: np.where(rng.random(n) < 0.5, rng.normal(200, 20, n), rng.normal(-100, 60, n)),
    ],
    ids=["normal", "uniform", "exponential losses", "two modes"],
)
@pytest.mark.parametrize("n", [300, 1000])
def test_policies_of_equal_returns_pass_the_tail_as_often_as_two_standard_errors_say(draw, n):
    """97.7 % at margin 0 (it was 89 %): no more than four standard errors of 2,000 pairs below that."""
    rng, runs = np.random.default_rng(5), 2_000
    passed = sum(select.tail_holds(draw(rng, n), draw(rng, n), margin=0.0) for _ in range(runs))
    assert passed / runs > 0.977 - 4 * (0.977 * 0.023 / runs) ** 0.5
    assert passed < runs


def test_a_limit_too_low_for_any_candidate_is_refused_before_the_search(balance, balance_teacher, fast):
    with pytest.raises(ConfigError, match=r"no candidate can be certified at keep = 0.99 with 100 episodes") as refused:
        compress_policy(balance_teacher, balance, replace(fast, max_episodes=100, return_range=WIDE))
    assert balance.played < 300, "nothing was distilled or played but random play and the teacher"
    random = balance(ConstantPolicy(), episode_seeds("random", 0, 200).tolist(), epsilon=1.0).returns
    about = episodes_needed(WIDE.span, 0.01 * (60 - random.mean()), 0.0, 0.04)
    assert f"needs about {about:,}, as returns range over 1000" in str(refused.value)
    assert f"give --max-episodes {about}, or a narrower --return-range" in str(refused.value)


def test_a_lower_keep_that_would_do_is_named():
    teacher, random = np.full(30, 250.0), np.full(200, 50.0)
    said = select.out_of_reach(teacher, random, 0.99, 1000.0, 400)
    about, easier = (episodes_needed(1000.0, share * 200, 0.0, 0.04) for share in (0.01, 0.05))
    assert f"give --max-episodes {about}, or --keep 0.95 (about {easier:,}), or a" in said
    assert (about, easier) == (1612, 323)
    assert select.out_of_reach(teacher, random, 0.99, 1000.0, 1 << 20) == ""
    assert select.out_of_reach(teacher, random, 1.0, 1000.0, 10) == "", "a better student can show even that"
    assert select.out_of_reach(random, teacher, 0.99, 1000.0, 10) == "", "that is another fault"


def test_chance_does_not_refuse():
    rng = np.random.default_rng(0)
    random = rng.normal(50, 30, 200)
    refused = [
        bool(select.out_of_reach(rng.normal(250, 80, 30), random, 0.99, 1000.0, 1_700)) for _ in range(200)
    ]  # about 1,610 are needed
    assert sum(refused) <= 10


def test_a_candidate_that_needs_too_many_episodes_says_how_many(balance, balance_teacher, fast):
    with pytest.raises(ConfigError) as refused:
        compress_policy(balance_teacher, balance, replace(fast, max_episodes=100, return_range=WIDE))
    limit = int(re.search(r"about ([\d,]+)", str(refused.value))[1].replace(",", "")) - 1
    made = compress_policy(balance_teacher, balance, replace(fast, max_episodes=limit, return_range=WIDE))
    assert not made.certificate.certified
    assert {c.status for c in made.candidates} <= {"failed", "refused"}
    needing = [c for c in made.candidates if c.why.startswith("needs ")]
    assert needing
    for candidate in needing:
        needed = int(candidate.why.split()[1].replace(",", ""))
        assert needed > limit
        assert candidate.why == f"needs {needed:,} episodes, the limit is {limit:,}"
        assert candidate.advice.startswith(f"--max-episodes {needed}")
    assert all(row["why"] for row in made.to_dict()["candidates"])
    assert made.certificate.claim.return_range is WIDE
    assert len(made.certificate.returns) == 200


def test_a_candidate_that_loses_says_what(balance, balance_teacher, fast):
    def upside_down(graph, context):
        return graph.with_weights({graph.nodes[-2].op.weight: -graph.weights[graph.nodes[-2].op.weight]})

    made = compress_policy(balance_teacher, balance, replace(fast, recipe=(Fold(), upside_down)))
    (candidate,) = made.candidates
    assert "where" in candidate.why or "refused" in candidate.status
    assert not made.certificate.certified


def test_int8_only_gives_integers(balance, balance_teacher, fast):
    made = compress_policy(
        balance_teacher, balance, CompressConfig(recipe="int8", distill=FAST, select_episodes=40, hidden=((4,),))
    )
    assert {c.bits for c in made.candidates} == {8}
    assert any(node.op.kind == "Requantize" for node in made.best.graph.nodes)


def test_a_recipe_of_passes_is_one_candidate(balance, balance_teacher):
    recipe = (Student((8,)), Distill(), Fold(), Quantize())
    made = compress_policy(balance_teacher, balance, CompressConfig(recipe=recipe, distill=FAST, select_episodes=40))
    assert [c.recipe for c in made.candidates] == ["student 8 → distill → fold → int8"]


def test_when_nothing_holds_it_says_so(balance, balance_teacher):
    hopeless = DistillConfig(rounds=1, updates=1, last_updates=1, episodes=2, states=100)

    def upside_down(graph, context):
        last = {"q.weight"} & set(graph.weights) or {graph.nodes[-2].op.weight}
        return graph.with_weights({name: -graph.weights[name] for name in last})

    config = CompressConfig(recipe=(Fold(), upside_down), distill=hopeless, select_episodes=20)
    made = compress_policy(balance_teacher, balance, config)
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
        compress_policy(balance_teacher, balance, CompressConfig(keep=keep))
    assert balance.played == 0


def test_unknown_recipe(balance, balance_teacher):
    with pytest.raises(ConfigError, match="recipe"):
        compress_policy(balance_teacher, balance, CompressConfig(recipe="int3"))


def test_a_short_fall_says_what_would_help():
    rng = np.random.default_rng(0)
    teacher = rng.normal(250, 40, 1000)
    random = rng.normal(-190, 80, 200)
    scattered = Pilot(teacher, rng.permutation(teacher), random)
    why, advice = select.falls_short(scattered, 0.99, 1030.0, 500)
    needed = scattered.forecast_as_seen(0.99, 1030.0, 0.04)
    easier = scattered.forecast_as_seen(0.95, 1030.0, 0.04)
    assert why == f"needs {needed:,} episodes, the limit is 500"
    assert advice == f"--max-episodes {needed}, or --keep 0.95 (about {easier:,})"
    assert select.falls_short(scattered, 0.99, 1030.0, 1 << 20) == ("", "")
    noise = rng.normal(0, 60, 1000)
    ragged = Pilot(teacher, teacher + noise - noise.mean(), random)
    assert select.falls_short(ragged, 0.99, 1030.0, 1 << 20)[0].startswith("worst tenth 1")
    lossy = Pilot(teacher, teacher - 4.3 - 0.4 * (np.arange(1000) % 2), random)
    assert select.falls_short(lossy, 0.99, 1030.0, 1 << 20)[0].startswith("loses 4.5 of the ")
    assert select.hopeless(Pilot(teacher, teacher - 30, random), 0.99).startswith("loses 30.0 where ")
    assert "worse than random" in select.hopeless(Pilot(random, random, teacher), 0.99)


def test_fewer_bits_are_made_only_after_more_passed_and_more_only_after_fewer_failed(
    balance, balance_teacher, monkeypatch
):
    made = []

    @dataclass(frozen=True)
    class Make:
        name: str

        def __call__(self, graph, context):
            made.append(self.name)
            return quantize(graph, context.from_teacher().obs)

        def __str__(self):
            return self.name

    names = ("direct4", "direct3", "direct2", "direct6", "direct6-again")
    monkeypatch.setattr(ladder, "FORMATS", {name: (Make(name),) for name in names})
    config = CompressConfig(recipe="last-bytes", distill=FAST, select_episodes=40)
    for verdict, expected in (("", ["direct4", "direct3"]), ("loses", ["direct4", "direct6", "direct6-again"])):
        made.clear()
        monkeypatch.setattr(search, "hopeless", lambda *_, verdict=verdict: verdict)
        compress_policy(balance_teacher, balance, config)
        assert made == expected


def test_a_candidate_that_is_clearly_better_is_not_played_to_the_end(balance, balance_teacher, monkeypatch):
    monkeypatch.setattr(search, "_FEWEST", 10)
    clear = search.clearly_no_worse
    monkeypatch.setattr(search, "clearly_no_worse", lambda pilot: clear(replace(pilot, teacher=pilot.teacher - 1.0)))
    config = CompressConfig(recipe="float32", distill=FAST, select_episodes=200, hidden=((),))
    made = compress_policy(balance_teacher, balance, config)
    assert len(made.linear.returns) == 20
    assert made.certificate.certified


def test_where_episodes_are_slow_auto_leaves_out_what_plays_thousands(balance, balance_teacher, monkeypatch):
    config = CompressConfig(distill=FAST, select_episodes=40, hidden=((),))
    monkeypatch.setattr(search, "_PATIENCE_S", 1e-9)
    made = compress_policy(balance_teacher, balance, config)
    assert {candidate.name for candidate in made.candidates} <= {"linear-int8", "linear-float32"}


def test_what_must_be_larger_than_one_that_passes_is_not_made(balance, balance_teacher, monkeypatch):
    made = []

    @dataclass(frozen=True)
    class Noting:
        """A toy pass that notes that it was used."""

        name: str

        def __call__(self, graph, context):
            made.append(self.name)
            return graph

    def rung(*sizes):
        families = [Family(f"size{size}", (Fold(), Noting(f"size{size}")), about_bytes=size) for size in sizes]
        return Rung(lambda *_: True, lambda *_: families)

    small = cost(fold(balance_teacher)).size_bytes
    monkeypatch.setitem(rungs.LADDER, "first", rung(10))
    monkeypatch.setitem(rungs.LADDER, "second", rung(small, small * 2))
    row = ladder.RecipeRow(("int8",), "a toy", ("first", "second"), apart=True)
    monkeypatch.setitem(ladder.RECIPES, "toy", row)
    config = CompressConfig(keep=0.5, recipe="toy", distill=FAST, select_episodes=40)
    found = compress_policy(balance_teacher, balance, config)
    assert found.certificate.certified
    assert made == ["size10"]
