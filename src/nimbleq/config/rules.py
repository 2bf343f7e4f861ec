"""Rules for valid settings of training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

from nimbleq.config.names import Q
from nimbleq.config.settings import TrainConfig
from nimbleq.errors import ConfigError

_AT_LEAST_1 = (
    "steps", "envs", "updates_per_step", "update_every",
    "network.torso_width", "network.space_to_depth", "network.cosines", "network.policy_fractions", "replay.n_step",
    "replay.sequence", "learner.batch_size", "learner.target_every",
    "learner.lr_updates", "explore.hold", "pqn.rollout", "pqn.epochs",
    "evaluation.every", "evaluation.episodes", "evaluation.final_episodes", "evaluation.average_updates",
    "policy.lr_updates", "distributed.chunk", "distributed.learners", "transfer.frozen_layers",
    "transfer.frozen_updates", "transfer.patience", "evolve.episodes", "evolve.features",
)  # fmt: skip
_AT_LEAST_0 = (
    "evolve.generations",
    "learn_start", "checkpoint_seconds", "network.noisy_sigma", "replay.alpha", "learner.lr_end", "policy.lr_end",
    "learner.adam_eps", "learner.max_grad_norm", "learner.reward_clip", "learner.munchausen_alpha", "explore.updates",
    "distributed.actors", "transfer.offline_updates", "network.memory", "replay.burn_in",
)  # fmt: skip
_POSITIVE = (
    "evolve.sigma", "network.obs_clip", "network.smoothing", "learner.lr", "learner.munchausen_tau",
    "learner.reward_scale", "policy.lr", "policy.temperature", "transfer.temperature", "stream.overshoot",
)  # fmt: skip
_SHARES = (
    "replay.beta_start", "replay.beta_end", "learner.gamma", "explore.start", "explore.end", "pqn.trace_decay",
    "stream.trace_decay", "transfer.teacher_share", "transfer.weight_share",
)  # fmt: skip


class _Rule(NamedTuple):
    """The setting ``name`` (dotted) must be ``wanted``; it is if ``holds``."""

    name: str
    holds: bool
    wanted: str


def validate(config: TrainConfig) -> None:
    """Refuse invalid settings.

    Raises:
        ConfigError: names the setting, its value and the range.
    """
    for name, value in _numbers(config):
        if not math.isfinite(value):
            raise ConfigError(f"the setting {name} must be a finite number, not {value}")
    for rule in chain(_ranges(config), _of_networks(config), _of_environments(config), _of_processes(config)):
        if not rule.holds:
            value = attrgetter(rule.name)(config)
            raise ConfigError(f"the setting {rule.name.removeprefix('env.')} must be {rule.wanted}, not {value}")


def _ranges(config: TrainConfig) -> Iterator[_Rule]:
    """Rules for one setting each, except for the capacity of the replay and the batches of a rollout."""
    for names, least, most, wanted in (
        (_AT_LEAST_1, 1, math.inf, "at least 1"),
        (_AT_LEAST_0, 0, math.inf, "at least 0"),
        (_POSITIVE, math.ulp(0.0), math.inf, "positive"),
        (_SHARES, 0, 1, "within 0 and 1"),
    ):
        for name in names:
            yield _Rule(name, least <= attrgetter(name)(config) <= most, wanted)
    learner, replay = config.learner, config.replay
    for name, least in (("env.max_episode_steps", 1), ("env.discretize", 2)):
        value = attrgetter(name)(config)
        yield _Rule(name, value is None or value >= least, f"at least {least}")
    yield _Rule("seed", 0 <= config.seed < 1 << 63, "within 0 and 2^63 (excluded)")
    length = replay.burn_in + replay.sequence + replay.n_step - 1 if config.network.memory else 0
    fits = replay.capacity >= config.envs * length
    yield _Rule("replay.capacity", fits, f"at least envs · {length}, the steps of a sequence")
    yield _Rule("replay.capacity", replay.capacity >= config.envs * replay.n_step, "at least envs · n_step")
    yield _Rule("learner.munchausen_clip", learner.munchausen_clip <= 0, "at most 0")
    yield _Rule("learner.tau", 0 < learner.tau <= 1, "within 0 (excluded) and 1")
    rollout = config.envs * config.pqn.rollout
    fits = config.algorithm != "pqn" or rollout % learner.batch_size == 0
    yield _Rule("learner.batch_size", fits, f"a divisor of envs · pqn.rollout, {rollout}")


def _of_networks(config: TrainConfig) -> Iterator[_Rule]:
    """Combinations of network and learner."""
    network = config.network
    yield _Rule("network.hidden", all(width >= 1 for width in network.hidden), "positive widths")
    yield _Rule("network.sparsity", 0 <= network.sparsity < 1, "within 0 and 1 (excluded)")
    yield _Rule("network.noisy", not (network.noisy and network.sparsity), "off with network.sparsity")
    yield _Rule("network.spectral_norm", not (network.spectral_norm and network.sparsity), "off with network.sparsity")
    moving = network.sparsity > 0 and network.sparsity_mode == "dynamic"
    averaged = moving and config.evaluation.network == "average"
    yield _Rule("evaluation.network", not averaged, "online with network.sparsity_mode dynamic")
    yield _Rule("network.atoms", network.atoms >= 1, "at least 1")
    yield _Rule("network.v_max", network.v_max > network.v_min, f"above network.v_min, {network.v_min}")
    yield _Rule("stream.sparsity", 0 <= config.stream.sparsity < 1, "within 0 and 1 (excluded)")
    if config.algorithm == "stream":
        yield _Rule("envs", config.envs == 1, "1 with stream, which learns from one step at a time")
        yield _Rule("policy.network", not config.policy.network, "left out with stream")
        yield _Rule("transfer.source", not config.transfer.source, "left out with stream")
    alone = network.head == Q and not config.policy.network and not network.memory
    wanted = "0 but with the head q, which acts by itself and remembers nothing"
    yield _Rule("evolve.generations", alone or not config.evolve.generations, wanted)
    yield _Rule("evolve.population", config.evolve.population >= 4, "at least 4")
    if config.algorithm == "pqn":
        yield _Rule("learner.munchausen", not config.learner.munchausen, "off with pqn")


def _of_environments(config: TrainConfig) -> Iterator[_Rule]:
    """What steps the environments."""
    env = config.env
    yield _Rule("env.workers", 1 <= env.workers <= config.envs, f"within 1 and envs, {config.envs}")


def _of_processes(config: TrainConfig) -> Iterator[_Rule]:
    """Actors and learners."""
    processes, batch = config.distributed, config.learner.batch_size
    yield _Rule("learner.batch_size", batch % processes.learners == 0, f"a multiple of learners, {processes.learners}")
    address = processes.ray or ""
    several = processes.actors > 0 or processes.learners > 1
    yield _Rule("distributed.ray", not address.startswith("ray://"), "host:port or auto, on a machine of the cluster")
    yield _Rule("distributed.ray", several or not address, "left out without actors or learners")
    if processes.actors == 0:
        return
    yield _Rule("algorithm", config.algorithm == "dqn", "dqn with actors")
    yield _Rule("env.workers", config.env.workers == 1, "1 with actors, which are processes themselves")
    yield _Rule("network.noisy", not config.network.noisy, "off with actors, each of which has an ε of its own")
    steps = config.envs * processes.chunk
    yield _Rule("replay.capacity", config.replay.capacity >= steps, f"at least envs · distributed.chunk, {steps}")


def _numbers(config: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    """The settings that are real numbers, by dotted name."""
    for each in fields(config):
        value, name = getattr(config, each.name), f"{prefix}{each.name}"
        if is_dataclass(value):
            yield from _numbers(value, f"{name}.")
        elif isinstance(value, float):
            yield name, value
