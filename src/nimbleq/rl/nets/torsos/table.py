"""The table of torsos: what ``network.torso`` chooses between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nimbleq.config import TrainConfig
from nimbleq.errors import ConfigError
from nimbleq.table import Table

if TYPE_CHECKING:
    from nimbleq.rl.nets.torsos.torso import Torso

TORSOS: Table[Torso] = Table(
    {
        "mlp": "nimbleq.rl.nets.torsos.mlp:TORSO",
        "nature": "nimbleq.rl.nets.torsos.nature:TORSO",
        "small": "nimbleq.rl.nets.torsos.small:TORSO",
        "board": "nimbleq.rl.nets.torsos.board:TORSO",
        "impala": "nimbleq.rl.nets.torsos.impala:TORSO",
        "mobile": "nimbleq.rl.nets.torsos.mobile:TORSO",
        "shuffle": "nimbleq.rl.nets.torsos.shuffle:TORSO",
    }
)
"""By name."""


def choices() -> tuple[str, ...]:
    """What ``--network.torso`` takes."""
    return tuple(TORSOS)


def torso_named(name: str) -> Torso:
    """The row ``name``.

    Raises:
        ConfigError: there is none.
    """
    if name not in TORSOS:
        raise ConfigError(f"there is no network.torso {name!r}; choose from {', '.join(TORSOS)}")
    return TORSOS[name]


def check_torso(config: TrainConfig) -> None:
    """Refuse settings with which the torso cannot work.

    Raises:
        ConfigError: names the setting and what it has to be.
    """
    torso = torso_named(config.network.torso)
    if config.network.spectral_norm and not torso.spectral_norm:
        able = " or ".join(row.name for row in TORSOS.values() if row.spectral_norm)
        raise ConfigError(f"the setting network.spectral_norm must be off, except with the torso {able}, not True")
    if config.network.spectral_norm and not torso.pictures:
        for name, on, wanted in (
            ("network.noisy", config.network.noisy, "off"),
            ("transfer.source", config.transfer.source, "left out"),
        ):
            if on:
                where = f"with network.spectral_norm and the torso {torso.name}"
                raise ConfigError(f"the setting {name} must be {wanted} {where}, not {on}")
