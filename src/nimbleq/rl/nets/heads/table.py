"""The table of heads: what ``network.head`` chooses between.

All of them combine with double, dueling, n-step, importance weights, noisy layers and Munchausen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nimbleq.config import TrainConfig
from nimbleq.errors import ConfigError
from nimbleq.rl.spec import EnvSpec
from nimbleq.table import Table

if TYPE_CHECKING:
    from nimbleq.rl.nets.heads.head import Head

HEADS: Table[Head] = Table(
    {
        "q": "nimbleq.rl.nets.heads.q:HEAD",
        "c51": "nimbleq.rl.nets.heads.c51:HEAD",
        "hl-gauss": "nimbleq.rl.nets.heads.hl_gauss:HEAD",
        "qr": "nimbleq.rl.nets.heads.qr:HEAD",
        "iqn": "nimbleq.rl.nets.heads.iqn:HEAD",
        "branching": "nimbleq.rl.nets.heads.branching:HEAD",
    }
)
"""By name."""


def choices() -> tuple[str, ...]:
    """What ``--network.head`` takes."""
    return tuple(HEADS)


def head_named(name: str) -> Head:
    """The row ``name``.

    Raises:
        ConfigError: there is none.
    """
    if name not in HEADS:
        raise ConfigError(f"there is no network.head {name!r}; choose from {', '.join(HEADS)}")
    return HEADS[name]


def check_head(config: TrainConfig) -> None:
    """Refuse settings with which the head cannot work.

    Raises:
        ConfigError: names the setting and what it has to be.
    """
    head = head_named(config.network.head)
    if config.algorithm == "pqn" and head.return_loss is None:
        able = " or ".join(row.name for row in HEADS.values() if row.return_loss is not None)
        raise ConfigError(f"the setting network.head must be {able}, which is what pqn learns, not {head.name}")
    if head.branches:
        _check_branches(config)
    reason = head.why_not(config.network)
    if reason is not None:
        raise ConfigError(reason)


def _check_branches(config: TrainConfig) -> None:
    for setting, holds, wanted in (
        ("learner.munchausen", not config.learner.munchausen, "off"),
        ("policy.network", not config.policy.network, "left out"),
        ("transfer.source", not config.transfer.source, "left out"),
        ("distributed.actors", not config.distributed.actors, "0"),
    ):
        if not holds:
            raise ConfigError(f"the setting {setting} must be {wanted} with network.head {config.network.head}")


def why_not_here(config: TrainConfig, spec: EnvSpec) -> str | None:
    """Why these settings do not fit the actions of an environment, in one line; None when they do."""
    head = head_named(config.network.head)
    if head.branches == bool(spec.branches):
        return None
    able = " or ".join(row.name for row in HEADS.values() if row.branches == bool(spec.branches))
    kind = f"in {len(spec.branches)} dimensions" if spec.branches else "of one dimension"
    return f"{config.env.id} takes actions {kind}: the setting network.head must be {able}, not {head.name}"
