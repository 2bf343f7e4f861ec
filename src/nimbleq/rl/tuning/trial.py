"""One trial of a search: it trains with the settings suggested, for a fixed number of steps or seconds.

Its value is the mean return of fresh greedy episodes of its best network.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbleq.config import TrainConfig, to_dict, with_changes
from nimbleq.errors import ConfigError, DivergedError
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.rl.nets.network import greedy_policy
from nimbleq.rl.rules import check_settings
from nimbleq.rl.training.best import best_graphs, load_best
from nimbleq.rl.training.evaluate import Evaluator
from nimbleq.rl.training.train import train
from nimbleq.rl.tuning.space import Choices, Plain, Space, applied
from nimbleq.rundir import RunDir
from nimbleq.seeds import episode_seeds
from nimbleq.types import Policy

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class TuneConfig:
    """One search.

    Attributes:
        base: settings that the search starts from; its ``steps`` are a trial's budget.
        space: what is searched.
        seconds: budget of a training; ``base.steps`` are then only an upper bound.
        seeds: trainings of a trial, whose returns are averaged.
        seed: of the first training, and of the search.
    """

    base: TrainConfig
    space: Space
    seconds: float | None = None
    seeds: int = 1
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON values: what has to be the same for a search to go on."""
        space = {name: option.to_dict() for name, option in self.space.items()}
        return {
            "base": to_dict(self.base), "space": space, "seconds": self.seconds, "seeds": self.seeds, "seed": self.seed,
        }  # fmt: skip


def folder_of(trial: optuna.Trial | optuna.trial.FrozenTrial) -> int:
    """The number under which its trainings lie: that of the first trial where it was taken up."""
    return int(trial.user_attrs.get("folder", trial.number))


def settings_of(config: TuneConfig, values: dict[str, Any]) -> TrainConfig:
    """The settings of a trial, from its parameters."""
    decoded = {name: _decoded(value, config.space[name]) for name, value in values.items()}
    return applied(config.base, decoded)


def played(trial: optuna.Trial, config: TuneConfig, folder: Path, share: Callable[[float], None]) -> float:
    """Train as ``trial`` suggests, or go on with that; the mean return over the seeds.

    Raises:
        optuna.TrialPruned: it is worse than others, has diverged, or its settings do not go together.
    """
    import optuna

    settings = _suggested(trial, config)
    if "folder" not in trial.user_attrs:
        shutil.rmtree(folder, ignore_errors=True)  # of a search whose file was deleted
    returns = []
    for number, seed in enumerate(range(config.seed, config.seed + config.seeds)):
        run, seeded = RunDir(folder / f"seed{seed}"), with_changes(settings, {"seed": seed})
        result = run.load_result("trial")
        if result is None:
            brief = with_changes(seeded, {"evaluation.final_episodes": 1})  # other episodes count: see `_return_of`
            watch = _Watch(trial, config, run, number, share)
            try:
                train(brief, run, watch, resume=True, seconds=config.seconds)
            except DivergedError as error:
                raise optuna.TrialPruned from error
            result = {"return_mean": _return_of(seeded, run)}
            run.save_result("trial", result)
        returns.append(result["return_mean"])
    return float(np.mean(returns))


def _suggested(trial: optuna.Trial, config: TuneConfig) -> TrainConfig:
    """The settings of ``trial``.

    Raises:
        optuna.TrialPruned: they do not go together.
    """
    import optuna

    for name, option in config.space.items():
        if isinstance(option, Choices):
            trial.suggest_categorical(name, [encoded(value) for value in option.values])
        elif isinstance(option.low, int) and isinstance(option.high, int):
            trial.suggest_int(name, option.low, option.high, log=option.log)
        else:
            trial.suggest_float(name, option.low, option.high, log=option.log)
    settings = settings_of(config, trial.params)
    try:
        check_settings(settings)
    except ConfigError as error:
        trial.set_user_attr("refused", str(error))
        raise optuna.TrialPruned from error
    return settings


class _Watch:
    """A `Tick` that reports the progress of a trial and gives its greedy checks to the pruner."""

    def __init__(
        self, trial: optuna.Trial, config: TuneConfig, run: RunDir, number: int, share: Callable[[float], None]
    ) -> None:
        self.trial, self.config, self.run, self.number, self.share = trial, config, run, number, share
        self.note, self.began = "", time.monotonic()
        self.reported: set[int] = set()

    def __call__(self, done: float, total: float, note: str = "") -> None:
        self.share((self.number + self._part(done / total, time.monotonic() - self.began)) / self.config.seeds)
        if note != self.note:
            self.note = note
            self._report(total)

    def _part(self, steps: float, seconds: float) -> float:
        """Of the budget of a training: the share of its steps, or of its seconds."""
        return steps if self.config.seconds is None else min(1.0, seconds / self.config.seconds)

    def _report(self, total: float) -> None:
        import optuna

        lines = [json.loads(line) for line in self.run.metrics.read_text().splitlines()]
        check = next((line for line in reversed(lines) if "check_return" in line), None)
        if check is None:
            return
        percent = round(100 * self._part(check["step"] / total, check["seconds"]))  # comparable between trials
        step = 100 * self.number + percent
        if step not in self.reported:
            self.reported.add(step)
            self.trial.report(check["check_return"], step)
            if self.trial.should_prune():
                raise optuna.TrialPruned


def _return_of(config: TrainConfig, run: RunDir) -> float:
    """Mean return of fresh greedy episodes of the best network; they are not those that judge a policy later."""
    with Evaluator(config.env) as evaluate:
        if config.network.memory:
            policy: Policy = GraphPolicy(best_graphs(config, evaluate.spec, run.best).policy)
        else:
            policy = greedy_policy(load_best(config, evaluate.spec, run.best), evaluate.spec.branches)
        seeds = episode_seeds("select", config.seed, config.evaluation.final_episodes)
        return float(evaluate(policy, seeds.tolist()).returns.mean())


def encoded(value: Plain) -> Any:
    """As Optuna stores it: lists are text."""
    return json.dumps(list(value)) if isinstance(value, tuple) else value


def _decoded(value: Any, option: Any) -> Any:
    if isinstance(option, Choices):
        return next(choice for choice in option.values if encoded(choice) == value)
    return value
