"""Which settings can train: their ranges, and what environments, torso, head and engine ask for."""

from __future__ import annotations

from nimbleq.config import TrainConfig, validate
from nimbleq.rl.envs.vectors import check_vector_engine
from nimbleq.rl.learners.engines import check_engine
from nimbleq.rl.nets.heads.table import check_head
from nimbleq.rl.nets.torsos.table import check_torso
from nimbleq.rl.policy_value.networks import check_policy
from nimbleq.rl.transfer.transfer import check_transfer


def check_settings(config: TrainConfig) -> None:
    """Refuse settings that cannot train, as far as that can be seen without the environment.

    Raises:
        ConfigError: names the setting and what it has to be, in one line.
    """
    validate(config)
    check_vector_engine(config.env)
    check_torso(config)
    check_head(config)
    check_engine(config)
    check_policy(config)
    check_transfer(config)
