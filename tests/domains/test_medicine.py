"""The environments of ``examples/medicine.py`` and ``examples/diagnosis.py``: published values, parity, prices."""

from __future__ import annotations

import warnings
from importlib.util import find_spec

import gymnasium
import numpy as np
import pytest

from examples import diagnosis, medicine
from nimbleq.config import EnvConfig
from nimbleq.rl.training.evaluate import Evaluator
from nimbleq.types import Array


@pytest.fixture(scope="module")
def ward() -> medicine.Ward:
    if find_spec("icu_sepsis") is None:
        pytest.skip("needs nimbleq[medicine]")
    return medicine.Ward()


def test_the_published_survival(ward: medicine.Ward) -> None:
    best = ward.optimum()
    assert ward.survival(ward.uniform) == pytest.approx(0.7801, abs=5e-5)
    assert ward.survival(ward.clinicians) == pytest.approx(0.7818, abs=5e-5)
    assert ward.survival(best) == pytest.approx(0.8751, abs=5e-5)
    assert (best <= ward.mask).all()


def test_no_change_of_one_action_improves_the_optimum(ward: medicine.Ward) -> None:
    best = ward.optimum()
    states = np.flatnonzero(ward.mask.sum(axis=1) > 1)
    for state in np.random.default_rng(0).choice(states, 4, replace=False):
        other = best.copy()
        other[state] = ward.uniform[state]
        assert ward.survival(other) <= ward.survival(best) + 1e-12


def test_episodes_are_those_of_the_package(ward: medicine.Ward) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the package imports
        pytest.importorskip("icu_sepsis", exc_type=ImportError)
    theirs, ours = gymnasium.make("Sepsis/ICU-Sepsis-v2", disable_env_checker=True), medicine.Sepsis()
    rng = np.random.default_rng(0)
    for seed in range(20):
        state, told = theirs.reset(seed=seed)
        obs, info = ours.reset(seed=seed)
        over = False
        while not over:
            assert state == ours.state
            assert info["admissible_actions"] == told["admissible_actions"]
            assert np.array_equal(obs, told["state_vector"].astype(np.float32))
            action = int(rng.choice(info["admissible_actions"]))
            state, paid, ended, _, told = theirs.step(action)
            obs, reward, over, _, info = ours.step(action)
            assert (paid, ended) == (reward, over)


def test_sampled_episodes_agree_with_the_linear_system(ward: medicine.Ward) -> None:
    def first(obs: Array, mask: Array) -> Array:
        return mask.argmax(axis=1)

    with Evaluator(EnvConfig("examples.medicine:Sepsis", max_episode_steps=500), envs=64) as evaluate:
        returns = evaluate(first, range(600)).returns
    exact = ward.survival(ward.choice(first(ward.obs, ward.mask)))
    assert abs(returns.mean() - exact) < 4 * (exact * (1 - exact) / len(returns)) ** 0.5
    expected = ward(first, range(600))
    assert expected.returns.mean() == pytest.approx(exact, abs=0.03)
    seen = ward(first, range(600), keep_obs=2_000)
    assert seen.obs is not None
    assert seen.masks is not None
    assert len(seen.obs) == len(seen.masks) == 2_000


def test_an_illegal_action_is_an_error(ward: medicine.Ward) -> None:
    clinic = medicine.Sepsis()
    _, info = clinic.reset(seed=1)
    [illegal, *_] = set(range(medicine.ACTIONS)) - set(info["admissible_actions"])
    with pytest.raises(ValueError, match="not admissible"):
        clinic.step(illegal)
    with pytest.raises(ValueError, match="not admissible"):
        ward.choice(ward.mask.argmin(axis=1))


def test_every_patient_is_unseen_once() -> None:
    pytest.importorskip("sklearn")
    unseen = [diagnosis.patients(fold, training=False).tests for fold in range(diagnosis.FOLDS)]
    learnt = [diagnosis.patients(fold, training=True).tests for fold in range(diagnosis.FOLDS)]
    assert sum(map(len, unseen)) == 569
    rows = {row.tobytes() for part in unseen for row in part}
    assert len(rows) == 569, "no patient twice"
    assert all(
        not {row.tobytes() for row in a} & {row.tobytes() for row in b} for a, b in zip(unseen, learnt, strict=True)
    )


def test_a_visit_costs_its_tests_and_shows_no_more() -> None:
    pytest.importorskip("sklearn")
    clinic = diagnosis.Clinic(cost=0.02)
    obs, info = clinic.reset(options={"patient": 3})
    assert not obs.any()
    assert info["action_mask"].all()
    obs, reward, over, _, info = clinic.step(4)
    assert (reward, over) == (-0.02, False)
    assert np.array_equal(obs[12:15], clinic.patients.tests[3, 4])
    assert np.count_nonzero(obs) == 4, "three values and the flag"
    assert np.flatnonzero(~info["action_mask"]).tolist() == [4]
    benign = bool(clinic.patients.benign[3])
    assert clinic.step(diagnosis.TESTS + benign)[1:3] == (1.0, True)


def test_logistic_regression_is_as_good_as_it_is_known_to_be() -> None:
    pytest.importorskip("sklearn")
    right = np.concatenate([diagnosis.logistic_regression(fold) for fold in range(diagnosis.FOLDS)])
    assert 0.96 < right.mean() < 0.99
