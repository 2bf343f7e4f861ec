"""Every setting of training, as frozen values; and the presets that were seen to work.

Counts are in the unit their name says: *steps* are environment steps summed over all environments, *updates* are
gradient steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import tyro

from nimbleq.errors import ConfigError


@dataclass(frozen=True)
class EnvConfig:
    """Which environment, and how it is cut.

    Attributes:
        id: Gymnasium id, or package.module:factory for a function of yours that returns an environment.
        max_episode_steps: time limit in steps in place of the environment's own (None: its own).
        kwargs: arguments of the environment, each NAME=VALUE with a Python literal or a word as the value.
        discretize: bins per dimension of continuous actions (None: continuous actions are refused).
    """

    id: Annotated[str, tyro.conf.arg(name="env", prefix_name=False)] = "CartPole-v1"
    max_episode_steps: Annotated[int | None, tyro.conf.arg(prefix_name=False)] = None
    kwargs: Annotated[tuple[str, ...], tyro.conf.arg(name="env-kwargs", prefix_name=False)] = ()
    discretize: Annotated[int | None, tyro.conf.arg(prefix_name=False)] = None


@dataclass(frozen=True)
class NetworkConfig:
    """The Q-network.

    Attributes:
        torso: ``mlp`` for vectors; ``nature`` for images (Mnih et al. 2015: three convolutions).
        hidden: widths of the fully connected layers before the head.
        layer_norm: LayerNorm without parameters before each ReLU of the fully connected layers.
        dueling: separate value and advantage outputs [1511.06581].
        normalize_obs: subtract the running mean, divide by the running deviation and clip at ``obs_clip`` deviations
            (vectors only); frozen when the run ends and exported as part of the network.
        obs_clip: in standard deviations.
    """

    torso: Literal["mlp", "nature"] = "mlp"
    hidden: tuple[int, ...] = (256, 256)
    layer_norm: bool = True
    dueling: bool = False
    normalize_obs: bool = True
    obs_clip: float = 6.0


@dataclass(frozen=True)
class ReplayConfig:
    """What is remembered and how it is drawn.

    Attributes:
        capacity: transitions kept.
        n_step: rewards summed before bootstrapping; windows are cut at termination and at truncation.
        prioritized: draw in proportion to ``|TD error|^alpha`` [1511.05952].
        alpha: exponent of the priority.
        beta_start, beta_end: exponent of the importance weights, annealed linearly over the run.
        compress: keep images compressed (lossless): a fraction of the memory, some time per sample.
    """

    capacity: int = 50_000
    n_step: int = 3
    prioritized: bool = False
    alpha: float = 0.6
    beta_start: float = 0.4
    beta_end: float = 1.0
    compress: bool = True


@dataclass(frozen=True)
class LearnerConfig:
    """One gradient step.

    Attributes:
        engine: ``native`` (C; fully connected nets on vectors), ``torch`` (everything), ``auto`` (native where it can).
        batch_size: transitions per update.
        gamma: discount per step.
        double: the online net chooses the next action, the target net values it [1509.06461].
        target: ``none`` bootstraps from the online net, ``hard`` copies every ``target_every`` updates,
            ``polyak`` moves the target by ``tau`` after each update.
        target_every: updates between hard copies.
        tau: Polyak step.
        loss: on the TD error, before importance weights.
        lr, lr_end: Adam's step size, linear from ``lr`` to ``lr_end`` over ``lr_updates`` updates, constant after.
        lr_updates: length of that ramp.
        adam_eps: Adam's ε.
        max_grad_norm: clip of the global gradient norm (0: off).
        reward_scale: rewards are multiplied by this before learning (returns are reported unscaled).
    """

    engine: Literal["auto", "native", "torch"] = "auto"
    batch_size: int = 64
    gamma: float = 0.99
    double: bool = True
    target: Literal["none", "hard", "polyak"] = "none"
    target_every: int = 500
    tau: float = 0.005
    loss: Literal["mse", "huber"] = "mse"
    lr: float = 1e-3
    lr_end: float = 1e-3
    lr_updates: int = 1
    adam_eps: float = 1e-8
    max_grad_norm: float = 10.0
    reward_scale: float = 1.0


@dataclass(frozen=True)
class ExploreConfig:
    """ε-greedy: linear from ``start`` to ``end`` over ``updates`` updates.

    Attributes:
        start: ε before learning.
        end: ε after the ramp.
        updates: length of the ramp, in updates.
    """

    start: float = 1.0
    end: float = 0.05
    updates: int = 2_000


@dataclass(frozen=True)
class EvalConfig:
    """Greedy checks during training, and the final one.

    Attributes:
        every: updates between checks.
        episodes: of a check.
        stop_return: training ends when ``final_episodes`` fresh episodes average at least this (None: never).
        final_episodes: fresh episodes behind the reported mean and its 95 % interval.
    """

    every: int = 1_000
    episodes: int = 20
    stop_return: float | None = None
    final_episodes: int = 100


@dataclass(frozen=True)
class TrainConfig:
    """A whole training run.

    Attributes:
        seed: of networks, exploration, replay and environments.
        steps: budget in environment steps.
        envs: environments stepped side by side.
        learn_start: steps before the first update.
        updates_per_step: updates after each step of all ``envs``.
        checkpoint_seconds: seconds between checkpoints.
    """

    env: EnvConfig = field(default_factory=EnvConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    explore: ExploreConfig = field(default_factory=ExploreConfig)
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    seed: int = 0
    steps: int = 500_000
    envs: int = 16
    learn_start: int = 1_000
    updates_per_step: int = 1
    checkpoint_seconds: float = 30.0


def with_changes(config: Any, changes: Mapping[str, Any]) -> Any:
    """A copy of a (nested) frozen config with dotted fields replaced: ``{"learner.lr": 1e-4}``.

    Raises:
        ConfigError: there is no such field.
    """
    for dotted, value in changes.items():
        head, _, rest = dotted.partition(".")
        if head not in {f.name for f in fields(config)}:
            raise ConfigError(f"there is no setting {dotted!r} in {type(config).__name__}")
        config = replace(config, **{head: with_changes(getattr(config, head), {rest: value}) if rest else value})
    return config


def to_dict(config: Any) -> Any:
    """A config as plain JSON values."""
    if is_dataclass(config):
        return {f.name: to_dict(getattr(config, f.name)) for f in fields(config)}
    return list(config) if isinstance(config, tuple) else config


def from_dict(kind: Any, value: Any, where: str = "") -> Any:
    """The config that `to_dict` wrote.

    Args:
        kind: the dataclass.
        value: plain JSON values.
        where: dotted path for messages.

    Raises:
        ConfigError: a setting is unknown or has the wrong type.
    """
    hints = get_type_hints(kind)
    names = {f.name for f in fields(kind)}
    if not isinstance(value, Mapping) or value.keys() - names:
        extra = ", ".join(sorted(value.keys() - names)) if isinstance(value, Mapping) else repr(value)
        raise ConfigError(f"unknown settings {where or kind.__name__}: {extra}")
    plain: dict[str, Any] = {}
    for name, inner in value.items():
        hint, path = hints[name], f"{where}.{name}" if where else name
        if is_dataclass(hint):
            plain[name] = from_dict(hint, inner, path)
        elif get_origin(hint) is tuple and isinstance(inner, list):
            plain[name] = tuple(inner)
        elif _fits(hint, inner):
            plain[name] = inner
        else:
            raise ConfigError(f"the setting {path} cannot be {inner!r}")
    return kind(**plain)


def _fits(hint: Any, value: Any) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is UnionType:
        return any(_fits(option, value) for option in get_args(hint))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def validate(config: TrainConfig) -> None:
    """Refuse settings that cannot train.

    Raises:
        ConfigError: names the setting, its value and the range.
    """
    learner, replay, evaluation = config.learner, config.replay, config.evaluation
    for name, value, ok, wanted in (
        ("steps", config.steps, config.steps >= 1, "at least 1"),
        ("envs", config.envs, config.envs >= 1, "at least 1"),
        ("updates_per_step", config.updates_per_step, config.updates_per_step >= 1, "at least 1"),
        ("seed", config.seed, config.seed >= 0, "at least 0"),
        (
            "network.hidden",
            config.network.hidden,
            all(width >= 1 for width in config.network.hidden),
            "positive widths",
        ),
        ("network.obs_clip", config.network.obs_clip, config.network.obs_clip > 0, "positive"),
        ("replay.capacity", replay.capacity, replay.capacity >= config.envs * replay.n_step, "at least envs · n_step"),
        ("replay.n_step", replay.n_step, replay.n_step >= 1, "at least 1"),
        ("replay.alpha", replay.alpha, replay.alpha >= 0, "at least 0"),
        ("learner.batch_size", learner.batch_size, learner.batch_size >= 1, "at least 1"),
        ("learner.gamma", learner.gamma, 0 <= learner.gamma <= 1, "within 0 and 1"),
        ("learner.tau", learner.tau, 0 < learner.tau <= 1, "within 0 (excluded) and 1"),
        ("learner.target_every", learner.target_every, learner.target_every >= 1, "at least 1"),
        ("learner.lr", learner.lr, learner.lr > 0, "positive"),
        ("learner.lr_end", learner.lr_end, learner.lr_end >= 0, "at least 0"),
        ("learner.lr_updates", learner.lr_updates, learner.lr_updates >= 1, "at least 1"),
        ("explore.start", config.explore.start, 0 <= config.explore.start <= 1, "within 0 and 1"),
        ("explore.end", config.explore.end, 0 <= config.explore.end <= 1, "within 0 and 1"),
        ("evaluation.every", evaluation.every, evaluation.every >= 1, "at least 1"),
        ("evaluation.episodes", evaluation.episodes, evaluation.episodes >= 1, "at least 1"),
        ("evaluation.final_episodes", evaluation.final_episodes, evaluation.final_episodes >= 1, "at least 1"),
    ):
        if not ok:
            raise ConfigError(f"the setting {name} has to be {wanted}, not {value}")
