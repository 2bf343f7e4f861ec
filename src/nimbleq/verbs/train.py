"""``nimbleq train``: environment → run directory with a trained policy in ``artefacts/teacher``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from nimbleq.config import EnvConfig, LogConfig, TrainConfig, require_same_result, to_dict, validate
from nimbleq.console import Console
from nimbleq.errors import ConfigError, FileError
from nimbleq.files import write_json
from nimbleq.rundir import RunDir
from nimbleq.verbs.common import RUN_FORMAT, Output, read_settings, save_teacher, saved_config
from nimbleq.version import VERSION
from nimbleq.wandb_log import check_wandb, remembered_log


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """Train a deep Q-network. The preset of the environment gives every default below.

    Attributes:
        preset: which algorithm's settings to start from (for small images pqn learns much faster on a CPU than dqn).
        from_file: settings to start from in place of a preset: the config.json of a run, or the best.json of nimbleq
            tune. What else is given on the command line wins.
        out: run directory (default runs/ENV/PRESET-seedN).
        resume: go on with the run in OUT from its last checkpoint.
    """

    preset: str = "dqn"
    from_file: Annotated[Path | None, tyro.conf.arg(name="config")] = None
    out: Path | None = None
    resume: bool = False
    log: LogConfig = field(default_factory=LogConfig)
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)


def arguments(words: Sequence[str]) -> Args:
    """Defaults of the options: from the file of ``--config``, else from the run that is resumed, else from a preset.

    Raises:
        ConfigError: both a file and a preset are given, or there is no such preset.
        FileError: the file, or the run that is resumed, is damaged.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--env", default="CartPole-v1")
    first.add_argument("--max-episode-steps", "--max_episode_steps", default="")
    first.add_argument("--env-kwargs", "--env_kwargs", nargs="*", default=())
    first.add_argument("--discretize", default="")
    first.add_argument("--channels", choices=("first", "last", "flat"), default=None)
    first.add_argument("--obs-offsets", "--obs_offsets", nargs="*", default=())
    first.add_argument("--preset", default=None)
    first.add_argument("--config", type=Path, default=None)
    first.add_argument("--out", type=Path, default=None)
    first.add_argument("--resume", action="store_true")
    try:
        known, _ = first.parse_known_args(list(words))
    except argparse.ArgumentError as error:
        raise ConfigError(str(error)) from None
    preset = known.preset or "dqn"
    resumed = known.resume and known.out is not None and RunDir(known.out).config.exists()
    log = remembered_log(known.out) if resumed else LogConfig()
    if known.config is not None:
        if known.preset is not None:
            raise ConfigError("--config and --preset both give settings to start from: leave out one of them")
        return Args(from_file=known.config, log=log, config=read_settings(known.config))
    if resumed:
        return Args(preset=preset, log=log, config=saved_config(RunDir(known.out)))
    limit, bins = (int(word) if word.isdigit() else None for word in (known.max_episode_steps, known.discretize))
    env = EnvConfig(
        known.env, limit, tuple(known.env_kwargs), bins, channels=known.channels, offsets=tuple(known.obs_offsets)
    )
    return Args(preset=preset, config=preset_for(env, preset))


def preset_for(env: EnvConfig, name: str) -> TrainConfig:
    """The preset's settings."""
    from nimbleq.rl.presets import preset

    return preset(
        env.id, name, env.max_episode_steps, env.kwargs, env.discretize, channels=env.channels, offsets=env.offsets
    )


def default_out(preset: str, from_file: Path | None, config: TrainConfig) -> Path:
    """Where a run lies when nobody says."""
    name = preset if from_file is None else from_file.stem
    limit = f"-{config.env.max_episode_steps}" if config.env.max_episode_steps else ""
    return Path("runs") / f"{config.env.id.replace('/', '_').replace(':', '.')}{limit}" / f"{name}-seed{config.seed}"


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """Train, or go on training."""
    run = RunDir(args.out or default_out(args.preset, args.from_file, args.config))
    check_wandb(args.log)
    if run.config.exists() and not args.resume:
        raise ConfigError(f"{run.path} holds a run already: go on with --resume, or choose another --out")
    return train_run(args.config, run, console, resume=args.resume, log_to=args.log), True


def train_run(
    config: TrainConfig, run: RunDir, console: Console, resume: bool, log_to: LogConfig | None = None
) -> dict[str, Any]:
    """Train ``config`` into ``run`` and keep the policy as ``artefacts/teacher``; returns the verb's JSON object."""
    from nimbleq.rl.device.transfer import choose_device
    from nimbleq.rl.evaluate import Evaluator
    from nimbleq.rl.remarks import remarks
    from nimbleq.rl.train import train

    validate(config)  # before anything is written
    choose_device(config.learner)
    settings = {"format": RUN_FORMAT, "nimbleq": VERSION, "train": to_dict(config)}
    if resume and run.config.exists():
        require_same_result(saved_config(run), config, str(run.path))
        _tell_start(run, console)
    if not run.config.exists() or saved_config(run) != config:
        write_json(run.config, settings)
    for remark in remarks(config.env):
        console.say(remark)
    with console.progress(f"train {config.env.id}") as tick:
        trained = train(config, run, tick, resume=resume, log_to=log_to)
    with Evaluator(config.env) as evaluate:
        save_teacher(run, config, trained.graph(), evaluate)
    result = {"run": str(run.path), "env": config.env.id, **trained.summary()}
    run.save_result("train", result)
    low, high = result["return_ci95"]
    console.say(
        f"trained {config.env.id} in {result['train_seconds']:.1f} s ({result['steps']:,} steps): return "
        f"{result['return_mean']:.1f} (95 % interval {low:.1f} to {high:.1f}, {result['episodes']} episodes) "
        f"→ {run.path}"
    )
    return result


def _tell_start(run: RunDir, console: Console) -> None:
    """Where there is no checkpoint, training starts anew; that would cost a run that is over what it has."""
    from nimbleq.rl.checkpoint import has_checkpoint

    if has_checkpoint(run.checkpoint):
        return
    if run.load_result("train") is not None:
        raise FileError(f"{run.path} is over and its checkpoint is gone: to train anew choose another --out")
    console.say(f"{run.path} has no checkpoint yet: training starts anew")
