"""``examples/driving.py``: the car by rule, and that all drive the same episodes."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from examples import driving
from nimbleq.config import EnvConfig
from nimbleq.rl.envs.engines import make_env_batch
from nimbleq.verbs.watch import without_screen

pytest.importorskip("highway_env")


@pytest.mark.parametrize("road", ["merge-v0", "roundabout-v0"])
def test_the_same_seeds_and_a_car_by_rule(road: str) -> None:
    first, again = (driving.driven(road, lambda obs: driving.IDLE, [7]) for _ in range(2))
    assert np.array_equal(first.returns, again.returns)
    ruled = driving.driven(road, lambda obs: driving.IDLE, [7], by_rule=True)
    assert ruled.speed[0] != first.speed[0], "it does not idle"
    assert np.isfinite([ruled.returns[0], ruled.speed[0]]).all()
    assert ruled.speed[0] > 3


def test_a_road_of_envpool_looks_like_highway_env() -> None:
    pytest.importorskip("envpool")
    from nimbleq.config import EnvConfig
    from nimbleq.rl.envs.envpool import PoolEnv

    pool = PoolEnv(EnvConfig("highway_env:highway-fast-v0", max_episode_steps=30), 8, 0)
    assert pool.obs.shape == (8, 25)
    cars = pool.obs.reshape(8, 5, 5)
    assert (cars[:, :, 0] == 1).all(), "five cars are near"
    assert cars[:, 0, 3] == pytest.approx(np.full(8, 25 / 80), abs=1e-3), "ours begins at 25 m/s, in units of 80"
    pool.close()


def test_it_can_be_watched() -> None:
    """The picture of an episode is not black."""
    with without_screen(), closing(make_env_batch(EnvConfig("highway_env:merge-v0"), 1, pictures=True)) as batch:
        batch.reset(0, 0)
        picture = batch.picture(0)
    assert picture is not None
    assert picture.mean() > 10
