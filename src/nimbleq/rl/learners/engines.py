"""The table of engines, and the choice of one."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

from nimbleq.config import AUTO, TrainConfig, with_changes
from nimbleq.errors import ConfigError
from nimbleq.rl.nets.heads.table import why_not_here
from nimbleq.rl.spec import EnvSpec
from nimbleq.table import Table

if TYPE_CHECKING:
    from nimbleq.rl.learners.engine import Engine
    from nimbleq.rl.learners.learner import Learner

ENGINES: Table[Engine[Any, Any]] = Table(
    {
        "native": "nimbleq.rl.learners.native:ENGINE",
        "torch": "nimbleq.rl.learners.torch_engine:ENGINE",
        "device": "nimbleq.rl.learners.device.engine:ENGINE",
        "xla": "nimbleq.rl.learners.xla.engine:ENGINE",
        "parallel": "nimbleq.rl.learners.parallel_engine:ENGINE",
        "stream": "nimbleq.rl.learners.stream:ENGINE",
        "recurrent": "nimbleq.rl.learners.recurrent.engine:ENGINE",
    }
)
"""By name. ``auto`` takes the first row that can train."""


def choices() -> tuple[str, ...]:
    """What ``--learner.engine`` takes."""
    return AUTO, *ENGINES


def engine_for(config: TrainConfig, spec: EnvSpec | None) -> Engine[Any, Any]:
    """The engine that trains ``config`` on the environment ``spec`` (None: not known yet).

    Raises:
        ConfigError: there is no such engine, or it cannot train this; in one line, with the reason.
    """
    wanted = config.learner.engine
    if wanted == AUTO:
        rows = [row for row in ENGINES.values() if _misses(row, config) is None] or list(ENGINES.values())
        reason = None
        for row in rows:  # one after the other: to ask a row may load what it computes with
            reason = _why_not(row, config, spec)
            if reason is None:
                return row
        raise ConfigError(str(reason))
    if wanted not in ENGINES:
        raise ConfigError(f"there is no learner.engine {wanted!r}; choose from {', '.join(choices())}")
    reason = _why_not(ENGINES[wanted], config, spec)
    if reason is not None:
        raise ConfigError(reason)
    return ENGINES[wanted]


def _why_not(row: Engine[Any, Any], config: TrainConfig, spec: EnvSpec | None) -> str | None:
    wrong = None if spec is None else why_not_here(config, spec)
    return _misses(row, config) or wrong or row.why_not(config, spec)


def _misses(row: Engine[Any, Any], config: TrainConfig) -> str | None:
    """Why a row is for another kind of training, in one line; None if it is for this."""
    if config.distributed.learners > 1 and not row.shares:
        able = " or ".join(other.name for other in ENGINES.values() if other.shares)
        return f"learner.engine {row.name} computes in one process: leave out --learners, or use {able}"
    if config.algorithm not in row.learns:
        able = " or ".join(other.name for other in ENGINES.values() if config.algorithm in other.learns)
        return f"learner.engine {row.name} does not learn {config.algorithm}: use {able}"
    if row.remembers != bool(config.network.memory):
        able = " or ".join(other.name for other in ENGINES.values() if other.remembers)
        only = (
            f"only {able} trains a network that remembers" if config.network.memory else f"{able} trains nothing else"
        )
        return f"learner.engine {row.name} does not go with network.memory {config.network.memory}: {only}"
    return None


def checking_engine(config: TrainConfig, spec: EnvSpec) -> Engine[Any, Any]:
    """The engine that plays the greedy checks of a run: on the CPU, unless they are played where it is trained."""
    row = ENGINES.get(config.learner.engine)
    if row is not None and row.on_gpu(config):
        return row
    changes = {"learner.engine": AUTO if row is None else row.checks, "distributed.learners": 1}
    return engine_for(with_changes(config, changes), spec)


def for_playing(config: TrainConfig) -> TrainConfig:
    """The settings of a learner that only plays: as exactly as what is saved, and with nothing compiled first."""
    playing: TrainConfig = with_changes(config, {"learner.precision": "float32", "learner.compile": False})
    return playing


def check_engine(config: TrainConfig) -> None:
    """Refuse settings of another engine than the one that is asked for, and what that one cannot train.

    Raises:
        ConfigError: names the setting and what it has to be, or gives the engine's reason.
    """
    default = TrainConfig()
    for row in ENGINES.values():
        for name in row.settings if row.name != config.learner.engine else ():
            value, wanted = (attrgetter(name)(each) for each in (config, default))
            if value != wanted:
                word = "off" if wanted is False else wanted
                raise ConfigError(f"the setting {name} must be {word} without learner.engine {row.name}, not {value}")
    engine_for(config, None)


def make_learner(config: TrainConfig, spec: EnvSpec, seed: int) -> Learner:
    """A fresh learner on the engine for ``config``; the same seed gives the same initial weights on every engine.

    Raises:
        ConfigError: see `engine_for`.
    """
    learner: Learner = engine_for(config, spec).make(config, spec, seed)
    return learner
