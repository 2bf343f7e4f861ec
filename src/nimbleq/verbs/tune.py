"""``nimbleq tune``: search the settings of training for an environment."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from nimbleq.config import EnvConfig, to_dict, with_changes
from nimbleq.console import Console
from nimbleq.figures import shown
from nimbleq.files import exclusive_lock, write_bytes, write_json
from nimbleq.verbs import train
from nimbleq.verbs.common import RUN_FORMAT, Output, read_settings
from nimbleq.version import VERSION

if TYPE_CHECKING:
    import optuna

    from nimbleq.rl.tuning.trial import TuneConfig


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """Search settings with Optuna: each trial trains, fresh greedy episodes score it, hopeless ones are pruned early.

    The same command continues the search after Ctrl-C or a kill, with the trial that was running, or with more trials.
    It writes best.json, which nimbleq train --config and nimbleq run --config take, and tune.html, which shows the
    search and what mattered. Both are updated after every trial.

        nimbleq tune --env LunarLander-v3 --trials 40 --steps 200000
        nimbleq tune --env LunarLander-v3 --trials 40 --seconds-per-trial 30 --only learner.lr replay.n_step
        nimbleq train --config runs/tune/LunarLander-v3/best.json

    Attributes:
        env: the environment.
        preset: which algorithm's settings to start from; they are the first trial.
        config: settings to start from instead of a preset: the config.json of a run, or an earlier best.json. An
            environment given as well overrides its environment.
        trials: number of finished trials to reach, including those of earlier commands.
        steps: budget of a trial in environment steps (default: the preset's).
        seconds_per_trial: budget of a training in seconds instead of steps, which are then only an upper bound: finds
            what learns fast on this machine.
        seeds: trainings per trial, averaged: several separate luck from settings.
        seed: of the search.
        only: search only these settings of the default space.
        space: JSON file of what to search instead of the default, e.g. {"learner.lr": {"low": 1e-4, "high": 1e-2,
            "log": true}, "replay.n_step": {"choices": [1, 3, 5]}}.
        eval_every: updates between the greedy checks that pruning looks at (default: the preset's).
        out: folder of the search (default runs/tune/ENV).
    """

    env: EnvConfig = field(default_factory=EnvConfig)
    preset: str = "dqn"
    config: Path | None = None
    trials: int = 30
    steps: int | None = None
    seconds_per_trial: float | None = None
    seeds: int = 1
    seed: int = 0
    only: tuple[str, ...] = ()
    space: Path | None = None
    eval_every: Annotated[int | None, tyro.conf.arg(name="evaluation.every")] = None
    out: Path | None = None


def arguments(words: Sequence[str]) -> Args:
    """Defaults of the options: the environment may come from the file of ``--config``."""
    known = train.arguments(words)
    return Args(preset=known.preset, config=known.from_file, env=known.config.env)


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """Search and print the best."""
    from nimbleq.rl.tuning.tune import finished, open_study, search

    config = search_of(args)
    out = args.out or Path("runs") / "tune" / config.base.env.id.replace("/", "_").replace(":", ".")
    with exclusive_lock(out):
        study = open_study(config, out)
        result = _written(study, config, out)
        try:
            with console.progress(f"tune {config.base.env.id}") as tick:
                for _ in search(study, config, args.trials, out, tick):
                    result = _written(study, config, out)
        except KeyboardInterrupt:
            console.say(
                f"stopped after {len(finished(study))} trials: the same command goes on, with the last trial too"
            )
            raise
    _print_result(result, console)
    return result, True


def search_of(args: Args) -> TuneConfig:
    """The search that the options describe.

    Raises:
        ConfigError, FileError: a setting, a preset or the space is not valid.
    """
    from nimbleq.rl.rules import check_settings
    from nimbleq.rl.tuning.space import default_space, narrowed, read_space
    from nimbleq.rl.tuning.trial import TuneConfig

    base = read_settings(args.config) if args.config is not None else train.preset_for(args.env, args.preset)
    # Every trial uses its whole budget: one that stopped early could not be compared by its return.
    changes: dict[str, Any] = {"env": args.env, "evaluation.stop_return": None, "checkpoint_seconds": 1e9}
    changes |= {} if args.steps is None else {"steps": args.steps}
    changes |= {} if args.eval_every is None else {"evaluation.every": args.eval_every}
    base = with_changes(base, changes)
    check_settings(base)
    space = default_space(base) if args.space is None else read_space(args.space, base)
    return TuneConfig(base, narrowed(space, args.only), args.seconds_per_trial, args.seeds, args.seed)


def _written(study: optuna.Study, config: TuneConfig, out: Path) -> dict[str, Any]:
    """``best.json`` and ``tune.html``; returns the verb's JSON object."""
    from nimbleq.report.tuning import Trial, Tuning, render_tuning
    from nimbleq.rl.tuning.trial import settings_of
    from nimbleq.rl.tuning.tune import enough_trials, finished, importances

    done = finished(study)
    complete = [trial for trial in done if trial.state.name == "COMPLETE"]
    result: dict[str, Any] = {
        "env": config.base.env.id, "out": str(out), "trials": len(done), "complete": len(complete), "best": None,
        "return_mean": None, "importances": importances(study), "config": None, "command": None,
    }  # fmt: skip
    if complete:
        best = max(complete, key=lambda trial: float(trial.value or 0.0))
        settings = settings_of(config, best.params)
        again = {"evaluation.stop_return": _stop_return(config), "checkpoint_seconds": 30.0}
        path = out / "best.json"
        facts = {"trial": best.number, "return_mean": best.value}
        write_json(
            path,
            {"format": RUN_FORMAT, "nimbleq": VERSION, "train": to_dict(with_changes(settings, again)), "tune": facts},
        )
        result |= {"best": best.params, "return_mean": best.value, "config": str(path)}
        result["command"] = shlex.join(["nimbleq", "train", "--config", str(path)])
    rows = [
        Trial(t.number, t.value if t.value is not None else max(t.intermediate_values.items(), default=(0, None))[1],
              t.state.name == "COMPLETE", {name: _shown(value) for name, value in t.params.items()})
        for t in done
    ]  # fmt: skip
    budget = f"{config.seconds:g} s" if config.seconds is not None else f"{config.base.steps:,} steps"
    budget = budget if config.seeds == 1 else f"{config.seeds} × {budget}"
    lines = [result["command"], f"  # its settings: {_options(result['best'])}"] if complete else []
    page = Tuning(
        f"{config.base.env.id}: {budget} a trial", rows, result["importances"], lines, enough_trials(len(config.space))
    )
    write_bytes(out / "tune.html", render_tuning(page).encode())
    return result


def _stop_return(config: TuneConfig) -> float | None:
    """Return at which training with the best settings may stop, from the environment's preset."""
    return train.preset_for(config.base.env, "dqn").evaluation.stop_return


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _options(values: dict[str, Any] | None) -> str:
    """Settings as the command line takes them."""
    words: list[str] = []
    for name, value in (values or {}).items():
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        elif isinstance(value, str) and value.startswith("["):
            words.append(f"--{name} {' '.join(str(part) for part in json.loads(value))}")
        else:
            words.append(f"--{name} {_shown(value)}")
    return " ".join(words)


def _print_result(result: dict[str, Any], console: Console) -> None:
    ranked = sorted(result["importances"].items(), key=lambda item: -item[1])
    if ranked:
        console.table("what mattered", ("setting", "share"), [[name, f"{100 * share:.0f} %"] for name, share in ranked])
    if result["best"] is None:
        console.say("every trial was pruned: raise --trials, or the budget of a trial")
        return
    console.say(
        f"best of {result['trials']} trials: return {shown(result['return_mean'])} with {_options(result['best'])}"
    )
    console.say(f"use it: {result['command']}   (the search: {result['out']}/tune.html)")
