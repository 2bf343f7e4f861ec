"""Which two networks a run with a policy network has: the settings of the policy's learner, and names of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from nimbleq.config import AUTO, NetworkConfig, PolicyConfig, TrainConfig
from nimbleq.config.names import Q
from nimbleq.errors import ConfigError
from nimbleq.rl.learners.engines import ENGINES
from nimbleq.types import Array

POLICY, VALUE = "policy", "value"
"""What the names of the weights of both networks begin with."""
LINEAR = "linear"


def policy_widths(text: str) -> tuple[int, ...]:
    """Widths of the hidden layers: of ``16-16``, or none of ``linear``.

    Raises:
        ConfigError: they are no widths.
    """
    words = [] if text == LINEAR else text.split("-")
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise ConfigError(f"the setting --policy-network must be widths, such as 16-16, or {LINEAR}, not {text!r}")
    return tuple(map(int, words))


def acting_network(config: TrainConfig) -> NetworkConfig:
    """The network that acts: the policy network where there is one, else the Q-network."""
    policy = config.policy
    if not policy.network:
        return config.network
    return replace(
        config.network,
        hidden=policy_widths(policy.network),
        layer_norm=policy.layer_norm,
        torso_pool=policy.torso_pool,
        head=Q,
        dueling=False,
        noisy=False,
        sparsity=0.0,
        spectral_norm=False,
    )


def acting_weights(config: TrainConfig, weights: Mapping[str, Array]) -> dict[str, Array]:
    """Those of `acting_network`, among the weights of a learner."""
    return weights_of(POLICY, weights) if config.policy.network else dict(weights)


def weights_of(which: str, weights: Mapping[str, Array]) -> dict[str, Array]:
    """Those of the `POLICY` or the `VALUE` network."""
    return {name.removeprefix(f"{which}."): array for name, array in weights.items() if name.startswith(f"{which}.")}


def policy_settings(config: TrainConfig) -> TrainConfig:
    """The settings of the policy's own learner: its network, its optimiser, no target network."""
    policy = config.policy
    learner = replace(
        config.learner,
        engine=AUTO,
        target="none",
        munchausen=False,
        lr=policy.lr,
        lr_end=policy.lr_end,
        lr_updates=policy.lr_updates,
    )
    return replace(config, algorithm="dqn", network=acting_network(config), learner=learner, policy=PolicyConfig())


def check_policy(config: TrainConfig) -> None:
    """Refuse settings with which a policy network cannot be trained.

    Raises:
        ConfigError: names the setting and what it has to be.
    """
    if not config.policy.network:
        alone, default = config.policy, PolicyConfig()
        for name in ("format", "collects", "loss", "layer_norm", "torso_pool"):
            if getattr(alone, name) != getattr(default, name):
                option = "--policy-format" if name == "format" else f"--policy.{name.replace('_', '-')}"
                raise ConfigError(f"{option} is of a policy network, and there is none: give --policy-network too")
        return
    policy_widths(config.policy.network)
    engine = ENGINES.get(config.learner.engine)
    if engine is not None and not engine.imitates:
        able = " or ".join(["auto", *(row.name for row in ENGINES.values() if row.imitates)])
        raise ConfigError(f"with --policy-network the setting learner.engine must be {able}, not {engine.name}")
    if config.network.noisy and config.policy.collects == POLICY:
        raise ConfigError(
            "the policy network has no noise to explore with: use --policy.collects value with network.noisy"
        )
    if config.distributed.learners > 1:
        raise ConfigError(
            "--learners shares one network, so it does not go with --policy-network: leave out one of them"
        )
    if config.distributed.actors > 0:
        for setting, holds, wanted in (
            ("policy.collects", config.policy.collects == POLICY, "policy, which is what actors play,"),
            ("replay.prioritized", not config.replay.prioritized, "off, as actors see no values,"),
        ):
            if not holds:
                raise ConfigError(f"the setting {setting} must be {wanted} with --actors and --policy-network")
    if config.algorithm == "pqn" and config.policy.loss == "advantage":
        raise ConfigError("the setting policy.loss must be kl with pqn, not advantage")
