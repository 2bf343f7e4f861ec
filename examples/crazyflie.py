"""A Crazyflie in crazyflow [2606.01478] as an environment with discrete actions, many of them at once.

Rigid body, rotors and onboard attitude controller have the parameters of the Crazyflie 2. Fifty times a second a policy
chooses a roll angle, a pitch angle and a thrust out of three each, which are held for ten steps of the simulation. Two
tasks: ``nimbleq train --env examples.crazyflie:FigureOfEight`` and ``…:BehindThePillar``.
"""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar, NamedTuple

import crazyflow  # before anything else imports SciPy, which has to be told first
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from crazyflow.dynamics import load_params
from crazyflow.sim import functional
from crazyflow.utils import leaf_replace
from gymnasium import spaces

from nimbleq.types import Array

DRONE, DYNAMICS = crazyflow.Drone.cf2x_L250, crazyflow.Dynamics.first_principles
PHYSICS_HZ, HOLD = 500, 10
"""Steps of the simulation a second, and for how many of them a command is held."""
DECISION_HZ = PHYSICS_HZ // HOLD
TILT, LIFT = 0.3, 0.3
"""Radians of a roll or pitch command, and how far a thrust command is from what carries the drone."""
ACTIONS = 27
STILL = 13  # of the 27: level, with the thrust that carries it
FULL = 128
"""Worlds of a simulation, or a multiple: each size is compiled once, which takes half a minute."""
BOX = 2.0  # metres from the origin at which a flight counts as lost, as in crazyflow's own environments


class Drone(NamedTuple):
    """What is known of drones; arrays of numpy or JAX with the same axes in front.

    Attributes:
        pos, vel: ``[…, 3]`` metres and metres a second, in the world.
        quat: ``[…, 4]`` attitude, x y z w.
        turning: ``[…, 3]`` radians a second.
        lift: ``[…]`` thrust over weight: what an accelerometer along the drone's axis shows.
        time: ``[…]`` seconds since the start.
    """

    pos: Any
    vel: Any
    quat: Any
    turning: Any
    lift: Any
    time: Any


class Eight:
    """The curve of crazyflow's own figure of eight: upright, two metres wide, once around in ten seconds."""

    seconds: ClassVar = 10.0
    course: ClassVar = 1  # numbers that say where to fly: seconds for one round

    @staticmethod
    def begin(rng: np.random.Generator, lap: float) -> tuple[Array, Array, Array]:
        """Position, speed and course of a flight."""
        pos = rng.uniform((-0.1, -0.1, 0.9), (0.1, 0.1, 1.1))
        return pos, rng.uniform(-0.5, 0.5, 3), np.array([lap])

    @staticmethod
    def reference(np: Any, course: Any, time: Any) -> tuple[Any, Any, Any]:
        """Position, speed and acceleration to have at ``time``."""
        rate = 2 * np.pi / course[..., 0]
        angle = rate * time
        none = 0 * angle
        pos = np.stack([np.sin(angle), none, 0.5 * np.sin(2 * angle) + 1], -1)
        vel = np.stack([rate * np.cos(angle), none, rate * np.cos(2 * angle)], -1)
        acc = np.stack([-(rate**2) * np.sin(angle), none, -2 * rate**2 * np.sin(2 * angle)], -1)
        return pos, vel, acc

    @classmethod
    def observe(cls, np: Any, drone: Drone, course: Any) -> Any:
        """``[…, 15]`` errors of position and speed, attitude, turning, lift, and the acceleration that comes next."""
        pos, vel, _ = cls.reference(np, course, drone.time)
        *_, acc = cls.reference(np, course, drone.time + 0.1)
        return np.concatenate(
            [
                pos - drone.pos,
                vel - drone.vel,
                drone.quat[..., :3],
                drone.turning,
                drone.lift[..., None],
                acc[..., ::2],
            ],
            -1,
        )

    @classmethod
    def judge(cls, np: Any, drone: Drone, course: Any) -> tuple[Any, Any]:
        """Reward and crash: near the curve is good, on it better."""
        pos, _, _ = cls.reference(np, course, drone.time)
        away = np.linalg.norm(pos - drone.pos, axis=-1)
        return np.exp(-8 * away), outside(np, drone)


class Pillar:
    """From one side of a round pillar to a place on the other; the straight way always leads into it."""

    seconds: ClassVar = 6.0
    course: ClassVar = 5  # place to reach, and the pillar's x and y
    RADIUS: ClassVar = 0.25
    BODY: ClassVar = 0.07  # metres from the drone's centre to the tips of its propellers

    @staticmethod
    def begin(rng: np.random.Generator, lap: float) -> tuple[Array, Array, Array]:
        """Position, speed and course of a flight; there are no laps."""
        pos = rng.uniform((-1.2, -0.6, 0.8), (-0.8, 0.6, 1.2))
        goal = rng.uniform((0.8, -0.6, 0.8), (1.2, 0.6, 1.2))
        pillar = pos + rng.uniform(0.4, 0.6) * (goal - pos) + rng.uniform(-0.15, 0.15, 3)
        return pos, rng.uniform(-0.2, 0.2, 3), np.concatenate([goal, pillar[:2]])

    @classmethod
    def observe(cls, np: Any, drone: Drone, course: Any) -> Any:
        """``[…, 15]`` way to the place and to the pillar, speed, attitude, turning, lift."""
        to, pillar = course[..., :3] - drone.pos, course[..., 3:] - drone.pos[..., :2]
        return np.concatenate([to, pillar, drone.vel, drone.quat[..., :3], drone.turning, drone.lift[..., None]], -1)

    @classmethod
    def judge(cls, np: Any, drone: Drone, course: Any) -> tuple[Any, Any]:
        """Reward and crash: nearer to the place pays from afar, and again close by; less so close to the pillar."""
        away = np.linalg.norm(course[..., :3] - drone.pos, axis=-1)
        room = np.linalg.norm(course[..., 3:] - drone.pos[..., :2], axis=-1) - cls.RADIUS - cls.BODY
        near = (np.exp(-1.5 * away) + np.exp(-8 * away)) / 2
        return near * (1 - np.exp(-12 * np.maximum(room, 0))), outside(np, drone) | (room < 0)


def outside(np: Any, drone: Drone) -> Any:
    """On the floor, or too far away."""
    return (drone.pos[..., 2] < 0) | (np.abs(drone.pos) > BOX).any(-1)


def parameters() -> dict[str, Any]:
    """The drone's, as crazyflow identified them."""
    return load_params(DYNAMICS, DRONE)


def weight() -> float:
    """Newtons."""
    return 9.81 * float(parameters()["mass"])


def hovering_rpm() -> float:
    """Of each rotor, when all carry the weight."""
    least, slope, bend = (float(part) for part in parameters()["rpm2thrust"])
    return (-slope + (slope**2 + 4 * bend * (weight() / 4 - least)) ** 0.5) / (2 * bend)


def commands() -> Array:
    """``float32[27, 4]`` roll, pitch, yaw and thrust of each action."""
    three = (-1.0, 0.0, 1.0)
    return np.array(
        [
            (TILT * roll, TILT * pitch, 0.0, weight() * (1 + LIFT * lift))
            for roll in three
            for pitch in three
            for lift in three
        ],
        np.float32,
    )


def drones_of(data: Any) -> Drone:
    """What is known of the drones of a simulation."""
    known = data.states
    low, slope, bend = (data.params.rpm2thrust[..., power] for power in range(3))
    rpm = known.rotor_vel[:, 0]
    lift = (low + slope * rpm + bend * rpm**2).sum(-1) / weight()
    quat = known.quat[:, 0]
    quat = jnp.where(quat[:, 3:] < 0, -quat, quat)  # q and −q are one attitude
    return Drone(known.pos[:, 0], known.vel[:, 0], quat, known.ang_vel[:, 0], lift, data.core.steps[:, 0] / PHYSICS_HZ)


def begun(reset: Any, data: Any, first: Any, fresh: Any, pos: Any, vel: Any) -> Any:
    """The simulation where the flights ``fresh: bool[N]`` begin, hovering but for their speed."""
    data = reset(data, first, fresh)
    rpm = jnp.full_like(data.states.rotor_vel, hovering_rpm())
    states = leaf_replace(data.states, fresh, pos=pos[:, None], vel=vel[:, None], rotor_vel=rpm)
    return data.replace(states=states)


@cache
def piloted(task: Any, rows: int) -> tuple[Any, Any]:
    """A simulation that takes actions: its first state, and the compiled function of one decision."""
    sim = crazyflow.Sim(
        n_worlds=rows, drone=DRONE, dynamics=DYNAMICS, control=crazyflow.Control.attitude, freq=PHYSICS_HZ
    )
    step, reset, first, table = sim.build_step_fn(), sim.build_reset_fn(), sim.default_data, jnp.array(commands())

    @jax.jit
    def decide(data: Any, fresh: Any, pos: Any, vel: Any, course: Any, action: Any) -> Any:
        data = begun(reset, data, first, fresh, pos, vel)
        data = step(functional.attitude_control(data, table[action][:, None]), n_steps=HOLD)
        drone = drones_of(data)
        return data, task.observe(jnp, drone, course), *task.judge(jnp, drone, course), drone.pos

    return first, decide


class Flights:
    """Many flights at once: see `nimbleq.rl.envs.many.Many`.

    Attributes:
        pos: ``float32[N, 3]`` where the drones are.
        course: ``float32[N, C]`` where they have to fly.
    """

    def __init__(self, task: Any, count: int, lap: float = 10.0) -> None:
        self.task, self.lap = task, lap
        self.rows = -(-count // FULL) * FULL
        self._data: Any = None
        self.pos, self._vel = np.zeros((self.rows, 3), np.float32), np.zeros((self.rows, 3), np.float32)
        self.course = np.ones((self.rows, task.course), np.float32)
        self._fresh, self._time = np.ones(self.rows, bool), np.zeros(self.rows, np.int64)
        self._limit = round(task.seconds * DECISION_HZ)

    def reset(self, index: int, seed: int) -> Array:
        """Start a flight."""
        pos, vel, course = self.task.begin(np.random.default_rng(seed), self.lap)
        self.pos[index], self._vel[index], self.course[index] = pos, vel, course
        self._fresh[index], self._time[index] = True, 0
        one, none = np.ones(()), np.zeros(())
        level = np.array([0.0, 0.0, 0.0, 1.0])
        drone = Drone(self.pos[index], self._vel[index], level, np.zeros(3), one, none)
        return np.asarray(self.task.observe(np, drone, self.course[index]), np.float32)

    def step(self, indices: Array, actions: Array) -> tuple[Array, Array, Array, Array]:
        """One decision."""
        action = np.full(self.rows, STILL, np.int32)
        action[indices] = actions
        first, decide = piloted(self.task, self.rows)
        data = first if self._data is None else self._data
        self._data, *seen = decide(data, self._fresh, self.pos, self._vel, self.course, action)
        obs, reward, crashed, pos = (np.asarray(part) for part in seen)
        self.pos = pos.copy()
        self._fresh[:] = False
        self._time[indices] += 1
        return (
            obs[indices],
            np.where(crashed, -1.0, reward)[indices],
            crashed[indices],
            self._time[indices] >= self._limit,
        )


class Flight(gymnasium.Env[Any, Any]):
    """One flight; `many` plays a lot of them in the time of a few."""

    task: ClassVar[Any]
    action_space = spaces.Discrete(ACTIONS)
    observation_space = spaces.Box(-np.inf, np.inf, (15,), np.float32)

    def __init__(self, lap: float = 10.0) -> None:
        self.flights = self.many(1, lap)

    @classmethod
    def many(cls, count: int, lap: float = 10.0) -> Flights:
        """``count`` flights side by side."""
        return Flights(cls.task, count, lap)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.flights.reset(0, int(self.np_random.integers(1 << 31)) if seed is None else seed), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, reward, crashed, over = self.flights.step(np.array([0]), np.array([action]))
        return obs[0], float(reward[0]), bool(crashed[0]), bool(over[0]), {}


class FigureOfEight(Flight):
    """``lap``: seconds for one round."""

    task = Eight


class BehindThePillar(Flight):
    """Reach a place around an obstacle."""

    task = Pillar


TASKS: dict[str, type[Flight]] = {"FigureOfEight": FigureOfEight, "BehindThePillar": BehindThePillar}
