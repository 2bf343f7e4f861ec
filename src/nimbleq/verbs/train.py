"""``nimbleq train``: environment → run directory with a trained policy in ``artefacts/teacher``."""

from __future__ import annotations

import argparse
import contextlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from nimbleq.config import EnvConfig, LogConfig, TrainConfig, require_same_result, to_dict, with_changes
from nimbleq.console import Console
from nimbleq.errors import ConfigError, FileError, NimbleqError
from nimbleq.figures import shown
from nimbleq.files import exclusive_lock, write_json
from nimbleq.graph.artefact import load_artefact
from nimbleq.native import missing_extensions
from nimbleq.rl.training.checkpoint import has_checkpoint
from nimbleq.rundir import RunDir
from nimbleq.verbs.arguments import whole_number
from nimbleq.verbs.common import EVOLVED_MEANING, RUN_FORMAT, Output, read_settings, save_teacher, saved_config
from nimbleq.verbs.policy_value import judged
from nimbleq.version import VERSION
from nimbleq.wandb_log import check_wandb, remembered_log


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """Train a deep Q-network. The preset of the environment gives every default below.

    Attributes:
        preset: which algorithm's settings to start from (for small images pqn learns much faster on a CPU than dqn).
        from_file: settings to start from instead of a preset: the config.json of a run, or the best.json of nimbleq
            tune. Other options override them.
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
    """Defaults of the options: from the file of ``--config``, else from the resumed run, else from a preset.

    Raises:
        ConfigError: a file and a preset are given, there is no such preset, no run to resume, or learning starts after
            the end.
        FileError: the file, or the run that is resumed, is damaged.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--env", default=None)
    first.add_argument("--max-episode-steps", "--max_episode_steps", default="")
    first.add_argument("--env-kwargs", "--env_kwargs", nargs="*", default=())
    first.add_argument("--discretize", default="")
    first.add_argument("--channels", choices=("first", "last", "flat"), default=None)
    first.add_argument("--obs-offsets", "--obs_offsets", nargs="*", default=())
    first.add_argument("--preset", default=None)
    first.add_argument("--config", type=Path, default=None)
    first.add_argument("--out", type=Path, default=None)
    first.add_argument("--resume", action="store_true")
    first.add_argument("--steps", default="")
    first.add_argument("--learn-start", "--learn_start", default="")
    try:
        known, _ = first.parse_known_args(list(words))
    except argparse.ArgumentError as error:
        raise ConfigError(str(error)) from None
    args = _start(known)
    start, steps = map(_number_or_none, (known.learn_start, known.steps))
    if start is not None and _too_late(
        with_changes(args.config, {"learn_start": start, "steps": steps or args.config.steps})
    ):
        raise ConfigError(f"nothing would be learnt: --learn-start {start} must be below --steps")
    return args


def _start(known: argparse.Namespace) -> Args:
    preset = "dqn" if known.preset is None else known.preset
    resumed = known.resume and known.out is not None and RunDir(known.out).config.exists()
    log = remembered_log(known.out) if resumed else LogConfig()
    if known.config is not None:
        if known.preset is not None:
            raise ConfigError("--config and --preset both give settings to start from: leave out one of them")
        return Args(from_file=known.config, log=log, config=read_settings(known.config))
    if resumed:
        return Args(preset=preset, log=log, config=saved_config(RunDir(known.out)))
    if known.resume and known.out is not None and known.env is None:
        raise ConfigError(f"there is no run in {known.out} to resume; to start one there, name its --env")
    limit, bins = map(_number_or_none, (known.max_episode_steps, known.discretize))
    env = EnvConfig(
        known.env or EnvConfig().id,
        limit,
        tuple(known.env_kwargs),
        bins,
        channels=known.channels,
        offsets=tuple(known.obs_offsets),
    )
    return Args(preset=preset, config=preset_for(env, preset))


def _too_late(config: TrainConfig) -> bool:
    """Whether training ends before learning starts."""
    return config.algorithm == "dqn" and config.learn_start >= config.steps


def preset_for(env: EnvConfig, name: str) -> TrainConfig:
    """The preset's settings."""
    from nimbleq.rl.presets import preset

    return preset(
        env.id, name, env.max_episode_steps, env.kwargs, env.discretize, channels=env.channels, offsets=env.offsets
    )


def default_out(preset: str, from_file: Path | None, config: TrainConfig) -> Path:
    """The default run directory."""
    name = preset if from_file is None else from_file.stem
    limit = f"-{config.env.max_episode_steps}" if config.env.max_episode_steps else ""
    return Path("runs") / f"{config.env.id.replace('/', '_').replace(':', '.')}{limit}" / f"{name}-seed{config.seed}"


def _number_or_none(word: str) -> int | None:
    """What is not a number is refused by the parser later, with a better message."""
    try:
        return whole_number(word)
    except ValueError:
        return None


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """Train, or go on training."""
    from nimbleq.rl.rules import check_settings

    run = RunDir(args.out or default_out(args.preset, args.from_file, args.config))
    check_wandb(args.log)
    check_settings(args.config)
    if run.config.exists() and not args.resume:
        raise ConfigError(f"{run.path} already holds a run: resume it with --resume, or choose another --out")
    with working_in(run, finished=args.resume and run.load_result("train") is not None):
        return train_run(args.config, run, console, resume=args.resume, log_to=args.log), True


@contextmanager
def working_in(run: RunDir, finished: bool = False) -> Iterator[None]:
    """Lock the run directory. A start that fails before the first checkpoint leaves nothing behind.

    Args:
        run: created if it is missing.
        finished: the run is only read, so its folder may be read-only.

    Raises:
        ConfigError: another command is working in it; FileError: it cannot be written.
    """
    missing = [path for path in (run.path, *run.path.parents) if not path.exists()]
    before = set(run.path.iterdir()) if run.path.is_dir() else set()
    try:
        with exclusive_lock(run.path, read_only=finished):
            try:
                yield
            except (NimbleqError, MemoryError, ModuleNotFoundError):
                if run.config not in before and not (has_checkpoint(run.checkpoint) or run.teacher.exists()):
                    for path in set(run.path.iterdir()) - before:
                        shutil.rmtree(path) if path.is_dir() else path.unlink()
                raise
    finally:
        for path in missing:
            with contextlib.suppress(OSError):  # it is still missing, or not empty
                path.rmdir()


def train_run(
    config: TrainConfig, run: RunDir, console: Console, resume: bool, log_to: LogConfig | None = None
) -> dict[str, Any]:
    """Train ``config`` into ``run`` and save the policy as ``artefacts/teacher``; returns the verb's JSON object."""
    from nimbleq.rl.envs.remarks import remarks
    from nimbleq.rl.rules import check_settings
    from nimbleq.rl.training.evaluate import Evaluator
    from nimbleq.rl.training.train import train

    check_settings(config)  # before anything is written
    if resume and run.config.exists():
        require_same_result(saved_config(run), config, str(run.path))
        done = _finished(config, run)
        if done is not None:
            _print_result(done, run, console)
            return done
        _check_start(run, console)
    if not run.config.exists() or saved_config(run) != config:
        write_json(run.config, {"format": RUN_FORMAT, "nimbleq": VERSION, "train": to_dict(config)})
    for remark in remarks(config.env):
        console.say(remark)
    _warn(config, console)
    with console.progress(f"train {config.env.id}") as tick:
        trained = train(config, run, tick, resume=resume, log_to=log_to, say=console.say)
    with Evaluator(config.env) as evaluate:
        facts = {"q_meaning": EVOLVED_MEANING} if trained.evolved else {}
        teacher = save_teacher(run, config, trained.graph, trained.value_graph, evaluate, **facts)
        beside = {} if trained.value_graph is None else {"policy_value": judged(config, trained, evaluate, console)}
    named = {"run": str(run.path), "env": config.env.id, "teacher_digest": teacher.digest}
    result = {**named, **trained.summary(), **beside}
    run.save_result("train", result)
    _print_result(result, run, console)
    return result


def _finished(config: TrainConfig, run: RunDir) -> dict[str, Any] | None:
    """The result of a finished run; None if it is not finished, or if its policy must be made again.

    Raises:
        FileError: its checkpoint or its policy is damaged.
    """
    from nimbleq.rl.training.state import load_state

    result = run.load_result("train")
    if not isinstance(result, dict) or not has_checkpoint(run.checkpoint) or not run.teacher.exists():
        return None
    load_state(config, run.checkpoint).envs.close()
    return result if load_artefact(run.teacher).digest == result.get("teacher_digest") else None


def _warn(config: TrainConfig, console: Console) -> None:
    """Print a line if nothing will be learnt, or slowly because the compiled extensions are missing."""
    if _too_late(config):
        console.say(
            f"nothing will be learnt: learning starts after {config.learn_start:,} steps (--learn-start), and training "
            f"ends after {config.steps:,} (--steps)"
        )
    absent = missing_extensions()
    if absent:
        console.say(
            f"nimbleq was installed without its compiled parts ({', '.join(absent)}), so training takes up to 20 times "
            "as long: install a C compiler, then nimbleq again (nimbleq doctor says what works)"
        )


def _print_result(result: dict[str, Any], run: RunDir, console: Console) -> None:
    low, high = result["return_ci95"]
    console.say(
        f"trained {result['env']} in {result['train_seconds']:.1f} s ({result['steps']:,} steps): return "
        f"{shown(result['return_mean'], low, high)} (95 % interval {shown(low, high)} to {shown(high, low)}, "
        f"{result['episodes']} episodes) → {run.path}"
    )


def _check_start(run: RunDir, console: Console) -> None:
    """Without a checkpoint training starts from the beginning; that must not overwrite a finished run."""
    if has_checkpoint(run.checkpoint):
        return
    if run.load_result("train") is not None:
        raise FileError(f"{run.path} is finished and its checkpoint is gone: to train again, choose another --out")
    console.say(f"{run.path} has no checkpoint yet: training starts from the beginning")
