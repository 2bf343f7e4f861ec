"""The state of a training run as one value, and its way to disk and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nimbleq.config import TrainConfig, from_dict, require_same_result, to_dict
from nimbleq.errors import ConfigError
from nimbleq.rl.distributed.ledger import Ledger
from nimbleq.rl.envs.vector_engine import Source
from nimbleq.rl.envs.vectors import VECTOR_ENGINES
from nimbleq.rl.explore import Explorer
from nimbleq.rl.learners.engine import Engine
from nimbleq.rl.learners.learner import Learner
from nimbleq.rl.policy_value.pair import training_engine
from nimbleq.rl.replay.buffer import ReplayBuffer
from nimbleq.rl.replay.disk_log import ReplayLog, load_replay
from nimbleq.rl.replay.ring import Replay, part
from nimbleq.rl.replay.shared_frames import NOWHERE
from nimbleq.rl.training.average import WeightAverage
from nimbleq.rl.training.best import check_best, save_best
from nimbleq.rl.training.check import EvalJob, check_arrays, check_of
from nimbleq.rl.training.checkpoint import load_checkpoint, save_checkpoint
from nimbleq.rl.training.race import Race
from nimbleq.rl.training.stats import ObsStats
from nimbleq.rl.transfer.transfer import Transfer
from nimbleq.types import Array, ObsSpec

_BEST = "best.safetensors"


@dataclass
class Counters:
    """Plain numbers of a run.

    Attributes:
        steps: environment steps so far.
        seconds: of training in earlier sessions.
        next_check: updates at which the next greedy check is due.
        checked: episodes played in checks (their seeds are used up).
        best_return: mean return of the best checked network (None: none was checked yet).
        best_updates, best_steps: when that network was learnt.
        best_transferred: it is of the learner that starts from a source.
        solved: a check reached ``stop_return`` and fresh episodes confirmed it.
        metrics_bytes: length of ``metrics.jsonl``.
        recent: returns of the last finished training episodes.
    """

    steps: int = 0
    seconds: float = 0.0
    next_check: int = 0
    checked: int = 0
    best_return: float | None = None
    best_updates: int = 0
    best_steps: int = 0
    best_transferred: bool = False
    solved: bool = False
    metrics_bytes: int = 0
    recent: list[float] = field(default_factory=list)


@dataclass
class TrainState:
    """Everything that training changes: saving it and loading it back changes nothing that follows.

    ``envs`` is the ledger of what came from actors where these play;
    ``replay`` is None for PQN, which stores nothing between two rollouts; ``stats`` is None without normalisation;
    ``race`` is the learner that starts from a source, beside ``learner`` (None: there is no source);
    ``average`` is that of the weights, where it is what is checked (None: the network itself is); ``checking`` is the
    greedy check whose outcome does not count yet; ``replay_log`` is what of the replay is on disk (None: nothing),
    ``best_written`` the network that lies beside it as ``best.safetensors``.
    """

    config: TrainConfig
    engine: Engine[Any, Any]
    learner: Learner
    envs: Source
    replay: ReplayBuffer | None
    stats: ObsStats | None
    explorer: Explorer
    replay_rng: np.random.Generator
    best: dict[str, Array]
    counters: Counters
    average: WeightAverage | None = None
    checking: EvalJob | None = None
    replay_log: ReplayLog | None = None
    best_written: dict[str, Array] | None = None
    race: Race | None = None

    @property
    def rival(self) -> Race | None:
        """The race, as long as it is not decided."""
        return self.race if self.race is not None and self.race.outcome is None else None


def new_state(config: TrainConfig, transfer: Transfer | None = None) -> TrainState:
    """The state before the first step; ``config.seed`` decides all of it, and ``transfer`` who learns beside it."""
    envs = _source(config)
    obs = envs.spec.obs
    engine = training_engine(config, envs.spec)
    learner = engine.make(config, envs.spec, config.seed)
    averaging = config.evaluation.network == "average"
    explore, replay = (np.random.default_rng([config.seed, purpose]) for purpose in range(2))
    return TrainState(
        config=config,
        engine=engine,
        learner=learner,
        envs=envs,
        replay=engine.replay(config, envs.spec, learner) if config.algorithm == "dqn" else None,
        stats=_stats(config, obs),
        explorer=Explorer(config.explore, explore, config.envs, envs.spec.choices, envs.spec.branches),
        replay_rng=replay,
        best=learner.weights(),
        counters=Counters(next_check=config.evaluation.every),
        average=WeightAverage(config.evaluation.average_updates, learner) if averaging else None,
        race=None if transfer is None else Race(config, transfer, engine, envs.spec),
    )


def _source(config: TrainConfig) -> Source:
    if config.distributed.actors > 0:
        return Ledger(config)
    return VECTOR_ENGINES[config.env.engine].make(config.env, config.envs, config.seed)


def _stats(config: TrainConfig, obs: ObsSpec) -> ObsStats | None:
    """Of the numbers in a vector, if they are normalised."""
    numbers = obs.shape[0] - obs.pixels if len(obs.shape) == 1 else 0
    apart = config.algorithm != "stream"  # whose learner keeps them itself
    return ObsStats(numbers, obs.pixels) if config.network.normalize_obs and numbers > 0 and apart else None


def save_state(state: TrainState, folder: Path) -> None:
    """Write a checkpoint; of the replay only what is new since the last one in ``folder``.

    Raises:
        FileError: the disk is full or not writable; the checkpoint before it is whole.
    """
    log = state.replay_log
    if state.replay is not None and (log is None or log.folder != folder):
        log = state.replay_log = _new_log(state.replay.settled(), folder)
    # The order is what makes it safe: see `nimbleq.rl.replay.disk_log`.
    segments = [] if log is None or state.replay is None else log.append(state.replay.settled())
    groups = {
        "learner": state.learner.arrays(),
        "envs": state.envs.arrays(),
        "replay": state.replay.arrays() if state.replay is not None else {},
        "explorer": state.explorer.arrays(),
        "stats": state.stats.arrays() if state.stats is not None else {},
        "best": state.best,
        "average": state.average.arrays() if state.average is not None else {},
        "checking": check_arrays(state.checking),
        "race": state.race.arrays() if state.race is not None else {},
    }
    arrays = {f"{group}.{name}": value for group, members in groups.items() for name, value in members.items()}
    values: dict[str, Any] = {
        "config": to_dict(state.config),
        "counters": vars(state.counters),
        "explore_rng": state.explorer.rng.bit_generator.state,
        "replay_rng": state.replay_rng.bit_generator.state,
        "replay": segments,
        "race": None if state.race is None else state.race.values(),
    }
    save_checkpoint(folder, arrays, values)
    if log is not None:
        log.prune()
    if state.best is not state.best_written and state.counters.best_return is not None:
        save_best(folder / _BEST, state.best)  # a copy for other tools and verbs
        state.best_written = state.best


def _new_log(replay: Replay, folder: Path) -> ReplayLog:
    if replay.frames is not None:
        replay.frames.segment[:] = NOWHERE
    return ReplayLog(folder)


def load_state(config: TrainConfig, folder: Path, transfer: Transfer | None = None) -> TrainState:
    """Go on from a checkpoint; with the ``transfer`` that `new_state` had.

    Raises:
        FileError: see `load_checkpoint`; or a file beside it is damaged.
        ConfigError: the checkpoint belongs to other settings.
        EnvError: see `VectorEnv.load_arrays`.
    """
    arrays, values = load_checkpoint(folder)
    if (folder / _BEST).exists():
        check_best(folder / _BEST)
    require_same_result(_settings(values, folder), config, f"the checkpoint in {folder}")
    state = new_state(config, transfer)
    if state.race is not None:
        state.race.load(part(arrays, "race"), values["race"])
    state.learner.load_arrays(part(arrays, "learner"))
    state.envs.load_arrays(part(arrays, "envs"))
    if state.replay is not None:
        replay = part(arrays, "replay")
        state.replay_log = load_replay(state.replay.settled(), replay, values["replay"], folder)
        state.replay.mirror(replay)
    stats = part(arrays, "stats")
    if state.stats is not None and stats:
        state.stats.load_arrays(stats)
    else:  # a network that was taken from a source keeps its own
        state.stats = None
    state.explorer.rng.bit_generator.state = values["explore_rng"]
    state.explorer.load_arrays(part(arrays, "explorer"))
    state.replay_rng.bit_generator.state = values["replay_rng"]
    state.best = part(arrays, "best")
    if state.average is not None:
        average = part(arrays, "average")
        state.average.load_arrays(average, part(average, "weights"))
    state.counters = Counters(**values["counters"])
    checking = part(arrays, "checking")
    state.checking = check_of(checking, part(checking, "weights"))
    return state


def _settings(values: Mapping[str, Any], folder: Path) -> TrainConfig:
    try:
        settings: TrainConfig = from_dict(TrainConfig, values["config"])
    except ConfigError as error:
        raise ConfigError(f"the checkpoint in {folder} is of a newer nimbleq: {error}") from None
    return settings
