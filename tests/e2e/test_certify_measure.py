"""``nimbleq certify --measure`` and ``--vary``: what is feared of one policy, and variations of the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from nimbleq.compress.certify.limit import Limit, LimitCertificate, LimitClaim, certify_limit, limits_of, record_limits
from nimbleq.compress.certify.stream import Player
from nimbleq.config import EnvConfig, to_dict
from nimbleq.errors import ConfigError, FileError
from nimbleq.files import write_json
from nimbleq.graph.artefact import read_certificate, save_artefact
from nimbleq.rundir import RunDir
from nimbleq.types import Episodes
from nimbleq.verbs.certify_cells import Cell, cells_of, worst_of
from tests.balancing import balancing
from tests.e2e.support import one_line

STEPS = 4


class Crashing(gymnasium.Env[Any, Any]):
    """Four steps that are worth 1 each; with probability ``rate`` an episode crashes in its second one."""

    observation_space = gymnasium.spaces.Box(-9, 9, (4,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, rate: float = 0.0, gravity: float = 1.0, says: str = "crash", scale: float = 1.0) -> None:
        self.rate, self.gravity, self.says, self.scale = rate, gravity, says, scale

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.time, self.crashes = 0, self.np_random.random() < self.rate
        return np.zeros(4, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.time += 1
        crashed = self.crashes and self.time == 2
        info = {self.says: crashed * self.scale, "late": {"share": self.time / STEPS}}
        # The better action is the one that the weights of the policy below choose where gravity is low.
        reward = float(action == (self.gravity > 5))
        return np.full(4, self.gravity, np.float32), reward, self.time == STEPS, False, info


def run_of(path: Path, **kwargs: Any) -> RunDir:
    run = RunDir(path)
    env = EnvConfig(f"{__name__}:Crashing", kwargs=tuple(f"{name}={value}" for name, value in kwargs.items()))
    write_json(run.config, {"format": 1, "nimbleq": "0", "env": to_dict(env)})
    run.save_result("train", {})
    obs = np.zeros((1, 4), np.float32)
    save_artefact(run.teacher, balancing(-1.0), obs, {})
    save_artefact(run.artefact("small"), balancing(-2.0), obs, {})
    return run


def words(run: RunDir, *more: str) -> tuple[Any, ...]:
    return ("certify", run.artefact("small"), "--workers", "1", *more, "--json")


def test_a_policy_that_never_crashes_is_certified_and_plays_on(inline: Any, tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    asked = words(run, "--measure", "info:crash", "--at-most", "0.02")
    first = inline(*asked, "--max-episodes", "50")
    assert (first.code, first.json["certified"], first.json["episodes_played"]) == (1, False, 50)
    assert "needs about" in first.err
    second = inline(*asked)
    assert (second.code, second.json["mean"], second.json["attempt"]) == (0, 0.0, 1)
    assert 150 < second.json["episodes"] < 220
    assert second.json["mean_upper95"] < 0.02
    stored = read_certificate(run.artefact("small"), "info-crash-max")
    assert stored is not None
    (kept,) = limits_of(stored)
    assert kept.certified
    assert inline(*asked).json == second.json, "what is certified needs no more episodes"
    easier = inline(*words(run, "--measure", "info:crash", "--at-most", "0.1"))
    assert easier.json["at_most"] == 0.02, "the stronger claim holds already"
    with pytest.raises(FileError, match="certified"):
        LimitCertificate.from_dict(stored | {"certified": False})
    outside = stored["values"] | {"values": [2.0, *stored["values"]["values"][1:]]}
    with pytest.raises(FileError, match="leaves"):
        LimitCertificate.from_dict(stored | {"values": outside})


def test_a_planted_policy_that_crashes_rarely_is_refused(inline: Any, tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", rate=0.04)
    done = inline(*words(run, "--measure", "info:crash", "--at-most", "0.01", "--max-episodes", "800"))
    assert (done.code, done.json["certified"]) == (1, False)
    assert done.json["mean"] == pytest.approx(0.04, abs=0.02)
    assert "refused" in done.json["reason"]


def test_the_largest_the_mean_and_the_last_value_of_an_episode(inline: Any, tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    for reduction, value in (("", 1.0), (":mean", 2.5 / STEPS), (":last", 1.0)):
        asked = ("--measure", f"info:late.share{reduction}", "--at-least", "0.3", "--max-episodes", "2")
        done = inline(*words(run, *asked))
        assert done.json["mean"] == pytest.approx(value, abs=1e-7)
        assert "at_least" in done.json


@pytest.mark.parametrize(
    ("kwargs", "more", "named"),
    [
        ({"scale": 3.0, "rate": 1.0}, ("--measure", "info:crash", "--at-most", "0.1"), "is 3: a measure is in [0, 1]"),
        ({"says": "'other'"}, ("--measure", "info:crash", "--at-most", "0.1"), "never said info['crash']"),
        ({}, ("--measure", "info:crash"), "either --at-most or --at-least"),
        ({}, ("--measure", "crash", "--at-most", "0.1"), "info:NAME"),
        ({}, ("--measure", "info:crash:median", "--at-most", "0.1"), "max, mean, last"),
        ({}, ("--measure", "info:crash", "--at-most", "0"), "never, or always, happens"),
        ({}, ("--at-most", "0.1"), "--measure info:NAME"),
        ({}, ("--measure", "info:crash", "--at-most", "0.1", "--keep", "0.9"), "no --keep"),
        ({}, ("--vary", "gravity=3:1"), "LOW is below HIGH"),
        ({}, ("--vary", "gravity"), "NAME=LOW:HIGH"),
        ({}, ("--vary", "lift=1:2"), "lift"),
        ({}, ("--vary", "gravity=1:2:99"), "64 are the most"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    inline: Any, tmp_path: Path, kwargs: dict[str, Any], more: tuple[str, ...], named: str
) -> None:
    run = run_of(tmp_path / "run", **kwargs)
    asked = ("certify", run.artefact("small"), "--workers", "1", "--max-episodes", "40", *more)
    assert named in one_line(inline(*asked))
    assert not list(run.artefact("small").glob("certificate*"))


def test_every_variation_has_to_hold_and_the_worst_is_the_claim(inline: Any, tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    asked = words(run, "--vary", "gravity=1,2", "--keep", "0.5", "--return-range", "0,4")
    done = inline(*asked)
    assert (done.code, done.json["certified"], len(done.json["cells"])) == (0, True, 2)
    assert [cell["wealth_needed"] for cell in done.json["cells"]] == [pytest.approx(1 / (0.8 * 0.025))] * 2
    assert inline(*asked).json == done.json, "both play on, and need nothing"
    worse = inline(*words(run, "--vary", "gravity=1,9", "--keep", "0.5", "--return-range", "0,4"))
    assert (worse.code, worse.json["certified"], worse.json["vary"]) == (1, False, "gravity=9")
    assert [cell["certified"] for cell in worse.json["cells"]] == [True, False]
    both = inline(*words(run, "--vary", "rate=0,0.3", "--measure", "info:crash", "--at-most", "0.05"))
    assert (both.code, both.json["vary"]) == (1, "rate=0.3")
    assert [cell["certified"] for cell in both.json["cells"]] == [True, False]


def test_cells() -> None:
    cells = cells_of(("gravity=-12:-8", "wind=a,b"), 0.05)
    assert len(cells) == 10
    assert {cell.alpha for cell in cells} == {0.005}
    assert [cell.kwargs[0] for cell in cells[::2]] == [f"gravity={value}" for value in (-11.6, -10.8, -10, -9.2, -8.4)]
    assert [cell.kwargs[0] for cell in cells_of(("g=0:1:2",), 0.05)] == ["g=0.25", "g=0.75"]
    env = EnvConfig("X", kwargs=("gravity=-10", "other=1"))
    assert Cell(("gravity=-11",), 0.1).env(env).kwargs == ("other=1", "gravity=-11")
    assert len({cell.file for cell in cells}) == len({cell.student("hash") for cell in cells}) == 10
    rows = [
        {"certified": done, "wealth": wealth, "wealth_needed": 50.0} for done, wealth in ((True, 90.0), (False, 3.0))
    ]
    assert worst_of(rows) is rows[1]


def test_it_errs_no_more_often_than_promised() -> None:
    """At the boundary, and above it, by simulation: rare crashes, and values in between."""
    rng = np.random.default_rng(0)
    false = 0
    for trial in range(400):
        shown, claim = LimitCertificate, LimitClaim(Limit("crash", 0.02), "s", 1, 0.05, "certify", trial)
        values = (rng.random(1_500) < 0.0201).astype(float) if trial % 2 else rng.beta(0.2, 9.7, 1_500)
        false += shown(claim, np.arange(len(values)), values).certified
    assert false <= 28, "5 % of 400 and two standard errors"


def test_crashes_of_the_environment_count_as_the_worst_value() -> None:
    from nimbleq.errors import EnvError

    class Sometimes:
        def __call__(self, policy: Any, seeds: Any, *, epsilon: float = 0.0, keep_obs: int = 0) -> Episodes:
            if any(seed % 3 == 0 for seed in seeds):
                raise EnvError("it broke")
            return Episodes(np.array(seeds), np.zeros(len(seeds)), np.ones(len(seeds), int))

    limit = Limit("late", 0.1)
    player = Player(lambda obs: obs, Sometimes(), limit.worst)
    made = certify_limit(limit, "graph", player, max_episodes=60)
    assert made.mean == pytest.approx(np.mean(made.seeds % 3 == 0))
    assert len(made.crashed) == round(made.mean * len(made.values))
    assert limits_of(record_limits([made]))[0].crashed == made.crashed
    with pytest.raises(ConfigError, match="above 0 and below 1"):
        Limit("late", 1.0)
