"""Driving on a highway, at a merge and at a roundabout, beside cars that drive by rule, over the same 100 episodes.

    pip install 'nimbleq[driving]'
    python examples/driving.py [run directory [road [episodes [steps]]]]

The environments are highway-env's. Once a second the policy sees the five nearest cars and chooses faster, slower,
left, right or idle. highway-env does about 25 steps a second, so training steps envpool's copy of it in C++ (parity:
docs/driving.md), but at the roundabout, where that is another road; everything that is said of the policy is driven in
highway-env itself. Run it from the folder above ``examples``.
"""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from nimbleq import Runtime
from nimbleq.cli import main as command_line
from nimbleq.types import Array


class Road(NamedTuple):
    """Attributes:
    limit: steps after which an episode is cut, which is where it ends by itself, except at the merge.
    steps: of training.
    train: words of its command line.
    compress: the same, for its small policy.
    """

    limit: int
    steps: int
    train: str
    compress: str


_IN_COPY = (
    "--env-engine envpool --updates-per-step 2 --explore.updates 10000 --learner.lr-updates 30000",
    "--hidden 16 20 32-32 --distill.episodes 256 --distill.by-stake --select-episodes 60 --max-episodes 400",
)
_ITSELF = (
    "--envs 8 --updates-per-step 8 --explore.updates 6000 --learner.lr-updates 20000",
    "--hidden 16 32-32 --distill.rounds 3 --distill.episodes 16 --distill.no-low-fidelity --select-episodes 20 "
    "--max-episodes 100",
)
ROADS = {
    "highway-fast-v0": Road(30, 200_000, *_IN_COPY),
    "merge-v0": Road(40, 200_000, _IN_COPY[0], _ITSELF[1]),
    "roundabout-v0": Road(11, 20_000, *_ITSELF),
}
TRAIN = shlex.split(
    "train --network.hidden 128 128 --learner.gamma 0.9 --replay.n-step 1 --learner.lr-end 1e-4 --explore.end 0.1 "
    "--evaluation.network average --evaluation.every 1000000 --evaluation.episodes 5 --evaluation.final-episodes 10"
)
SEEDS = range(1_000_000, 1_000_100)
"""Of the hundred episodes, which nothing was trained on."""
IDLE, FASTER = 1, 3


class Drives(NamedTuple):
    """Attributes:
    returns: ``[N]``.
    crashed: ``bool[N]``.
    speed: ``[N]`` mean of each episode, in m/s.
    """

    returns: Array
    crashed: Array
    speed: Array


def train_words(road: str) -> list[str]:
    """The command line of a road, without steps and folder."""
    row = ROADS[road]
    return [*TRAIN, *shlex.split(row.train), "--env", f"highway_env:{road}", "--max-episode-steps", str(row.limit)]


def compress_words(road: str) -> list[str]:
    """The same for its small policy: a few sizes, checked and certified in highway-env itself, where an episode takes
    more than a second."""
    return shlex.split(f"--keep 0.7 --recipe distill --workers 1 {ROADS[road].compress}")


def made(road: str) -> Any:
    """The environment of highway-env."""
    import highway_env

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of newer versions of the same road
        gymnasium.register_envs(highway_env)
        return gymnasium.make(road, max_episode_steps=ROADS[road].limit, disable_env_checker=True)


def driven(road: str, act: Callable[[Any], int], seeds: Sequence[int], *, by_rule: bool = False) -> Drives:
    """Episodes from ``seeds``; ``by_rule``: the car drives itself as all the others do."""
    env = made(road)
    returns, crashed, speed = [], [], []
    for seed in seeds:
        obs, _ = env.reset(seed=seed)
        if by_rule:
            drive_by_rule(env.unwrapped)
        total, speeds, over = 0.0, [], False
        while not over:
            obs, reward, terminated, truncated, info = env.step(act(obs))
            total += reward
            speeds.append(info["speed"])
            over = terminated or truncated
        returns.append(total)
        crashed.append(bool(info["crashed"]))
        speed.append(np.mean(speeds))
    return Drives(np.array(returns), np.array(crashed), np.array(speed))


def drive_by_rule(env: Any) -> None:
    """IDM and MOBIL (Treiber, Hennecke, Helbing 2000; Kesting, Treiber, Helbing 2007) in place of the policy's car.

    It wants the highest of the speeds that the policy may choose.
    """
    from highway_env.vehicle.behavior import IDMVehicle
    from highway_env.vehicle.controller import MDPVehicle

    class RuleVehicle(IDMVehicle):
        """With the speed index that the reward of the roundabout asks for."""

        speed_to_index = MDPVehicle.speed_to_index

        @property
        def speed_index(self) -> int:
            """As of `MDPVehicle`."""
            return int(self.speed_to_index(self.speed))

    ours = env.vehicle
    ruled = RuleVehicle.create_from(ours)
    ruled.target_speeds, ruled.target_speed = ours.target_speeds, ours.target_speeds[-1]
    env.road.vehicles[env.road.vehicles.index(ours)] = ruled
    env.vehicle = ruled
    env.action_type.act = lambda action: None


def nimbleq(*words: object) -> None:
    """One command line. Exit code 1 is an answer (what was asked does not hold); 2 ends the example."""
    if command_line([str(word) for word in words]) == 2:
        sys.exit(2)


def main(out: str = "runs/driving", road: str = "highway-fast-v0", episodes: str = "100", steps: str = "") -> None:
    folder = Path(out)
    nimbleq(*train_words(road), "--steps", steps or ROADS[road].steps, "--out", folder)
    nimbleq("compress", folder, *compress_words(road), "--no-scratch")
    nimbleq("export", folder, "--to", "c", "--out", folder / "build", "--name", "driver")
    nimbleq("verify", folder / "build", "--observations", 2000)
    seeds = SEEDS[: int(episodes)]
    policy, rng = Runtime(folder / "artefacts" / "small"), np.random.default_rng(0)
    drivers: dict[str, Drives] = {
        "small policy": driven(road, policy.act, seeds),
        "by rule": driven(road, lambda obs: IDLE, seeds, by_rule=True),
        "at random": driven(road, lambda obs: int(rng.integers(5)), seeds),
    }
    for name, drives in drivers.items():
        print(
            f"{name:12}: return {drives.returns.mean():5.1f}, {drives.crashed.mean():4.0%} crash, "
            f"{drives.speed.mean():4.1f} m/s"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
