from __future__ import annotations

import json
from dataclasses import replace
from math import exp, log, log1p

import numpy as np
import pytest

from nimbleq.compress.certify import (
    ReturnRange,
    attempts_of,
    certify,
    noninferior,
    observed_range,
    record,
    standing,
    stated_range,
    verify_certificate,
    worst_decile,
)
from nimbleq.compress.certify.judge import play_on
from nimbleq.compress.certify.stream import (
    Player,
    Players,
    graph_hash,
    random_player,
    stream_nonce,
    stream_seeds,
)
from nimbleq.errors import ConfigError, EnvError, FileError
from nimbleq.graph.artefact import load_artefact, save_artefact
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.seeds import episode_seeds
from nimbleq.types import Episodes

RANGE = (-300.0, 400.0)


class Tossed:
    """Returns by seed and policy: 200 with noise that both share; the student loses ``loss`` and has noise of its own.

    ``crashes``: seeds on which the student's episodes crash. ``fall``: a return of its own on the seeds in ``falls``.
    """

    def __init__(self, noise=0.0, loss=0.0, crashes=(), falls=(), fall=-1e4):
        self.noise, self.loss, self.crashes, self.falls, self.fall = noise, loss, set(crashes), set(falls), fall
        self.asked = []

    def __call__(self, policy, seeds, *, epsilon=0.0, keep_obs=0):
        student = getattr(getattr(policy, "graph", None), "weights", {}).get("student") is not None
        self.asked.append(("student" if student else "random" if epsilon == 1.0 else "teacher", list(seeds)))
        if student and self.crashes & set(seeds):
            raise EnvError("it fell over")
        returns = np.array([self._one(int(seed), student, epsilon) for seed in seeds])
        obs = np.random.default_rng(0).standard_normal((min(keep_obs, 50), 3)).astype(np.float32) if keep_obs else None
        return Episodes(np.asarray(seeds), returns, np.ones(len(seeds), int), obs)

    def _one(self, seed, student, epsilon):
        base = 200 + np.random.default_rng(seed).normal(0, 20)
        if epsilon == 1.0:
            return base - 200
        if not student:
            return base
        if seed in self.falls:
            return self.fall
        return base - self.loss + np.random.default_rng([seed, 1]).normal(0, self.noise)


@pytest.fixture
def pair(mlp):
    graph, _ = mlp(0, 3, (4,), 2)
    return graph, graph.with_weights({"student": np.zeros(1, np.float32)})


def test_equal_policies_are_certified(pair):
    made = certify(*pair, Tossed(noise=5), return_range=RANGE)
    assert made.certified
    assert made.claim.alpha == pytest.approx(0.04)
    assert made.verdict.wealth >= 25
    told = made.to_dict()
    assert told["margin"] == pytest.approx(0.01 * (told["teacher_return_mean"] - told["random_return_mean"]))
    assert told["difference_lower95"] > -told["margin"]
    assert told["forecast"][0]["episodes"] == pytest.approx(log(25) / log(20) * 3 * 700 / 2.0, rel=0.05)
    assert told["episodes"] <= told["episodes_played"] < told["episodes"] + 200
    assert made.reason.startswith("certified after")


def test_a_worse_student_is_refused_early(pair):
    made = certify(*pair, Tossed(noise=5, loss=6), return_range=RANGE)
    assert not made.certified
    assert len(made.returns) == 200
    assert made.reason.startswith("refused")


def test_a_teacher_like_random_play_is_refused(pair):
    class Flat(Tossed):
        def _one(self, seed, student, epsilon):
            return 7.0

    made = certify(*pair, Flat())
    assert not made.certified
    assert "no better than random" in made.reason
    assert len(made.returns) == 200


@pytest.mark.parametrize("keep", [0.0, 1.5, -1, float("nan")])
def test_keep_out_of_range(pair, keep):
    with pytest.raises(ConfigError, match="keep"):
        certify(*pair, Tossed(), keep=keep)


def test_the_seeds_follow_from_the_student_and_meet_no_others(pair):
    env = Tossed(noise=5)
    made = certify(*pair, env, return_range=RANGE)
    seeds = made.returns.seeds
    nonce = stream_nonce([graph_hash(pair[1])], 1)
    assert np.array_equal(seeds, episode_seeds("certify", nonce, len(seeds)))
    for purpose in ("train", "check", "final", "distill", "select", "pilot", "recertify", "random"):
        assert not set(seeds.tolist()) & set(episode_seeds(purpose, nonce, 4000).tolist())
    changed = pair[1].with_weights({"student": np.ones(1, np.float32)})
    assert graph_hash(changed) != graph_hash(pair[1])
    assert not np.array_equal(certify(pair[0], changed, env, return_range=RANGE).returns.seeds, seeds)
    for who in ("teacher", "student", "random"):
        played = [seed for name, asked in env.asked for seed in asked if name == who]
        assert set(seeds.tolist()) <= set(played), "all three play every seed"


def test_the_hash_survives_the_artefact(pair, tmp_path):
    plain = pair[0]
    save_artefact(tmp_path / "a", plain, np.zeros((1, 3), np.float32), {})
    assert graph_hash(load_artefact(tmp_path / "a").graph) == graph_hash(plain)


def test_asked_again_it_plays_on(pair):
    env = Tossed(noise=12)
    whole = certify(*pair, env, return_range=RANGE)
    assert len(whole.returns) > 500
    made, calls = None, 0
    while made is None or not made.certified:
        earlier = [] if made is None else attempts_of(json.loads(json.dumps(record([made]))))
        made = certify(*pair, env, return_range=RANGE, earlier=earlier, max_episodes=150)
        calls += 1
        assert made.claim.attempt == 1
        assert calls < 50
    assert calls > 3
    assert made.verdict.episodes == whole.verdict.episodes
    assert np.array_equal(made.returns.seeds[:500], whole.returns.seeds[:500])
    before = len(env.asked)
    again = certify(*pair, env, return_range=RANGE, earlier=[made])
    assert again is made
    assert len(env.asked) == before, "what is certified needs no more episodes"
    assert certify(*pair, env, keep=0.9, earlier=[made]) is made, "more is certified than was asked"


def test_the_order_in_which_episodes_finish_changes_nothing(pair):
    class Backwards(Tossed):
        def __call__(self, policy, seeds, **options):
            played = super().__call__(policy, list(seeds)[::-1], **options)
            return Episodes(played.seeds[::-1], played.returns[::-1], played.lengths[::-1], played.obs)

    one, other = (certify(*pair, kind(noise=20), return_range=RANGE) for kind in (Tossed, Backwards))
    assert one.to_dict() == other.to_dict()


def test_anything_else_is_a_new_attempt_on_new_seeds(pair):
    env = Tossed(noise=12)
    first = certify(*pair, env, return_range=RANGE, max_episodes=100)
    changes = ({"keep": 0.985}, {"return_range": (-350.0, 400.0)}, {"fresh": True})
    attempts = [first]
    for number, change in enumerate(changes, start=2):
        asked = {"keep": 0.99, "return_range": RANGE} | change
        made = certify(*pair, env, earlier=attempts, max_episodes=100, **asked)
        assert made.claim.attempt == number
        assert made.claim.alpha == pytest.approx(0.2 / 5**number)
        attempts.append(made)
    other_teacher = pair[0].with_weights({"another": np.zeros(1, np.float32)})
    made = certify(other_teacher, pair[1], env, return_range=RANGE, earlier=attempts, max_episodes=100)
    assert made.claim.attempt == 5
    attempts.append(made)
    seeds = np.concatenate([one.returns.seeds for one in attempts])
    assert len(set(seeds.tolist())) == len(seeds) == 500
    back = certify(*pair, env, return_range=RANGE, earlier=attempts, max_episodes=100)
    assert back.claim == first.claim
    assert np.array_equal(back.returns.seeds[:100], first.returns.seeds)
    assert not set(back.returns.seeds[100:].tolist()) & set(seeds.tolist())


def test_two_independent_tests_have_seeds_of_their_own(pair):
    made = [certify(*pair, Tossed(), return_range=RANGE, fresh=True, max_episodes=50) for _ in range(2)]
    assert not set(made[0].returns.seeds.tolist()) & set(made[1].returns.seeds.tolist())


def test_a_breach_ends_the_attempt_and_the_next_has_new_seeds_and_a_wider_range(pair):
    nonce = stream_nonce([graph_hash(pair[1])], 1)
    bad = int(episode_seeds("certify", nonce, 50)[40])
    env = Tossed(noise=5, falls=[bad], fall=-2000.0)
    made = certify(*pair, env)
    assert "random play" in made.claim.return_range.source
    assert not made.certified
    assert made.verdict.breach == 40
    assert made.verdict.wealth == 1.0
    assert made.difference_lower95 is None
    assert "--return-range" in made.reason
    after = certify(*pair, env, earlier=[made])
    assert after.claim.attempt == 2
    assert after.claim.return_range.low < -2000
    assert bad not in after.returns.seeds
    stated = certify(*pair, env, return_range=(-2500.0, 400.0), max_episodes=200)
    assert stated.verdict.breach is None
    assert bad in stated.returns.seeds


def test_an_episode_that_crashes_counts_the_low_end(pair):
    nonce = stream_nonce([graph_hash(pair[1])], 1)
    bad = episode_seeds("certify", nonce, 300)[[3, 250]].tolist()
    made = certify(*pair, Tossed(noise=5, crashes=bad), return_range=RANGE, max_episodes=400)
    assert made.returns.crashed == tuple(("student", seed) for seed in bad)
    assert made.returns.student[[3, 250]].tolist() == [-300.0, -300.0]
    assert (made.returns.student > -300).sum() == len(made.returns) - 2
    assert attempts_of(record([made]))[0].returns.crashed == made.returns.crashed

    class Broken(Tossed):
        def __call__(self, policy, seeds, **options):
            raise EnvError("it never starts")

    with pytest.raises(EnvError, match="never starts"):
        certify(*pair, Broken(), return_range=RANGE)


def test_a_range_that_the_pilot_contradicts_is_one_line(pair):
    with pytest.raises(ConfigError, match=r"does not hold.*--return-range") as error:
        certify(*pair, Tossed(), return_range=(100.0, 400.0))
    assert "\n" not in str(error.value)


def test_ranges():
    made = observed_range(np.array([0.0, 40.0]), np.array([100.0]), of="3 episodes")
    assert made.ends == (-25.0, 125.0)
    assert made.source == "3 episodes returned 0 to 100; that range was made 1.5 times as wide"
    assert stated_range("-500,320").ends == (-500.0, 320.0)
    for wrong in ("", "1", "1,2,3", "a,b", "3,1", "0,inf", "nan,1"):
        with pytest.raises(ConfigError, match="range"):
            stated_range(wrong)
    assert ReturnRange(0, 500, "").span == 500


def plain_recomputation(text):
    """The verdict from the file, with nothing of nimbleq's: ``(certified, episodes, largest log wealth)``."""
    told = json.loads(text)
    low, high = told["return_range"]
    logs, best, certified = [log(0.1), log(0.2), log(0.7)], 0.0, None
    rows = zip(*(told["returns"][name] for name in ("teacher", "student", "random")), strict=True)
    for n, (teacher, student, random) in enumerate(rows, 1):
        gain = student - told["keep"] * teacher - (1 - told["keep"]) * random
        logs = [have + log1p(f * gain / (high - low)) for have, f in zip(logs, (0.3, 0.6, 0.97), strict=True)]
        best = max(best, log(sum(exp(one) for one in logs)))
        if certified is None and best >= log(1 / told["alpha"]):
            certified = n
    return certified is not None, certified or len(told["returns"]["seeds"]), best


def test_anybody_can_recompute_the_verdict_from_the_file(pair):
    for loss in (0.0, 1.9):
        made = certify(*pair, Tossed(noise=20, loss=loss), return_range=RANGE, max_episodes=900)
        text = json.dumps(record([made]), allow_nan=False)
        told = json.loads(text)
        certified, episodes, best = plain_recomputation(text)
        assert (told["certified"], told["episodes"]) == (certified, episodes)
        assert told["wealth"] == pytest.approx(exp(best), rel=1e-9)
        verdict = verify_certificate(told)
        returns = {name: np.array(told["returns"][name]) for name in ("teacher", "student", "random")}
        again = noninferior(**returns, keep=told["keep"], return_range=tuple(told["return_range"]), alpha=told["alpha"])
        assert verdict == again == made.verdict
        assert told["returns"]["seeds"] == made.returns.seeds.tolist()


def test_a_file_that_says_something_else_than_its_returns_is_refused(pair):
    told = json.loads(json.dumps(record([certify(*pair, Tossed(noise=5), return_range=RANGE)])))
    verify_certificate(told)
    spoilt = [
        {"certified": False}, {"wealth": 1e6}, {"episodes": 3}, {"alpha": 0.5, "total_alpha": "x"}, {"keep": 7},
        {"return_range": [4, 1]}, {"returns": {**told["returns"], "student": [1.0]}}, {"returns": None},
        {"beside": [{}]}, {"beside": 3}, {"forecast": 4},
        {"attempt": 0}, {"attempt": 10**6}, {"seeds": {"purpose": "train", "nonce": 1}}, {"alpha": 0.05},
        {"episodes": 10**400}, {"keep": 10**400},
        {"wealth": "much"}, {"wealth": None}, {"seeds": {"purpose": "certify", "nonce": -1}},
    ]  # fmt: skip
    for change in spoilt:
        with pytest.raises(FileError) as error:
            verify_certificate({**told, **change})
        assert "\n" not in str(error.value)
    doubled = {name: values + values for name, values in told["returns"].items()}
    with pytest.raises(FileError, match="belong together"):
        verify_certificate({**told, "returns": doubled})
    with pytest.raises(FileError, match="older kind"):
        attempts_of({"certified": True, "looks": []})
    assert attempts_of(None) == []


def test_what_stands_is_the_strongest_that_was_certified(pair):
    env = Tossed(noise=5)
    good = certify(*pair, env, return_range=RANGE)
    more = certify(*pair, env, keep=0.9999, earlier=[good], max_episodes=100)
    assert not more.certified
    assert standing([good, more]) is good
    fresh = certify(*pair, env, fresh=True, earlier=[good, more], max_episodes=100)
    told = record([good, more, fresh])
    assert told["keep"] == 0.99
    assert [one["attempt"] for one in told["beside"]] == [2, 3]
    assert [one.to_dict() for one in attempts_of(told)] == [one.to_dict() for one in (good, more, fresh)]
    assert standing([more, fresh]) is more, "an independent test stands beside"


def test_playing_is_stopped_without_losing_what_was_played(pair):
    kept = []

    class Interrupted(Tossed):
        def __call__(self, policy, seeds, **options):
            if len(kept) == 2:
                raise KeyboardInterrupt
            return super().__call__(policy, seeds, **options)

    with pytest.raises(KeyboardInterrupt):
        certify(*pair, Interrupted(noise=12), return_range=RANGE, on_batch=kept.append)
    assert [len(one.returns) for one in kept] == [200, 400]
    done = certify(*pair, Tossed(noise=12), return_range=RANGE, earlier=kept[-1:])
    assert done.to_dict() == certify(*pair, Tossed(noise=12), return_range=RANGE).to_dict()


def test_candidates_of_one_sequence_share_seeds_and_the_teacher_s_episodes(pair):
    env = Tossed(noise=5)
    begun = replace(certify(*pair, env, return_range=RANGE, max_episodes=1))
    teacher, random = Player(GraphPolicy(pair[0]), env), random_player(env)
    for _ in range(2):
        play_on(begun, Players(teacher, Player(GraphPolicy(pair[1]), env), random), 200)
    asked = [seed for name, seeds in env.asked for seed in seeds if name == "teacher"]
    last = stream_seeds("certify", begun.claim.nonce, 100, begun.returns.seeds)
    assert all(asked.count(int(seed)) == 1 for seed in last)


def test_worst_decile_is_the_mean_of_the_worst_tenth():
    assert worst_decile(np.arange(100.0)) == pytest.approx(4.5)
