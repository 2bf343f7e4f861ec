"""Every setting of training, as frozen values; and the presets that were seen to work.

Counts are in the unit their name says: *steps* are environment steps summed over all environments, *updates* are
gradient steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import tyro

from nimbleq.errors import ConfigError

EnvEngine = Literal["gymnasium", "envpool"]


@dataclass(frozen=True)
class EnvConfig:
    """Which environment, and how it is cut.

    Attributes:
        id: Gymnasium id, or package.module:factory for a function of yours that returns an environment.
        max_episode_steps: time limit in steps in place of the environment's own (None: its own).
        kwargs: arguments of the environment, each NAME=VALUE with a Python literal or a word as the value.
        discretize: bins per dimension of continuous actions (None: continuous actions are refused).
        engine: what steps it in training: ``gymnasium``, or ``envpool`` (C++) where that is installed and has it.
        workers: processes that step the environments of training, for slow ones; the outcome is the same.
    """

    id: Annotated[str, tyro.conf.arg(name="env", prefix_name=False)] = "CartPole-v1"
    max_episode_steps: Annotated[int | None, tyro.conf.arg(prefix_name=False)] = None
    kwargs: Annotated[tuple[str, ...], tyro.conf.arg(name="env-kwargs", prefix_name=False)] = ()
    discretize: Annotated[int | None, tyro.conf.arg(prefix_name=False)] = None
    engine: Annotated[Literal["gymnasium", "envpool"], tyro.conf.arg(name="env-engine", prefix_name=False)] = (
        "gymnasium"
    )
    workers: Annotated[int, tyro.conf.arg(prefix_name=False)] = 1


@dataclass(frozen=True)
class NetworkConfig:
    """The Q-network.

    Attributes:
        torso: ``mlp`` for vectors; for images ``nature`` (Mnih et al. 2015: three convolutions), ``small`` (one, for
            images of few pixels, [1903.03176]), ``impala`` (residual, [1802.01561]), ``mobile`` (depthwise-separable,
            [1704.04861]) or ``shuffle`` (grouped convolutions and channel shuffle, [1707.01083]).
        torso_width: multiplies the channels of a convolutional torso.
        torso_pool: a last 3×3 max-pool of stride 2 (on 84×84 images, after ``impala``: to 6×6, as BTR [2411.03820]).
        spectral_norm: the residual convolutions of ``impala`` have a largest singular value of 1 [1802.05957].
        space_to_depth: side of the blocks of pixels that become channels before the first convolution (1: none);
            not with ``nature``.
        hidden: widths of the fully connected layers before the head.
        layer_norm: LayerNorm without parameters before each ReLU of the fully connected layers.
        dueling: separate value and advantage outputs [1511.06581].
        noisy: factorised Gaussian noise on the fully connected layers explores in place of ε [1706.10295].
        noisy_sigma: σ₀, its initial size.
        head: what is learnt of the return: ``q`` its mean, ``c51`` a histogram [1707.06887], ``qr`` fixed quantiles
            [1710.10044], ``iqn`` quantiles at random fractions [1806.06923].
        atoms: bins of ``c51``, quantiles of ``qr``, random fractions per update of ``iqn``.
        v_min, v_max: range of ``c51``'s bins, in scaled rewards.
        cosines: features that ``iqn`` makes of a fraction.
        policy_fractions: evenly spread fractions that ``iqn`` averages to act, and when it is exported.
        normalize_obs: subtract the running mean, divide by the running deviation and clip at ``obs_clip`` deviations
            (vectors only); frozen when the run ends and exported as part of the network.
        obs_clip: in standard deviations.
    """

    torso: Literal["mlp", "nature", "small", "impala", "mobile", "shuffle"] = "mlp"
    torso_width: int = 1
    torso_pool: bool = False
    spectral_norm: bool = False
    space_to_depth: int = 1
    hidden: tuple[int, ...] = (64, 64)
    layer_norm: bool = True
    dueling: bool = False
    noisy: bool = False
    noisy_sigma: float = 0.5
    head: Literal["q", "c51", "qr", "iqn"] = "q"
    atoms: int = 51
    v_min: float = -10.0
    v_max: float = 10.0
    cosines: int = 64
    policy_fractions: int = 32
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
        engine: ``native`` (C; fully connected nets on vectors), ``torch`` (everything, on the CPU), ``device``
            (replay and learner together on ``device``), ``auto`` (native where it can, else torch).
        device: of the engine ``device``: ``cuda``, ``cpu``, or ``auto``, which is the GPU where there is one.
        precision: of the engine ``device``: ``bf16`` computes torso and fully connected layers in bfloat16; weights,
            heads and losses stay float32.
        compile: of the engine ``device``: compile the loss with ``torch.compile`` (some time at the start).
        batch_size: transitions per update.
        gamma: discount per step.
        double: the online net chooses the next action, the target net values it [1509.06461].
        target: ``none`` bootstraps from the online net, ``hard`` copies every ``target_every`` updates,
            ``polyak`` moves the target by ``tau`` after each update.
        target_every: updates between hard copies.
        tau: Polyak step.
        loss: on the TD error, before importance weights (``c51``, ``qr`` and ``iqn`` heads bring their own).
        munchausen: add the scaled log-policy to the reward and bootstrap softly [2007.14430]; with ``double`` the
            online net gives the next policy.
        munchausen_alpha: α, weight of the log-policy.
        munchausen_tau: τ, temperature of the policy, in scaled rewards.
        munchausen_clip: l₀, lower bound of ``τ·log π``.
        optimizer: ``adam``, or ``radam``, which warms up by itself [1908.03265].
        lr, lr_end: the optimizer's step size, linear from ``lr`` to ``lr_end`` over ``lr_updates`` updates, constant
            after.
        lr_updates: length of that ramp.
        adam_eps: Adam's ε.
        max_grad_norm: clip of the global gradient norm (0: off).
        reward_clip: each step's reward is cut to within ± this before it is scaled and summed, for learning only
            (0: off; Nature 2015 clips Atari's at 1). Reported returns and checks are as the environment pays.
        reward_scale: rewards are multiplied by this before learning (returns are reported unscaled).
    """

    engine: Annotated[Literal["auto", "native", "torch", "device"], tyro.conf.arg(aliases=("--learner",))] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["float32", "bf16"] = "float32"
    compile: bool = False
    batch_size: int = 64
    gamma: float = 0.99
    double: bool = True
    target: Literal["none", "hard", "polyak"] = "none"
    target_every: int = 500
    tau: float = 0.005
    loss: Literal["mse", "huber"] = "mse"
    munchausen: bool = False
    munchausen_alpha: float = 0.9
    munchausen_tau: float = 0.03
    munchausen_clip: float = -1.0
    optimizer: Literal["adam", "radam"] = "adam"
    lr: float = 1e-3
    lr_end: float = 1e-3
    lr_updates: int = 1
    adam_eps: float = 1e-8
    max_grad_norm: float = 10.0
    reward_clip: float = 0.0
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
class PqnConfig:
    """Learning without replay and without target net [2407.04811].

    Attributes:
        rollout: steps of every environment between two rounds of learning.
        epochs: passes over a rollout, in batches of ``learner.batch_size``.
        trace_decay: λ of the Q(λ) returns.
    """

    rollout: int = 32
    epochs: int = 2
    trace_decay: float = 0.65


@dataclass(frozen=True)
class EvalConfig:
    """Greedy checks during training, and the final one.

    Attributes:
        every: updates between checks.
        episodes: of a check.
        stop_return: training ends when ``final_episodes`` fresh episodes average at least this (None: never).
        final_episodes: fresh episodes behind the reported mean and its 95 % interval.
        network: which one is checked, kept and shipped: ``online``, or its ``average`` over the last updates (Polyak &
            Juditsky 1992), which swings less from check to check.
        average_updates: over about how many.
        beside: play checks in a process of their own while training goes on, where there is a second core. The
            outcome is the same.
    """

    every: int = 1_000
    episodes: int = 20
    stop_return: float | None = None
    final_episodes: int = 100
    network: Literal["online", "average"] = "online"
    average_updates: int = 1_000
    beside: bool = True


@dataclass(frozen=True)
class LogConfig:
    """Where metrics go beside ``metrics.jsonl`` and TensorBoard; not part of `TrainConfig`, as training is the same.

    Attributes:
        wandb: Weights & Biases: ``offline`` writes to the run directory (``wandb sync`` uploads it later), ``online``
            uploads while training. A resumed run goes on as the same run there.
        project: the project there.
    """

    wandb: Literal["off", "offline", "online"] = "off"
    project: str = "nimbleq"


@dataclass(frozen=True)
class TrainConfig:
    """A whole training run.

    Attributes:
        algorithm: ``dqn`` learns from replay (every section but ``pqn``), ``pqn`` from what was just played (every
            section but ``replay``).
        seed: of networks, exploration, replay and environments.
        steps: budget in environment steps.
        envs: environments stepped side by side.
        learn_start: steps before the first update.
        updates_per_step: updates of a round, one after the other.
        update_every: steps of all ``envs`` between two rounds of updates.
        checkpoint_seconds: seconds between checkpoints.
    """

    env: EnvConfig = field(default_factory=EnvConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    explore: ExploreConfig = field(default_factory=ExploreConfig)
    pqn: PqnConfig = field(default_factory=PqnConfig)
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    algorithm: Literal["dqn", "pqn"] = "dqn"
    seed: int = 0
    steps: int = 500_000
    envs: int = 16
    learn_start: int = 1_000
    updates_per_step: int = 1
    update_every: int = 1
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


def same_settings(saved: Any, config: Any) -> bool:
    """Whether ``saved``, which `to_dict` wrote, is ``config``; settings it has not are from before there were any."""
    try:
        return bool(from_dict(type(config), saved) == config)
    except ConfigError:
        return False


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
    network, on_policy, on_device = config.network, config.algorithm == "pqn", learner.engine == "device"
    for name, number in _numbers(config):
        if not math.isfinite(number):
            raise ConfigError(f"the setting {name} has to be a finite number, not {number}")
    for name, value, ok, wanted in (
        ("steps", config.steps, config.steps >= 1, "at least 1"),
        ("envs", config.envs, config.envs >= 1, "at least 1"),
        ("workers", config.env.workers, 1 <= config.env.workers <= config.envs, f"within 1 and envs, {config.envs}"),
        (
            "workers",
            config.env.workers,
            config.env.workers == 1 or config.env.engine == "gymnasium",
            "1 with envpool, which has threads of its own",
        ),
        ("updates_per_step", config.updates_per_step, config.updates_per_step >= 1, "at least 1"),
        ("update_every", config.update_every, config.update_every >= 1, "at least 1"),
        ("seed", config.seed, 0 <= config.seed < 1 << 63, "within 0 and 2^63 (excluded)"),
        ("learn_start", config.learn_start, config.learn_start >= 0, "at least 0"),
        ("checkpoint_seconds", config.checkpoint_seconds, config.checkpoint_seconds >= 0, "at least 0"),
        (
            "network.hidden",
            config.network.hidden,
            all(width >= 1 for width in config.network.hidden),
            "positive widths",
        ),
        ("network.torso_width", network.torso_width, network.torso_width >= 1, "at least 1"),
        (
            "network.spectral_norm",
            network.spectral_norm,
            network.torso == "impala" or not network.spectral_norm,
            "off but for the torso impala",
        ),
        ("network.space_to_depth", network.space_to_depth, network.space_to_depth >= 1, "at least 1"),
        ("network.noisy_sigma", network.noisy_sigma, network.noisy_sigma >= 0, "at least 0"),
        ("network.atoms", network.atoms, network.atoms >= (2 if network.head == "c51" else 1), "at least 1 (c51: 2)"),
        ("network.v_max", network.v_max, network.v_max > network.v_min, f"above network.v_min, {network.v_min}"),
        ("network.cosines", network.cosines, network.cosines >= 1, "at least 1"),
        ("network.policy_fractions", network.policy_fractions, network.policy_fractions >= 1, "at least 1"),
        ("network.head", network.head, not on_policy or network.head == "q", "q, which is what pqn learns"),
        ("network.obs_clip", config.network.obs_clip, config.network.obs_clip > 0, "positive"),
        ("replay.capacity", replay.capacity, replay.capacity >= config.envs * replay.n_step, "at least envs · n_step"),
        ("replay.n_step", replay.n_step, replay.n_step >= 1, "at least 1"),
        ("replay.beta_start", replay.beta_start, 0 <= replay.beta_start <= 1, "within 0 and 1"),
        ("replay.beta_end", replay.beta_end, 0 <= replay.beta_end <= 1, "within 0 and 1"),
        ("replay.alpha", replay.alpha, replay.alpha >= 0, "at least 0"),
        ("learner.engine", learner.engine, not (on_policy and on_device), "auto, native or torch with pqn"),
        ("learner.device", learner.device, on_device or learner.device == "auto", "auto without learner.engine device"),
        (
            "learner.precision",
            learner.precision,
            on_device or learner.precision == "float32",
            "float32 without learner.engine device",
        ),
        ("learner.compile", learner.compile, on_device or not learner.compile, "off without learner.engine device"),
        ("learner.batch_size", learner.batch_size, learner.batch_size >= 1, "at least 1"),
        (
            "learner.batch_size",
            learner.batch_size,
            not on_policy or config.envs * config.pqn.rollout % learner.batch_size == 0,
            f"a divisor of envs · pqn.rollout, {config.envs * config.pqn.rollout}",
        ),
        ("learner.gamma", learner.gamma, 0 <= learner.gamma <= 1, "within 0 and 1"),
        ("learner.munchausen", learner.munchausen, not (on_policy and learner.munchausen), "off with pqn"),
        ("learner.munchausen_tau", learner.munchausen_tau, learner.munchausen_tau > 0, "positive"),
        ("learner.munchausen_clip", learner.munchausen_clip, learner.munchausen_clip <= 0, "at most 0"),
        ("learner.tau", learner.tau, 0 < learner.tau <= 1, "within 0 (excluded) and 1"),
        ("learner.target_every", learner.target_every, learner.target_every >= 1, "at least 1"),
        ("learner.lr", learner.lr, learner.lr > 0, "positive"),
        ("learner.lr_end", learner.lr_end, learner.lr_end >= 0, "at least 0"),
        ("learner.lr_updates", learner.lr_updates, learner.lr_updates >= 1, "at least 1"),
        ("learner.adam_eps", learner.adam_eps, learner.adam_eps >= 0, "at least 0"),
        ("learner.max_grad_norm", learner.max_grad_norm, learner.max_grad_norm >= 0, "at least 0"),
        ("learner.reward_scale", learner.reward_scale, learner.reward_scale > 0, "positive"),
        ("learner.reward_clip", learner.reward_clip, learner.reward_clip >= 0, "at least 0"),
        ("explore.start", config.explore.start, 0 <= config.explore.start <= 1, "within 0 and 1"),
        ("explore.end", config.explore.end, 0 <= config.explore.end <= 1, "within 0 and 1"),
        ("pqn.rollout", config.pqn.rollout, config.pqn.rollout >= 1, "at least 1"),
        ("pqn.epochs", config.pqn.epochs, config.pqn.epochs >= 1, "at least 1"),
        ("pqn.trace_decay", config.pqn.trace_decay, 0 <= config.pqn.trace_decay <= 1, "within 0 and 1"),
        ("evaluation.every", evaluation.every, evaluation.every >= 1, "at least 1"),
        ("evaluation.episodes", evaluation.episodes, evaluation.episodes >= 1, "at least 1"),
        ("evaluation.average_updates", evaluation.average_updates, evaluation.average_updates >= 1, "at least 1"),
        ("evaluation.final_episodes", evaluation.final_episodes, evaluation.final_episodes >= 1, "at least 1"),
    ):
        if not ok:
            raise ConfigError(f"the setting {name} has to be {wanted}, not {value}")


def _numbers(config: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    """The settings that are real numbers, by dotted name."""
    for each in fields(config):
        value, name = getattr(config, each.name), f"{prefix}{each.name}"
        if is_dataclass(value):
            yield from _numbers(value, f"{name}.")
        elif isinstance(value, float):
            yield name, value
