"""Metrics to Weights & Biases (the extra ``wandb``); imported only on request."""

from __future__ import annotations

import importlib.util
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nimbleq.config import LogConfig
from nimbleq.errors import ConfigError, NimbleqError
from nimbleq.files import read_json, write_json


class WandbLog:
    """The W&B run of a run directory, whose ``wandb.json`` holds the id.

    The horizontal axis is ``env_step``. Steps repeated after a resume appear twice, with the same values.

    Args:
        log: offline or online, and the project.
        folder: run directory.
        config: settings of the run, as plain JSON values.
        resume: continue the W&B run of the folder.

    Raises:
        ConfigError: the package is not installed.
        NimbleqError: it cannot start (no login, no network, …).
    """

    def __init__(self, log: LogConfig, folder: Path, config: Mapping[str, Any], resume: bool) -> None:
        check_wandb(log)
        import wandb

        memory = folder / "wandb.json"
        known = read_json(memory).get("id") if resume and memory.exists() else None
        identity = known or secrets.token_hex(4)
        assert log.wandb != "off"
        try:
            self._run = wandb.init(
                project=log.project,
                id=identity,
                name="/".join(folder.parts[-2:]),
                resume="allow" if known else None,
                mode=log.wandb,
                dir=folder,
                config=dict(config),
                settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
            )
        except Exception as error:
            raise NimbleqError(f"Weights & Biases cannot start: {' '.join(str(error).split())}") from error
        write_json(memory, {"id": identity, "project": log.project, "wandb": log.wandb})
        self._run.define_metric("env_step")
        self._run.define_metric("*", step_metric="env_step")

    def write(self, step: int, record: Mapping[str, float]) -> None:
        """A record at environment step ``step``."""
        self._run.log({"env_step": step, **record})

    def close(self) -> None:
        """Flush; the run may go on later."""
        self._run.finish()


def wandb_log(log: LogConfig | None, folder: Path, config: Mapping[str, Any], resume: bool) -> WandbLog | None:
    """The writer that ``log`` describes."""
    return None if log is None or log.wandb == "off" else WandbLog(log, folder, config, resume)


def check_wandb(log: LogConfig) -> None:
    """Raise `ConfigError` if ``log`` needs a package that is not installed."""
    if log.wandb != "off" and importlib.util.find_spec("wandb") is None:
        raise ConfigError("--log.wandb needs the package wandb: pip install 'nimbleq[wandb]'")


def remembered_log(folder: Path) -> LogConfig:
    """How the run in ``folder`` was logged last."""
    path = folder / "wandb.json"
    known = read_json(path) if path.exists() else {}
    try:
        return LogConfig(known["wandb"], known["project"])
    except (KeyError, TypeError):
        return LogConfig()
