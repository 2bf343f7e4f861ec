"""The Crazyflie: what crazyflow does with the actions, many flights as each alone, and what its pilots are worth."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

if find_spec("crazyflow") is None:
    pytest.skip("needs nimbleq[robot]", allow_module_level=True)

from examples import crazyflie, robot
from examples.crazyflie import ACTIONS, DECISION_HZ, STILL, Eight, FigureOfEight, Pillar, commands
from nimbleq.config import EnvConfig
from nimbleq.rl.envs.engines import env_engine
from nimbleq.rl.envs.gymnasium import make_env
from nimbleq.rl.envs.vector import VectorEnv

ENV = "examples.crazyflie:FigureOfEight"
pytestmark = pytest.mark.filterwarnings("ignore:Attaching a spec:UserWarning")  # MuJoCo's, of crazyflow's own drone


def test_commands_tilt_and_lift() -> None:
    table = commands()
    assert table.shape == (ACTIONS, 4)
    assert len(np.unique(table, axis=0)) == ACTIONS
    assert table[STILL] == pytest.approx([0, 0, 0, crazyflie.weight()])


def test_what_carries_it_carries_it() -> None:
    flights = FigureOfEight.many(1)
    flights.reset(0, 3)
    flights.pos[0], flights._vel[0] = (0, 0, 1), 0
    for _ in range(DECISION_HZ):
        obs, *_ = flights.step(np.array([0]), np.array([STILL]))
    assert flights.pos[0] == pytest.approx([0, 0, 1], abs=0.01)
    assert obs[0, 12] == pytest.approx(1, abs=0.01), "it feels its weight"


@pytest.mark.parametrize(
    ("action", "axis", "sign"), [(STILL + 1, 2, 1), (STILL - 1, 2, -1), (STILL + 3, 0, 1), (STILL + 9, 1, -1)]
)
def test_each_command_moves_it(action: int, axis: int, sign: int) -> None:
    flights = FigureOfEight.many(1)
    flights.reset(0, 3)
    flights.pos[0], flights._vel[0] = (0, 0, 1), 0
    for _ in range(DECISION_HZ // 2):
        flights.step(np.array([0]), np.array([action]))
    moved = flights.pos[0] - (0, 0, 1)
    assert sign * moved[axis] > 0.03
    assert np.abs(np.delete(moved, axis)).max() < abs(moved[axis])


def test_a_flight_follows_from_its_seed_and_actions_alone_or_beside_others() -> None:
    actions = np.random.default_rng(0).integers(ACTIONS, size=60)
    one, many = FigureOfEight.many(1), FigureOfEight.many(5)
    for index in range(5):
        many.reset(index, 10 + index)
    first = [one.reset(0, 12), many.reset(2, 12)]
    assert np.array_equal(*first)
    for action in actions:
        alone, reward, crashed, over = one.step(np.array([0]), np.array([action]))
        seen = many.step(np.arange(5), np.full(5, action))
        assert seen[0][2] == pytest.approx(alone[0], abs=2e-3)
        assert seen[1][2] == pytest.approx(reward[0], abs=2e-3)
        assert not crashed[0]
        assert not over[0]


def test_it_is_stepped_many_at_once_and_resumes() -> None:
    config = EnvConfig(ENV)
    assert env_engine(config).name == "many at once"
    assert make_env(config).interface.plain
    envs, again = (VectorEnv(config, 3, seed=1) for _ in range(2))
    actions = np.random.default_rng(1).integers(ACTIONS, size=(20, 3))
    for action in actions:
        envs.step(action)
    again.load_arrays(envs.arrays())
    assert np.array_equal(envs.step(actions[0]).next_obs, again.step(actions[0]).next_obs)


def test_falling_is_a_crash_and_time_is_up() -> None:
    flights, limit = FigureOfEight.many(1), 10 * DECISION_HZ
    flights.reset(0, 0)
    down, time = False, 0
    while not down:
        time += 1
        _, reward, crashed, _ = flights.step(np.array([0]), np.array([0]))
        down = bool(crashed[0])
    assert reward[0] == -1
    assert time < limit / 2
    flights.reset(0, 0)
    over = [bool(flights.step(np.array([0]), np.array([STILL]))[3][0]) for _ in range(limit)]
    assert over == [False] * (limit - 1) + [True]


def test_the_controller_follows_the_eight_and_runs_into_the_pillar() -> None:
    done = robot.by_controller(FigureOfEight, robot.along_the_eight, range(4))
    assert not done.crashed.any()
    assert 0.005 < robot.tracking_rms(done) < 0.2
    still = robot.by_controller(FigureOfEight, robot.staying, range(4))
    assert robot.tracking_rms(still) > 0.5
    flight = crazyflie.BehindThePillar
    assert robot.by_controller(flight, robot.straight, range(8)).crashed.sum() >= 6
    assert robot.by_controller(flight, robot.around, range(8)).crashed.sum() <= 2


def test_the_reference_is_a_figure_of_eight() -> None:
    time = np.linspace(0, 10, 1_001)
    pos, vel, acc = Eight.reference(np, np.array([10.0]), time)
    assert np.gradient(pos[:, 0], time)[1:-1] == pytest.approx(vel[1:-1, 0], abs=1e-3)
    assert np.gradient(vel[:, 2], time)[1:-1] == pytest.approx(acc[1:-1, 2], abs=1e-3)
    for middle in (0, 500, 1_000):
        assert pos[middle] == pytest.approx([0, 0, 1], abs=1e-9)


def test_the_straight_way_always_leads_into_the_pillar() -> None:
    for seed in range(200):
        pos, _, course = Pillar.begin(np.random.default_rng(seed), 0)
        line = course[:2] - pos[:2]
        away = course[3:] - pos[:2]
        gap = abs(line[0] * away[1] - line[1] * away[0]) / np.linalg.norm(line)
        assert gap < Pillar.RADIUS
