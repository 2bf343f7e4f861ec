"""Every setting of training, as frozen values.

Counts are in the unit their name says: *steps* are environment steps summed over all environments, *updates* are
gradient steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from nimbleq.config.names import AUTO, GYMNASIUM, MLP, Channels, EngineName, HeadName, Q, TorsoName, VectorName


@dataclass(frozen=True)
class EnvConfig:
    """Which environment, and how it is used.

    Attributes:
        id: Gymnasium id, or package.module:factory for your own function that returns an environment.
        max_episode_steps: time limit in steps that replaces the environment's own (None: its own).
        kwargs: arguments of the environment, each NAME=VALUE; the value is a Python literal or a word.
        discretize: bins per dimension of continuous actions (None: continuous actions are refused).
        engine: what steps it in training: ``gymnasium``, or where they have the environment ``envpool`` (C++) or
            ``gymnax`` (JAX; with ``--learner.engine xla`` the whole loop of pqn is one program).
        workers: processes that step the training environments, for slow ones; the result is the same.
        channels: where images have their channels, first or last (None: guessed from the shape, with a line where the
            guess may be wrong); flat: no part of an observation is an image.
        offsets: what is subtracted in float64 from large numbers in observations, such as a Unix time, each
            ENTRY[INDEX]=VALUE (a preset finds them by random play).
    """

    id: Annotated[str, tyro.conf.arg(name="env", prefix_name=False)] = "CartPole-v1"
    max_episode_steps: Annotated[int | None, tyro.conf.arg(prefix_name=False)] = None
    kwargs: Annotated[tuple[str, ...], tyro.conf.arg(name="env-kwargs", prefix_name=False)] = ()
    discretize: Annotated[int | None, tyro.conf.arg(prefix_name=False)] = None
    engine: Annotated[VectorName, tyro.conf.arg(name="env-engine", prefix_name=False)] = GYMNASIUM
    workers: Annotated[int, tyro.conf.arg(prefix_name=False)] = 1
    channels: Annotated[Channels | None, tyro.conf.arg(prefix_name=False)] = None
    offsets: Annotated[tuple[str, ...], tyro.conf.arg(name="obs-offsets", prefix_name=False)] = ()


@dataclass(frozen=True)
class NetworkConfig:
    """The Q-network.

    Attributes:
        torso: ``mlp`` for vectors; for images ``nature`` (Mnih et al. 2015: three convolutions), ``small`` (one, for
            images of few pixels, [1903.03176]), ``board`` (three of 3×3, for board games), ``impala`` (residual,
            [1802.01561]), ``mobile`` (depthwise-separable, [1704.04861]) or ``shuffle`` (grouped convolutions and
            channel shuffle, [1707.01083]).
        torso_width: multiplies the channels of a convolutional torso.
        torso_pool: a last 3×3 max-pool of stride 2 (on 84×84 images, after ``impala``: to 6×6, as BTR [2411.03820]).
        spectral_norm: the residual convolutions of ``impala``, and with ``mlp`` the fully connected layers before the
            head, have a largest singular value of 1 [1802.05957] (engines native, torch and device).
        space_to_depth: side of the blocks of pixels that become channels before the first convolution (1: none);
            not with ``nature``.
        hidden: widths of the fully connected layers before the head.
        layer_norm: LayerNorm without parameters before each ReLU of the fully connected layers.
        dueling: separate value and advantage outputs [1511.06581].
        noisy: factorised Gaussian noise on the fully connected layers explores in place of ε [1706.10295].
        noisy_sigma: σ₀, its initial size.
        head: what is learnt of the return: ``q`` its mean, ``c51`` a histogram [1707.06887], ``hl-gauss`` its mean by
            classification into the bins of a histogram [2403.03950], ``qr`` fixed quantiles [1710.10044], ``iqn``
            quantiles at random fractions [1806.06923], ``branching`` the mean in each dimension of actions that
            have several [1711.08946].
        atoms: bins of ``c51`` and ``hl-gauss``, quantiles of ``qr``, random fractions per update of ``iqn``.
        v_min: lowest bin of ``c51`` and ``hl-gauss``, in scaled rewards.
        v_max: their highest bin.
        smoothing: standard deviation of what ``hl-gauss`` is taught, in bins.
        cosines: features that ``iqn`` makes of a fraction.
        policy_fractions: evenly spread fractions that ``iqn`` averages to act, and when it is exported.
        normalize_obs: subtract the running mean, divide by the running deviation and clip at ``obs_clip`` deviations
            (vectors only); a feature that never varied counts for nothing; frozen when the run ends and exported as
            part of the network.
        obs_clip: in standard deviations.
        memory: units of a GRU [1406.1078] between the fully connected layers and the head, which remembers what was
            observed since an episode began (0: the network sees the present observation only).
        sparsity: share of the weights that are 0 from the start to the end (engines native and torch).
        sparsity_mode: ``static`` random places; ``dynamic`` places that move to where gradients are largest
            [1911.11134].
    """

    torso: TorsoName = MLP
    torso_width: int = 1
    torso_pool: bool = False
    spectral_norm: bool = False
    space_to_depth: int = 1
    hidden: tuple[int, ...] = (64, 64)
    layer_norm: bool = True
    dueling: bool = False
    noisy: bool = False
    noisy_sigma: float = 0.5
    head: HeadName = Q
    atoms: int = 51
    v_min: float = -10.0
    v_max: float = 10.0
    smoothing: float = 0.75
    cosines: int = 64
    policy_fractions: int = 32
    normalize_obs: bool = True
    obs_clip: float = 6.0
    memory: int = 0
    sparsity: float = 0.0
    sparsity_mode: Literal["static", "dynamic"] = "static"


@dataclass(frozen=True)
class ReplayConfig:
    """The replay: what it stores and how it is sampled.

    Attributes:
        capacity: transitions stored.
        n_step: rewards summed before bootstrapping; windows are cut at termination and at truncation.
        prioritized: sample in proportion to ``|TD error|^alpha`` [1511.05952].
        alpha: exponent of the priority.
        beta_start: exponent of the importance weights at the start of the run.
        beta_end: their exponent at its end; linear in between.
        burn_in: with ``network.memory``, steps of a sequence that only refresh what was remembered when they were
            played [Kapturowski et al. 2019].
        sequence: with ``network.memory``, steps after those, which are learnt from; ``learner.batch_size`` counts them.
        compress: store images compressed (lossless): takes a fraction of the memory and some time per sample.
    """

    capacity: int = 50_000
    n_step: int = 3
    prioritized: bool = False
    alpha: float = 0.6
    beta_start: float = 0.4
    beta_end: float = 1.0
    burn_in: int = 8
    sequence: int = 16
    compress: bool = True


@dataclass(frozen=True)
class LearnerConfig:
    """One gradient step.

    Attributes:
        engine: ``native`` (C; fully connected nets on vectors), ``torch`` (everything, on the CPU), ``device``
            (replay and learner together on ``device``), ``xla`` (JAX: a TPU, a GPU or the CPU), ``parallel`` (torch, in
            ``learners`` processes), ``stream`` (C; the algorithm stream), ``recurrent`` (torch; with
            ``network.memory``), ``auto`` (native if it can, else torch; with
            ``learners`` parallel).
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
        loss: on the TD error, before importance weights (``c51``, ``hl-gauss``, ``qr`` and ``iqn`` bring
            their own).
        munchausen: add the scaled log-policy to the reward and bootstrap softly [2007.14430]; with ``double`` the
            online net gives the next policy.
        munchausen_alpha: α, weight of the log-policy.
        munchausen_tau: τ, temperature of the policy, in scaled rewards.
        munchausen_clip: l₀, lower bound of ``τ·log π``.
        optimizer: ``adam``, or ``radam``, which warms up by itself [1908.03265].
        lr: learning rate at the start.
        lr_end: learning rate after ``lr_updates`` updates, reached linearly and constant from there.
        lr_updates: length of that ramp, in updates.
        adam_eps: Adam's ε.
        max_grad_norm: clip of the global gradient norm (0: off).
        reward_clip: each step's reward is clipped to ± this before it is scaled and summed, for learning only
            (0: off; Nature 2015 clips Atari's at 1). Reported returns and checks are as the environment pays.
        reward_scale: rewards are multiplied by this before learning (returns are reported unscaled).
    """

    engine: Annotated[EngineName, tyro.conf.arg(aliases=("--learner",))] = AUTO
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
        hold: a random action is repeated for a random time of at most this many steps (1: not repeated), and ε is
            the probability that one starts [2006.01782]; for systems with inertia.
    """

    start: float = 1.0
    end: float = 0.05
    updates: int = 2_000
    hold: int = 1


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
class StreamConfig:
    """Learning from each step as it is played, without a replay or a batch: stream Q(λ) [2410.14606].

    Its step size ``learner.lr`` is bounded from step to step, so 1 will do.

    Attributes:
        trace_decay: λ of the eligibility traces.
        overshoot: κ: steps are bounded to 1/κ of what would just reach the target.
        sparsity: share of the inputs of each unit that start at 0; at least one does not.
    """

    trace_decay: float = 0.8
    overshoot: float = 2.0
    sparsity: float = 0.9


@dataclass(frozen=True)
class PolicyConfig:
    """A small policy network beside the Q-network, which is then called the value network.

    The policy acts; it is what is checked, compressed, certified and exported. The value network learns by TD, the
    policy from the value network.

    Attributes:
        network: widths of its fully connected layers, such as 16-16, or linear for none (empty: there is no policy
            network, the Q-network acts). Convolutions are those of ``network``.
        format: of the weights that it acts with and is saved with: float32, or int8 with a scale for each output.
        collects: which network plays to learn from.
        loss: ``kl``: the divergence from softmax(Q/τ) of the value network; ``advantage``: the log-likelihood of the
            actions in the replay, weighted by exp(advantage/τ) [1910.00177].
        temperature: τ in median action gaps of the value network.
        layer_norm: as in ``network``.
        torso_pool: as in ``network``: a last max-pool makes the policy smaller.
        lr: its learning rate at the start.
        lr_end: its learning rate after ``lr_updates`` updates, reached linearly.
        lr_updates: length of that ramp, in updates.
    """

    network: Annotated[str, tyro.conf.arg(name="policy-network", prefix_name=False)] = ""
    format: Annotated[Literal["float32", "int8"], tyro.conf.arg(name="policy-format", prefix_name=False)] = "float32"
    collects: Literal["policy", "value"] = "value"
    loss: Literal["kl", "advantage"] = "kl"
    temperature: float = 0.5
    layer_norm: bool = False
    torso_pool: bool = False
    lr: float = 3e-3
    lr_end: float = 3e-4
    lr_updates: int = 20_000


@dataclass(frozen=True)
class TransferConfig:
    """Starting from the policy of another task, beside a learner from scratch: if it hurts it is given up.

    Attributes:
        source: a run, or an artefact (empty: none).
        method: ``qdagger`` [2206.01626]: the source teaches: its play fills the replay first, and the divergence from
            its policy is part of the loss until the student is as good; ``finetune``: the source's layers, and
            its head where the actions are the same; ``frozen``: so too, and early layers do not learn at first.
        teacher_share: of the steps, in which the teacher plays in place of its student (qdagger).
        offline_updates: before the student acts (qdagger).
        weight_share: of the steps, after which the teacher's policy is not part of the loss any more (qdagger).
        temperature: of the teacher's policy, in its median action gaps (qdagger).
        frozen_layers: that do not learn at first (frozen).
        frozen_updates: for so long (frozen).
        patience: pairs of checks, one after the other, after which the learner that was behind is given up.
    """

    source: Annotated[str, tyro.conf.arg(name="from", prefix_name=False)] = ""
    method: Annotated[Literal["qdagger", "finetune", "frozen"], tyro.conf.arg(name="transfer", prefix_name=False)] = (
        "qdagger"
    )
    teacher_share: float = 0.01
    offline_updates: int = 1_000
    weight_share: float = 0.1
    temperature: float = 0.5
    frozen_layers: int = 1
    frozen_updates: int = 2_000
    patience: int = 10


@dataclass(frozen=True)
class EvalConfig:
    """Greedy checks during training, and the final one.

    Attributes:
        every: updates between checks.
        episodes: of a check.
        stop_return: training ends once ``final_episodes`` fresh episodes average at least this (None: never).
        final_episodes: fresh episodes behind the reported mean and its 95 % interval.
        network: which one is checked and saved: ``online``, or its ``average`` over the last updates (Polyak &
            Juditsky 1992), which varies less from check to check.
        average_updates: length of that average, about, in updates.
        beside: run checks in a process of their own while training goes on, if there is a second core. The
            result is the same.
    """

    every: int = 1_000
    episodes: int = 20
    stop_return: float | None = None
    final_episodes: int = 100
    network: Literal["online", "average"] = "online"
    average_updates: int = 1_000
    beside: bool = True


@dataclass(frozen=True)
class EvolveConfig:
    """Direct search of the last layer on returns, by CMA-ES, when learning has ended: what of it is worth most.

    Attributes:
        generations: of candidates, at most: it ends once fresh episodes average ``evaluation.stop_return`` (0: the
            network stays as it was learnt).
        population: candidates of a generation.
        episodes: that each of them plays, on the same seeds.
        features: of the observation that the search may weigh anew for each action; above so many, their first
            principal components.
        sigma: first step size, in median action gaps for a standard deviation of a feature.
    """

    generations: int = 0
    population: int = 14
    episodes: int = 16
    features: int = 8
    sigma: float = 0.2


@dataclass(frozen=True)
class DistributedConfig:
    """Training in several processes, on one machine or on many; Ray runs them.

    Attributes:
        actors: processes that play, each ``envs`` environments with an ε of its own in place of ``explore``'s
            [1803.00933] (0: training plays by itself).
        chunk: steps of its environments that an actor sends at once.
        learners: processes that share the batch of each update.
        ray: address of a running Ray cluster, host:port or auto (None: Ray is started on this machine).
    """

    actors: Annotated[int, tyro.conf.arg(prefix_name=False)] = 0
    chunk: int = 64
    learners: Annotated[int, tyro.conf.arg(prefix_name=False)] = 1
    ray: Annotated[str | None, tyro.conf.arg(prefix_name=False)] = None


@dataclass(frozen=True)
class LogConfig:
    """Where metrics go besides ``metrics.jsonl`` and TensorBoard; not part of `TrainConfig`, as it changes no result.

    Attributes:
        wandb: Weights & Biases: ``offline`` writes to the run directory (``wandb sync`` uploads it later), ``online``
            uploads while training. A resumed run continues the same W&B run.
        project: its project.
    """

    wandb: Literal["off", "offline", "online"] = "off"
    project: str = "nimbleq"


@dataclass(frozen=True)
class TrainConfig:
    """A whole training run.

    Attributes:
        algorithm: ``dqn`` learns from replay (every section but ``pqn`` and ``stream``), ``pqn`` from what was just
            played (every section but ``replay`` and ``stream``), ``stream`` from each step at once.
        seed: of networks, exploration, replay and environments.
        steps: budget in environment steps.
        envs: environments stepped side by side (by each of the ``actors``, where there are any).
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
    stream: StreamConfig = field(default_factory=StreamConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    transfer: TransferConfig = field(default_factory=TransferConfig)
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    evolve: EvolveConfig = field(default_factory=EvolveConfig)
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    algorithm: Literal["dqn", "pqn", "stream"] = "dqn"
    seed: int = 0
    steps: int = 500_000
    envs: int = 16
    learn_start: int = 1_000
    updates_per_step: int = 1
    update_every: int = 1
    checkpoint_seconds: float = 30.0
