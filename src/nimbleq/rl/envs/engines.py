"""The table of environment engines: what plays an environment, the special ones before the general one."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import cast

from nimbleq.config import EnvConfig
from nimbleq.rl.envs import atari, cartpole, envpool, lunarlander, many, serial
from nimbleq.rl.envs.batch import EnvBatch
from nimbleq.rl.envs.measured import MeasuredEnv, MeasuredEnvBatch
from nimbleq.rl.spec import EnvSpec


@dataclass(frozen=True)
class EnvEngine:
    """One way to play environments. A new one is one file and one line in `ENV_ENGINES`.

    Attributes:
        name: for a reader.
        plays: whether it plays this environment.
        make: ``(config, count, pictures) → EnvBatch``.
        draws: it can draw pictures.
        tuned: presets have settings for its environments, so that no random play is needed to find any.
        apart: it has so many threads that training steps it in a process of its own, where they share Python's lock
            with nobody.
        fast: starting a second process takes longer than the episodes that it would share.
        low_fidelity: ``(config, count) → EnvBatch`` that plays nearly the same several times as fast (None: there is
            none).
        forks: a process that has made some may be forked, and the child make others; threads of a library (JAX's) do
            not live on there.
    """

    name: str
    plays: Callable[[EnvConfig], bool]
    make: Callable[[EnvConfig, int, bool], EnvBatch]
    draws: bool = True
    tuned: bool = False
    apart: bool = False
    fast: bool = False
    low_fidelity: Callable[[EnvConfig, int], EnvBatch] | None = None
    forks: bool = True


def _named(name: str, arguments: Collection[str] = ()) -> Callable[[EnvConfig], bool]:
    """Whether that is the environment ``name`` without other arguments than these."""
    return lambda config: config.id == name and all(given.partition("=")[0] in arguments for given in config.kwargs)


ENV_ENGINES = [
    EnvEngine(
        "a quantity in info",
        lambda config: isinstance(config, MeasuredEnv),
        lambda config, count, pictures: MeasuredEnvBatch(cast(MeasuredEnv, config), count),
        draws=False,
    ),
    EnvEngine(
        "ALE",
        lambda config: config.id.startswith("ALE/"),
        lambda config, count, pictures: atari.AtariEnvBatch(config, count),
        tuned=True,
        apart=True,
    ),
    EnvEngine(
        "CartPole in C",
        _named("CartPole-v1"),
        lambda config, count, pictures: cartpole.make_cartpole(config, count),
        draws=False,
        fast=True,
    ),
    EnvEngine(
        "LunarLander over Box2D",
        _named("LunarLander-v3", lunarlander.ARGUMENTS),
        lambda config, count, pictures: lunarlander.make_lunarlander(config, count),
        draws=False,
        low_fidelity=lunarlander.make_low_fidelity,
    ),
    EnvEngine(
        "many at once",
        lambda config: many.many_of(config) is not None,
        lambda config, count, pictures: many.ManyEnvBatch(config, count),
        draws=False,
        forks=False,
    ),
    EnvEngine(
        "Gymnasium, in envpool's copy of it",
        lambda config: config.engine == "envpool" and envpool.is_installed(),
        serial.SerialEnvBatch,
        low_fidelity=envpool.PoolBatch,
    ),
    EnvEngine("Gymnasium", lambda config: True, serial.SerialEnvBatch),
]
"""The first row that plays an environment does."""


def env_engine(config: EnvConfig, pictures: bool = False) -> EnvEngine:
    """The row for an environment (one that draws if ``pictures``)."""
    return next(row for row in ENV_ENGINES if row.plays(config) and (row.draws or not pictures))


def make_env_batch(config: EnvConfig, count: int, pictures: bool = False) -> EnvBatch:
    """``count`` environments, on the fastest engine there is for them (one that draws if ``pictures``).

    Raises:
        EnvError: see `make_env`.
    """
    return env_engine(config, pictures).make(config, count, pictures)


def make_low_fidelity_batch(config: EnvConfig, count: int) -> EnvBatch:
    """``count`` environments that play nearly the same as ``config`` says, but sooner, where there are such; else
    `make_env_batch`.

    They are for searches that play long before anything is chosen; what is chosen, and certified, plays in the others.

    Raises:
        EnvError: see `make_env`.
    """
    cheaper = env_engine(config).low_fidelity
    return make_env_batch(config, count) if cheaper is None else cheaper(config, count)


def useful_workers(config: EnvConfig, workers: int) -> int:
    """How many of ``workers`` processes are worth starting to play episodes."""
    return 1 if env_engine(config).fast else workers


def spec_of(config: EnvConfig) -> EnvSpec:
    """What a network has to know of an environment.

    Raises:
        EnvError: see `make_env`.
    """
    batch = make_env_batch(config, 1)
    batch.close()
    return batch.spec
