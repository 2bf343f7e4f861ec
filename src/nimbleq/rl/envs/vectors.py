"""The table of what steps the environments of training: the choices of ``--env-engine``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nimbleq.config import EnvConfig
from nimbleq.errors import ConfigError
from nimbleq.table import Table

if TYPE_CHECKING:
    from nimbleq.rl.envs.vector_engine import VectorEngine

VECTOR_ENGINES: Table[VectorEngine] = Table(
    {
        "gymnasium": "nimbleq.rl.envs.vector:ENGINE",
        "envpool": "nimbleq.rl.envs.envpool:ENGINE",
        "gymnax": "nimbleq.rl.envs.gymnax:ENGINE",
    }
)
"""By name."""


def choices() -> tuple[str, ...]:
    """What ``--env-engine`` takes."""
    return tuple(VECTOR_ENGINES)


def check_vector_engine(config: EnvConfig) -> None:
    """Refuse an unknown engine, and workers where it has none.

    Raises:
        ConfigError: in one line.
    """
    if config.engine not in VECTOR_ENGINES:
        raise ConfigError(f"there is no env.engine {config.engine!r}; choose from {', '.join(VECTOR_ENGINES)}")
    reason = VECTOR_ENGINES[config.engine].no_workers
    if reason and config.workers > 1:
        raise ConfigError(f"the setting workers must be 1 with {config.engine}, {reason}, not {config.workers}")
