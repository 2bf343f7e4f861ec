"""A Crazyflie that flies a figure of eight or to a place behind a pillar, beside its built-in controller.

    pip install 'nimbleq[robot]'
    python -m examples.robot [run directory [task [steps [flights]]]]

The drone and the tasks are in ``examples/crazyflie.py``; training and everything that is said of the policy use
crazyflow itself. It needs an environment of its own, as it excludes the jax of nimbleq's other extras. Run it from the
folder above ``examples``.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import crazyflow
import jax
import jax.numpy as jnp
import numpy as np
from crazyflow.sim import functional

from examples.crazyflie import (
    DECISION_HZ,
    DRONE,
    DYNAMICS,
    HOLD,
    PHYSICS_HZ,
    STILL,
    TASKS,
    Eight,
    Flight,
    begun,
    drones_of,
)
from nimbleq import Runtime
from nimbleq.cli import main as command_line
from nimbleq.types import Array

TRAIN = shlex.split(
    "train --network.dueling --learner.batch-size 256 --envs 128 --updates-per-step 4 --learner.lr-end 1e-4 "
    "--evaluation.network average --evaluation.episodes 128"
)
OWN = {
    "FigureOfEight": shlex.split(
        "--network.hidden 64 64 --learner.gamma 0.97 --replay.capacity 500000 --explore.updates 4000 "
        "--learner.lr-updates 30000 --evaluation.every 2000"
    ),
    "BehindThePillar": shlex.split(
        "--network.hidden 128 128 --learner.gamma 0.99 --replay.n-step 5 --replay.capacity 1000000 "
        "--explore.updates 10000 --learner.lr-updates 90000 --evaluation.every 9000"
    ),
}
"""What a task's training has of its own: the way to a place is longer than the way back to a curve."""
STEPS = {"FigureOfEight": 1_000_000, "BehindThePillar": 3_000_000}
COMPRESS = shlex.split("--recipe distill --max-bytes 1000 --select-episodes 64 --workers 1")
OWN_COMPRESS = {
    "FigureOfEight": shlex.split("--keep 0.95"),
    "BehindThePillar": shlex.split("--keep 0.9 --hidden 12-12"),
}
"""What 1,000 bytes can be shown to keep. Behind the pillar one layer of 16 keeps as much, but crashes more often."""
RANGE = {"FigureOfEight": "-1,500", "BehindThePillar": "-1,300"}
"""Task → between which returns lie: a step pays at most 1, a crash takes 1."""
SEEDS = range(1_000_000, 1_000_100)
"""Of the hundred flights, on which nothing was trained."""


class Flown(NamedTuple):
    """Flights from the same seeds, ``T`` decisions of ``N`` drones.

    Attributes:
        pos: ``float32[T, N, 3]``.
        crashed: ``bool[N]``.
        flying: ``bool[T, N]`` not crashed yet.
        course: ``float32[N, C]``.
    """

    pos: Array
    crashed: Array
    flying: Array
    course: Array


def _flown(steps: list[tuple[Array, Array]], course: Array) -> Flown:
    pos, crash = (np.stack(parts) for parts in zip(*steps, strict=True))
    flying = ~np.maximum.accumulate(crash, axis=0)
    return Flown(pos, ~flying[-1], flying, course)


def flown(flight: type[Flight], act: Callable[[Any], int], seeds: Sequence[int], lap: float = 10.0) -> Flown:
    """Flights of a policy, one call of ``act`` a decision and drone."""
    every, flights = np.arange(len(seeds)), flight.many(len(seeds), lap)
    obs = np.stack([flights.reset(index, seed) for index, seed in enumerate(seeds)])
    steps = []
    for _ in range(round(flight.task.seconds * DECISION_HZ)):
        obs, _, crashed, _ = flights.step(every, np.array([act(one) for one in obs]))
        steps.append((flights.pos[every], crashed))
    return _flown(steps, flights.course[every])


Way = Callable[[Any, Any, Any], Any]
"""``(start[…, 3], course[…, C], time[…]) → […, 3]`` where to be."""


def along_the_eight(start: Any, course: Any, time: Any) -> Any:
    """The figure of eight."""
    return Eight.reference(jnp, course, time)[0]


def staying(start: Any, course: Any, time: Any) -> Any:
    """Where it began."""
    return start + 0 * time[..., None]


def straight(start: Any, course: Any, time: Any) -> Any:
    """To the place behind the pillar in three seconds, as if there were none; least jerk (Flash and Hogan 1985)."""
    part = jnp.clip(time / 3, 0, 1)[..., None]
    return start + (10 * part**3 - 15 * part**4 + 6 * part**5) * (course[..., :3] - start)


def around(start: Any, course: Any, time: Any) -> Any:
    """The same with a bow of 0.6 m on the side that leads away from the pillar's axis."""
    part = jnp.clip(time / 3, 0, 1)[..., None]
    part = 10 * part**3 - 15 * part**4 + 6 * part**5
    line = course[..., :2] - start[..., :2]
    normal = jnp.stack([-line[..., 1], line[..., 0]], -1) / jnp.linalg.norm(line, axis=-1, keepdims=True)
    side = ((course[..., 3:] - start[..., :2]) * normal).sum(-1, keepdims=True)
    bow = jnp.where(side > 0, -0.6, 0.6) * jnp.sin(jnp.pi * part) ** 2 * normal
    return start + part * (course[..., :3] - start) + jnp.concatenate([bow, 0 * part], -1)


def by_controller(flight: type[Flight], way: Way, seeds: Sequence[int], lap: float = 10.0) -> Flown:
    """Flights of crazyflow's built-in position controller (Mellinger and Kumar 2011), which is told position, speed and
    acceleration of a way anew before each of its ticks, a hundred a second."""
    task, count = flight.task, len(seeds)
    starts = [task.begin(np.random.default_rng(seed), lap) for seed in seeds]
    pos, vel, course = (jnp.array(np.stack(part), jnp.float32) for part in zip(*starts, strict=True))
    sim = crazyflow.Sim(
        n_worlds=count, drone=DRONE, dynamics=DYNAMICS, control=crazyflow.Control.state, freq=PHYSICS_HZ
    )
    step, fresh = sim.build_step_fn(), jnp.ones(count, bool)
    data = begun(sim.build_reset_fn(), sim.data, sim.default_data, fresh, pos, vel)

    def told(data: Any, _: None) -> tuple[Any, None]:
        place = partial(way, pos, course)
        once = partial(jax.jvp, place)
        time = data.core.steps[:, 0] / PHYSICS_HZ
        one = jnp.ones_like(time)
        where, speed = once((time,), (one,))
        _, faster = jax.jvp(lambda at: once((at,), (one,))[1], (time,), (one,))
        level = jnp.zeros((count, 7)).at[:, 3].set(1.0)
        command = jnp.concatenate([where, speed, faster, level], -1)
        return step(functional.state_control(data, command[:, None]), n_steps=1), None

    @jax.jit
    def decide(data: Any) -> Any:
        data, _ = jax.lax.scan(told, data, length=HOLD)
        drone = drones_of(data)
        return data, drone.pos, task.judge(jnp, drone, course)[1]

    steps = []
    for _ in range(round(task.seconds * DECISION_HZ)):
        data, *seen = decide(data)
        where, crashed = (np.asarray(part) for part in seen)
        steps.append((where, crashed))
    return _flown(steps, np.asarray(course))


def tracking_rms(done: Flown) -> float:
    """Metres from the figure of eight, root mean square over all flights while they fly."""
    time = np.arange(1, len(done.pos) + 1)[:, None] / DECISION_HZ
    away = np.linalg.norm(done.pos - Eight.reference(np, done.course, time)[0], axis=-1)
    return float((away[done.flying] ** 2).mean() ** 0.5)


def arrived(done: Flown) -> Array:
    """``bool[N]`` within 10 cm of the place for the last half second."""
    away = np.linalg.norm(done.pos - done.course[:, :3], axis=-1)[-DECISION_HZ // 2 :]
    return ~done.crashed & (away < 0.1).all(axis=0)


WAYS: dict[str, dict[str, Way]] = {
    "FigureOfEight": {"built-in controller": along_the_eight, "holding still": staying},
    "BehindThePillar": {"built-in, straight": straight, "built-in, planned way": around, "holding still": staying},
}
"""Task → what crazyflow's own controller is told, beside the policy."""


def said(flight: type[Flight], done: Flown) -> str:
    """What flights came to."""
    share = f"{done.crashed.sum()} of {len(done.crashed)} crash"
    if flight is TASKS["FigureOfEight"]:
        return f"{100 * tracking_rms(done):5.1f} cm from the curve (RMS), {share}"
    return f"{arrived(done).sum()} of {len(done.crashed)} arrive, {share}"


def words_for(task: str) -> list[str]:
    """The command line of a task, without steps, seed and folder."""
    return [*TRAIN, *OWN[task], "--env", f"examples.crazyflie:{task}"]


def compress_words(task: str) -> list[str]:
    """The options of a task's compression."""
    return [*COMPRESS, *OWN_COMPRESS[task], f"--return-range={RANGE[task]}"]


def nimbleq(*words: object) -> None:
    """One command line. Exit code 1 is an answer (what was asked does not hold); 2 ends the example."""
    if command_line([str(word) for word in words]) == 2:
        sys.exit(2)


def main(out: str = "runs/robot", task: str = "FigureOfEight", steps: str = "", flights: str = "100") -> None:
    folder, flight, seeds = Path(out), TASKS[task], SEEDS[: int(flights)]
    nimbleq(*words_for(task), "--steps", steps or STEPS[task], "--out", folder)
    nimbleq("compress", folder, *compress_words(task), "--no-scratch")
    nimbleq("export", folder, "--to", "c", "cortex-m4", "--out", folder / "build", "--name", "pilot")
    nimbleq("verify", folder / "build", "--observations", 2000)
    nimbleq("bench", folder, "--rounds", 3, "--flash", "cortex-m4")
    policy = Runtime(folder / "artefacts" / "small")
    pilots = {
        "small policy": flown(flight, policy.act, seeds),
        "level, no control": flown(flight, lambda _: STILL, seeds),
    }
    pilots |= {name: by_controller(flight, way, seeds) for name, way in WAYS[task].items()}
    for name, done in pilots.items():
        print(f"{name:22}: {said(flight, done)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
