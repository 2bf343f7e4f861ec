"""Searching settings with Optuna [1907.10902] (the extra ``tune``): a study in SQLite that any sitting goes on with.

A trial trains with settings that a tree-structured Parzen estimator suggests, for a fixed number of steps or seconds;
its value is the mean return of fresh greedy episodes of its best network. Trials whose greedy checks fall below the
median of the others at the same share of the budget are given up.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nimbleq.config import TrainConfig, to_dict, validate, with_changes
from nimbleq.errors import ConfigError, FileError
from nimbleq.rl.best import load_best
from nimbleq.rl.evaluate import Evaluator
from nimbleq.rl.learner import greedy_policy
from nimbleq.rl.space import Choices, Plain, Space, applied, current
from nimbleq.rl.train import train
from nimbleq.rundir import RunDir
from nimbleq.seeds import episode_seeds
from nimbleq.types import Tick, no_tick

if TYPE_CHECKING:
    import optuna

_STARTUP = 5  # trials before the median means anything


@dataclass(frozen=True)
class TuneConfig:
    """One search.

    Attributes:
        base: settings that the search starts from; its ``steps`` are a trial's budget.
        space: what is searched.
        seconds: a trial's budget in seconds of training; ``base.steps`` are then only an upper bound.
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


class _OutOfTime(KeyboardInterrupt):
    """A trial's seconds are used up: training saves and ends as for Ctrl-C."""


def open_study(config: TuneConfig, folder: Path) -> optuna.Study:
    """The study in ``folder``, begun or gone on with. The first trial of a new one has the settings of ``base``.

    Raises:
        ConfigError: it was begun with other settings.
        FileError: its file is damaged, or cannot be written.
    """
    import optuna
    import sqlalchemy

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = folder / "study.db"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        study = optuna.create_study(
            storage=f"sqlite:///{path.resolve()}",
            study_name="nimbleq",
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP),
        )
        study.sampler = optuna.samplers.TPESampler(seed=config.seed + len(study.trials), multivariate=True)
        asked = json.loads(json.dumps(config.to_dict()))
        known = study.user_attrs.get("search")
        if known is None:
            study.set_user_attr("search", asked)
            study.enqueue_trial({name: _encoded(value) for name, value in current(config.base, config.space).items()})
        elif known != asked:
            changed = ", ".join(sorted(key for key in asked if asked[key] != known.get(key)))
            raise ConfigError(f"the search in {folder} has another {changed}: give the same options, or another --out")
    except (sqlalchemy.exc.SQLAlchemyError, RuntimeError, OSError) as error:
        raise FileError(
            f"{path} is no search that can go on ({str(error).splitlines()[0]}): choose another --out"
        ) from error
    return study


def finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Trials that were played to the end or given up by the pruner."""
    return [trial for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]


def tune(config: TuneConfig, trials: int, folder: Path, tick: Tick = no_tick) -> optuna.Study:
    """Search until there are ``trials`` finished ones in the study of ``folder``.

    Args:
        config: what is searched.
        trials: those of earlier sittings included.
        folder: ``study.db``, and ``trials/<number>`` with the metrics of each.
        tick: progress in trials.

    Raises:
        ConfigError, FileError: see `open_study`.
        KeyboardInterrupt: Ctrl-C; finished trials are kept.
        EnvError: see `train`.
    """
    import optuna

    study = open_study(config, folder)
    while len(done := finished(study)) < trials:
        best = max((trial.value for trial in done if trial.state.name == "COMPLETE"), default=None)
        share = _share(tick, len(done), trials, "" if best is None else f"best return {best:.1f}")
        trial = study.ask()
        try:
            value = _played(trial, config, folder, share)
        except optuna.TrialPruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        except BaseException:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            raise
        else:
            study.tell(trial, value)
    tick(trials, trials)
    return study


def _share(tick: Tick, done: int, trials: int, note: str) -> Callable[[float], None]:
    """Tells the progress of the trial after ``done`` ones."""

    def share(part: float) -> None:
        tick(done + part, trials, note)

    return share


def settings_of(config: TuneConfig, values: dict[str, Any]) -> TrainConfig:
    """The settings of a trial, from its parameters."""
    decoded = {name: _decoded(value, config.space[name]) for name, value in values.items()}
    return applied(config.base, decoded)


def _played(trial: optuna.Trial, config: TuneConfig, folder: Path, share: Callable[[float], None]) -> float:
    """Train as ``trial`` suggests; the mean return over the seeds."""
    import optuna

    for name, option in config.space.items():
        if isinstance(option, Choices):
            trial.suggest_categorical(name, [_encoded(value) for value in option.values])
        elif isinstance(option.low, int) and isinstance(option.high, int):
            trial.suggest_int(name, option.low, option.high, log=option.log)
        else:
            trial.suggest_float(name, option.low, option.high, log=option.log)
    settings = settings_of(config, trial.params)
    try:
        validate(settings)
    except ConfigError as error:  # values that do not go together
        trial.set_user_attr("refused", str(error))
        raise optuna.TrialPruned from error
    total = 0.0
    for number in range(config.seeds):
        run = RunDir(folder / "trials" / f"{trial.number:04d}" / f"seed{config.seed + number}")
        shutil.rmtree(run.path, ignore_errors=True)
        seeded = with_changes(settings, {"seed": config.seed + number})
        watch = _Watch(trial, config, run, number, share)
        with contextlib.suppress(_OutOfTime):
            train(seeded, run, watch)
        total += _return_of(seeded, run)
        shutil.rmtree(run.checkpoint, ignore_errors=True)
    return total / config.seeds


class _Watch:
    """A `Tick` that hands greedy checks to the pruner and ends a training when its seconds are over."""

    def __init__(
        self, trial: optuna.Trial, config: TuneConfig, run: RunDir, number: int, share: Callable[[float], None]
    ) -> None:
        self.trial, self.config, self.run, self.number, self.share = trial, config, run, number, share
        self.note, self.began = "", time.monotonic()

    def __call__(self, done: float, total: float, note: str = "") -> None:
        spent = time.monotonic() - self.began
        limit = self.config.seconds
        part = done / total if limit is None else min(1.0, spent / limit)
        self.share((self.number + part) / self.config.seeds)
        if note != self.note:
            self.note = note
            self._report(part)
        if limit is not None and spent >= limit:
            raise _OutOfTime

    def _report(self, part: float) -> None:
        import optuna

        lines = [json.loads(line) for line in self.run.metrics.read_text().splitlines()]
        checks = [line["check_return"] for line in lines if "check_return" in line]
        if checks:
            self.trial.report(checks[-1], self.number * 100 + round(100 * part))  # percent of a training: comparable
            if self.trial.should_prune():
                raise optuna.TrialPruned


def _return_of(config: TrainConfig, run: RunDir) -> float:
    """Mean return of fresh greedy episodes of the best network; they are not those that judge a policy later."""
    if not run.best.exists():
        raise ConfigError("a trial ended before its first greedy check: give it more steps or seconds, or lower "
                          "--evaluation.every")  # fmt: skip
    with Evaluator(config.env) as evaluate:
        policy = greedy_policy(load_best(config, evaluate.spec, run.best))
        seeds = episode_seeds("select", config.seed, config.evaluation.final_episodes)
        return float(evaluate(policy, seeds.tolist()).returns.mean())


def importances(study: optuna.Study) -> dict[str, float]:
    """Share of the difference between good and bad trials that each setting explains (PED-ANOVA [2304.10255]).

    Empty when there are too few trials.
    """
    import optuna

    try:
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
    except (ValueError, RuntimeError):
        return {}


def _encoded(value: Plain) -> Any:
    """As Optuna stores it: lists are text."""
    return json.dumps(list(value)) if isinstance(value, tuple) else value


def _decoded(value: Any, option: Any) -> Any:
    if isinstance(option, Choices):
        return next(choice for choice in option.values if _encoded(choice) == value)
    return value
