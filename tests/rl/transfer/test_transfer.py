"""Transfer: what maps onto what, the teacher's weight, the layers taken, going back to scratch, stops and kills."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from nimbleq.config import EnvConfig, TrainConfig, with_changes
from nimbleq.errors import ConfigError
from nimbleq.graph.artefact import load_artefact, save_artefact
from nimbleq.graph.graph import Q
from nimbleq.graph.interface import Interface
from nimbleq.graph.interpret import interpret
from nimbleq.graph.space import Box, Dict
from nimbleq.rl.envs.engines import spec_of
from nimbleq.rl.envs.vector_engine import Environments
from nimbleq.rl.policy_value.pair import training_engine
from nimbleq.rl.rules import check_settings
from nimbleq.rl.training.race import SCRATCH, TRANSFER, Race
from nimbleq.rl.training.state import new_state
from nimbleq.rl.training.train import train
from nimbleq.rl.transfer.mapping import observed_columns, same_actions
from nimbleq.rl.transfer.source import open_source
from nimbleq.rl.transfer.teacher import Standing
from nimbleq.rl.transfer.transfer import Transfer
from nimbleq.rundir import RunDir
from tests.rl.saved import assert_same_run
from tests.rl.training.test_train import Stop

CUE = "tests.rl.transfer.transfer_envs:Cue"


def config_of(*kwargs: str, **changes: Any) -> TrainConfig:
    """A few hundred steps of `Cue`."""
    settings = {
        "network.hidden": (12, 8), "network.normalize_obs": False, "replay.n_step": 1, "learner.gamma": 0.0,
        "learner.lr": 5e-3, "learner.lr_end": 5e-3, "learner.batch_size": 32, "explore.updates": 50, "envs": 4,
        "learn_start": 100, "steps": 1_200, "evaluation.every": 60, "evaluation.episodes": 4,
        "evaluation.final_episodes": 8, "checkpoint_seconds": 1e9, "evaluation.beside": False,
        "transfer.teacher_share": 0.1, "transfer.offline_updates": 60, "transfer.weight_share": 0.5,
        "transfer.patience": 3,
    }  # fmt: skip
    made: TrainConfig = with_changes(TrainConfig(), settings | changes)
    return replace(made, env=EnvConfig(CUE, kwargs=kwargs))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that knows the cue, as an artefact."""
    folder = tmp_path_factory.mktemp("source")
    trained = train(config_of(), RunDir(folder / "run"))
    assert trained.final.returns.mean() > 6
    obs = np.zeros((1, 2), np.float32)
    return save_artefact(folder / "policy", trained.graph, obs, {}, interface=trained.spec.interface).path


def from_source(source: Path, *kwargs: str, **changes: Any) -> TrainConfig:
    return config_of(*kwargs, **{"transfer.source": str(source), **changes})


def box(*shape: int, **more: Any) -> Box:
    return Box(shape, **more)


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (box(3), box(3, low=-1.0, high=1.0), None),
        (Dict((("a", box(1)), ("b", box(2)))), Dict((("b", box(2)), ("c", box(1)), ("a", box(1)))), [3, 0, 1]),
        (box(4, 10, 10, axes="CHW"), box(4, 10, 10, axes="CHW"), None),
        (box(3), box(4), "no telling which is which"),
        (Dict((("a", box(1)),)), Dict((("b", box(1)),)), "the entry 'a', which the target does not give"),
        (Dict((("a", box(1)), ("b", box(1)))), Dict((("a", box(2)), ("b", box(1)))), "'a' is Box"),
        (box(4, 10, 10, axes="CHW"), box(6, 10, 10, axes="CHW"), "only equal ones"),
        (Dict((("a", box(1)),)), box(2), "no telling which is which"),
    ],
)
def test_observations_are_mapped_by_name_or_shape_or_refused(source: Any, target: Any, expected: Any) -> None:
    pair = Interface(source, 2), Interface(target, 2)
    if isinstance(expected, str):
        with pytest.raises(ConfigError, match=expected):
            observed_columns(*pair)
        return
    found = observed_columns(*pair)
    assert (None if found is None else found.tolist()) == expected


def test_actions_are_the_same_by_number_or_command() -> None:
    def with_commands(*values: float) -> Interface:
        return Interface(box(1), len(values), commands=np.array(values)[:, None])

    assert same_actions(Interface(box(1), 3), Interface(box(1), 3, action_start=1)).tolist() == [0, 1, 2]  # type: ignore[union-attr]
    assert same_actions(Interface(box(1), 3), Interface(box(1), 4)) is None
    assert same_actions(with_commands(-1, 1), with_commands(1, 0, -1)).tolist() == [2, 0]  # type: ignore[union-attr]
    assert same_actions(with_commands(-1, 2), with_commands(1, 0, -1)) is None
    assert same_actions(with_commands(-1, 1), Interface(box(1), 2)) is None


def transfer_of(config: TrainConfig, run: RunDir) -> Transfer:
    opened = open_source(config, run)
    assert opened is not None
    return Transfer(config, opened, spec_of(config.env))


def test_the_teacher_acts_in_another_layout_and_its_weight_falls(source: Path, tmp_path: Path) -> None:
    transfer = transfer_of(from_source(source, "names='noise,other,cue'"), RunDir(tmp_path))
    obs = np.random.default_rng(0).uniform(-1, 1, (200, 3)).astype(np.float32)
    assert (transfer.act(obs, None) == (obs[:, 2] > 0)).mean() > 0.9
    assert transfer.weight(0) == 0
    transfer.standing = Standing(100.0, 20.0, 0.5)
    for student, weight in ((None, 1.0), (20.0, 1.0), (60.0, 0.5), (100.0, 0.0), (130.0, 0.0), (-40.0, 1.0)):
        transfer.student_return = student
        assert transfer.weight(0) == weight
    transfer.standing = Standing(-50.0, -450.0, 0.5)  # returns below 0 are no special case
    transfer.student_return = -150.0
    assert [transfer.weight(steps) for steps in (0, 300, 600, 900)] == [0.25, 0.125, 0.0, 0.0]
    assert [transfer.teaches(*when) for when in ((0, 0), (119, 60), (120, 59), (120, 60))] == [True, True, True, False]
    assert [transfer.rounds(updates) for updates in (0, 59, 60)] == [100, 100, 1]


def test_a_run_with_a_source_trains_two_learners_and_keeps_the_best(source: Path, tmp_path: Path) -> None:
    said: list[str] = []
    run = RunDir(tmp_path / "run")
    trained = train(from_source(source, "names='noise,cue'"), run, say=said.append)
    outcome = trained.transfer
    assert outcome is not None
    assert json.loads(run.transfer.read_text()) == outcome._asdict()
    assert outcome.teacher_return is not None
    assert outcome.teacher_return > 6 > abs(outcome.random_return or 0)
    assert said == [outcome.why]
    assert trained.steps == 1_200  # both play: no step is counted twice
    assert trained.summary()["transfer"]["goes_on"] == outcome.goes_on
    assert trained.final.returns.mean() > 6


def test_a_teacher_that_is_wrong_everywhere_is_not_listened_to(source: Path, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    trained = train(from_source(source, "good=-1.0"), run)
    assert trained.transfer is not None
    assert trained.transfer.goes_on == SCRATCH
    assert "random play" in trained.transfer.why
    alone = train(config_of("good=-1.0"), RunDir(tmp_path / "alone"))
    assert all(np.array_equal(trained.weights[name], alone.weights[name]) for name in alone.weights)


def test_layers_that_hurt_are_given_up(source: Path, tmp_path: Path) -> None:
    """Layers of a source whose units never fire learn nothing."""
    dead = load_artefact(source)
    graph = dead.graph.with_weights(
        {name: np.full_like(array, -1.0) for name, array in dead.graph.weights.items() if name.startswith("body.0.")}
    )
    place = save_artefact(tmp_path / "dead", graph, np.zeros((1, 2), np.float32), {}, interface=dead.interface).path
    changes = {"transfer.method": "frozen", "transfer.frozen_layers": 2, "transfer.frozen_updates": 5_000}
    trained = train(from_source(place, **changes), RunDir(tmp_path / "run"))
    outcome = trained.transfer
    assert outcome is not None
    assert outcome.goes_on == SCRATCH, outcome.why
    assert outcome.scratch_return is not None
    assert outcome.transfer_return is not None
    assert outcome.scratch_return > outcome.transfer_return
    alone = train(config_of(), RunDir(tmp_path / "alone"))
    assert trained.final.returns.mean() == pytest.approx(alone.final.returns.mean(), abs=3)


def race_of(config: TrainConfig, run: RunDir) -> Race:
    spec = spec_of(config.env)
    return Race(config, transfer_of(config, run), training_engine(config, spec), spec)


@pytest.mark.parametrize(
    ("checks", "goes_on"),
    [
        ([(5, 9), (5, 9), (5, 9)], SCRATCH),
        ([(9, 5), (9, 5), (9, 5)], TRANSFER),
        ([(5, 9), (5, 9), (9, 5), (5, 9), (5, 9)], None),  # not one after the other
        ([(5, 5), (5, 5), (5, 5)], None),
        ([(9, 5), (9, 5), (5, 9), (5, 9), (5, 9)], SCRATCH),  # ahead at first, as a taught one is, and then left behind
    ],
)
def test_who_is_behind_in_every_check_of_a_row_is_given_up(
    source: Path, tmp_path: Path, checks: list[tuple[float, float]], goes_on: str | None
) -> None:
    race = race_of(from_source(source), RunDir(tmp_path))
    for steps, (transfer, scratch) in enumerate(checks):
        assert race.outcome is None
        race.checked(TRANSFER, transfer, False, steps)
        race.checked(SCRATCH, scratch, False, steps)
    assert (race.outcome and race.outcome.goes_on) == goes_on


def test_who_solves_the_task_first_has_won(source: Path, tmp_path: Path) -> None:
    race = race_of(from_source(source), RunDir(tmp_path))
    race.checked(TRANSFER, 9.0, False, 10)
    race.checked(SCRATCH, 8.0, True, 20)
    assert race.outcome is not None
    assert (race.outcome.goes_on, race.outcome.steps) == (SCRATCH, 20)


def test_each_acts_in_half_of_the_environments_and_they_change_places(source: Path, tmp_path: Path) -> None:
    config = from_source(source, **{"transfer.teacher_share": 1.0, "envs": 4})
    race, state = race_of(config, RunDir(tmp_path)), new_state(config_of(envs=4))
    envs = cast(Environments, state.envs)
    wrong = np.full(4, 7)
    ours = [race.explore(wrong, envs, steps) != 7 for steps in (0, 4, 4 * 256)]
    assert [row.tolist() for row in ours] == [[True, False] * 2, [True, False] * 2, [False, True] * 2]
    envs.close()


@pytest.mark.parametrize("engine", ["native", "torch"])
def test_layers_are_taken_and_the_head_only_for_the_same_actions(source: Path, tmp_path: Path, engine: str) -> None:
    changes = {"transfer.method": "finetune", "learner.engine": engine}
    given = load_artefact(source).graph.weights
    for kwargs, same in ((("names='noise,cue'", "actions=3"), False), (("names='noise,cue'",), True)):
        learner = race_of(from_source(source, *kwargs, **changes), RunDir(tmp_path / str(same))).learner
        weights = learner.weights()
        assert np.array_equal(weights["body.0.weight"][:, ::-1], given["body.0.weight"])
        assert np.array_equal(weights["body.3.weight"], given["body.3.weight"])
        assert weights["advantage.weight"].shape == (2 if same else 3, 8)
        if same:
            assert np.array_equal(weights["advantage.weight"], given["q.weight"])
        arrays = learner.arrays()
        assert all(np.array_equal(arrays[f"online.{name}"], weights[name]) for name in weights)


def test_layers_keep_the_statistics_that_they_were_learnt_with(tmp_path: Path) -> None:
    normalised = {"network.normalize_obs": True}
    trained = train(config_of(**normalised, steps=400), RunDir(tmp_path / "run"))
    obs = np.zeros((1, 2), np.float32)
    place = save_artefact(tmp_path / "policy", trained.graph, obs, {}, interface=trained.spec.interface).path
    config = from_source(place, "names='noise,cue'", **normalised, **{"transfer.method": "finetune"})
    race = race_of(config, RunDir(tmp_path / "other"))
    race.set_obs_stats(np.full(2, 9.0, np.float32), np.ones(2, np.float32))
    seen = np.random.default_rng(0).uniform(-1, 1, (50, 2)).astype(np.float32)
    expected = interpret(trained.graph, seen)[Q]
    assert np.allclose(race.learner.q(np.ascontiguousarray(seen[:, ::-1])), expected, atol=1e-5)


@pytest.mark.parametrize("method", ["qdagger", "frozen"])
def test_interrupted_and_resumed_equals_uninterrupted(source: Path, tmp_path: Path, method: str) -> None:
    """While both learn, and after one was given up."""
    config = from_source(source, **{"transfer.method": method, "transfer.frozen_updates": 100})
    whole, parts = RunDir(tmp_path / "whole"), RunDir(tmp_path / "parts")
    expected = train(config, whole)
    for stop in (60, 120, 80):
        with pytest.raises(KeyboardInterrupt):
            train(config, parts, Stop(stop), resume=True)
    trained = train(config, parts, resume=True)
    assert_same_run(whole, parts)
    assert trained.transfer == expected.transfer
    assert np.array_equal(expected.final.returns, trained.final.returns)


@pytest.mark.parametrize(
    ("kwargs", "changes", "words"),
    [
        (("actions=3",), {}, "has 2 actions and .* has 3.*finetune"),
        (("names='cue,other'",), {}, "the entry 'noise', which the target does not give"),
        ((), {"transfer.method": "finetune", "network.hidden": (5, 8)}, "has the shape"),
        ((), {"transfer.method": "frozen", "transfer.frozen_layers": 3}, "within 1 and 2"),
        ((), {"policy.network": "4"}, "do not go together"),
        ((), {"learner.engine": "device"}, "learner.engine must be auto or native or torch"),
    ],
)
def test_what_does_not_fit_is_refused(
    source: Path, tmp_path: Path, kwargs: tuple[str, ...], changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        train(from_source(source, *kwargs, **changes), RunDir(tmp_path / "run"))


def test_places_without_a_policy_and_replays_that_pqn_has_not(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither a run nor an artefact"):
        open_source(from_source(tmp_path), RunDir(tmp_path / "run"))
    with pytest.raises(ConfigError, match="which pqn has not: use finetune"):
        check_settings(from_source(source, algorithm="pqn", **{"learner.batch_size": 128}))
