"""Searching settings with Optuna [1907.10902] (the extra ``tune``): a study in SQLite that any later session continues.

A trial trains with settings that a tree-structured Parzen estimator suggests, for a fixed number of steps or seconds;
its value is the mean return of fresh greedy episodes of its best network. Trials whose greedy checks fall below the
median of the others at the same share of the budget are given up.
"""

from __future__ import annotations

import json
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbleq.config import TrainConfig, flat_settings, from_dict, to_dict, with_changes
from nimbleq.errors import ConfigError, DivergedError, FileError
from nimbleq.rl.learners.learner import greedy_policy
from nimbleq.rl.rules import check_settings
from nimbleq.rl.training.best import load_best
from nimbleq.rl.training.evaluate import Evaluator
from nimbleq.rl.training.train import train
from nimbleq.rl.tuning.space import Choices, Plain, Space, applied, current
from nimbleq.rundir import RunDir
from nimbleq.seeds import episode_seeds
from nimbleq.types import Tick, no_tick

if TYPE_CHECKING:
    import optuna

_STARTUP = 5  # trials before the median means anything
_LEAST_TRIALS = 10


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


def open_study(config: TuneConfig, folder: Path) -> optuna.Study:
    """The study in ``folder``, begun or gone on with; no other process may be at it (`exclusive_lock`).

    The first trial of a new one has the settings of ``base``. A trial that was under way when the session before this
    one ended, however it ended, comes next and goes on.

    Raises:
        ConfigError: it was begun with other settings.
        FileError: its file is damaged, or cannot be written.
    """
    import optuna
    import sqlalchemy

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = folder / "study.db"
    try:
        study = optuna.create_study(
            storage=f"sqlite:///{path.resolve()}",
            study_name="nimbleq",
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP),
        )
        study.sampler = optuna.samplers.TPESampler(seed=config.seed + len(study.trials), multivariate=True)
        _require_same(study, config, folder)
        _take_up(study)
    except (sqlalchemy.exc.SQLAlchemyError, RuntimeError, OSError) as error:
        raise FileError(
            f"{path} is no search that can go on ({str(error).splitlines()[0]}): choose another --out"
        ) from error
    return study


def _require_same(study: optuna.Study, config: TuneConfig, folder: Path) -> None:
    """Refuse to go on with another search; note what a new one is."""
    asked = json.loads(json.dumps(config.to_dict()))
    known = study.user_attrs.get("search")
    if known is None:
        study.set_user_attr("search", asked)
        study.enqueue_trial({name: _encoded(value) for name, value in current(config.base, config.space).items()})
        return
    before, now = flat_settings(_completed(known)), flat_settings(asked)
    changed = [key for key in now if key in before and before[key] != now[key]]
    changed += sorted({key.partition(".")[0] for key in before.keys() ^ now.keys()})
    if changed:
        words = [_change(key, before, now) for key in changed[:3]]
        raise ConfigError(
            f"the search in {folder} was begun with {', '.join(words)}: give the same options, or another --out"
        )


def _completed(known: dict[str, Any]) -> dict[str, Any]:
    """With the settings that there were not when the search was begun."""
    try:
        base = to_dict(from_dict(TrainConfig, known.get("base")))
    except ConfigError:
        return known
    return {**known, "base": json.loads(json.dumps(base))}


def _change(key: str, before: dict[str, Any], now: dict[str, Any]) -> str:
    name = key.removeprefix("base.")
    return f"{name} = {before[key]}, not {now[key]}" if key in before and key in now else f"another {name}"


def _take_up(study: optuna.Study) -> None:
    """Give up the trials that no process plays any more, and put the same ones, with what they have learnt, first."""
    import optuna

    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params, user_attrs={"folder": _folder_of(trial)})


def _folder_of(trial: optuna.Trial | optuna.trial.FrozenTrial) -> int:
    """The number under which its trainings lie: that of the first trial where it was taken up."""
    return int(trial.user_attrs.get("folder", trial.number))


def finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Trials that were played to the end or given up by the pruner."""
    return [trial for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]


def search(study: optuna.Study, config: TuneConfig, trials: int, folder: Path, tick: Tick = no_tick) -> Iterator[None]:
    """Play trials until ``study`` has ``trials`` finished ones; each step of the iterator is a trial.

    Args:
        study: see `open_study`. A trial that is interrupted, by whatever, stays there as one that runs.
        config: what is searched.
        trials: those of earlier sessions included.
        folder: of the study; ``trials/<number>/seed<n>`` are run directories with the metrics of each training.
        tick: progress in trials.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        EnvError, FileError: see `train`; the file of the study cannot be written.
    """
    import optuna
    import sqlalchemy

    while len(done := finished(study)) < trials:
        best = max((trial.value for trial in done if trial.state.name == "COMPLETE"), default=None)
        share = _share(tick, len(done), trials, "" if best is None else f"best return {best:.1f}")
        try:
            _play(study, config, folder, share)
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            reason = str(error).splitlines()[0]
            raise FileError(
                f"cannot write {folder / 'study.db'} ({reason}): mend that, the same command goes on"
            ) from error
        yield
    tick(trials, trials)


def _play(study: optuna.Study, config: TuneConfig, folder: Path, share: Callable[[float], None]) -> None:
    """The next trial."""
    import optuna

    trial = study.ask()
    place = folder / "trials" / f"{_folder_of(trial):04d}"
    try:
        value = _played(trial, config, place, share)
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    else:
        study.tell(trial, value)
    for checkpoint in place.glob("seed*/checkpoint"):
        shutil.rmtree(checkpoint, ignore_errors=True)


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
            trial.suggest_categorical(name, [_encoded(value) for value in option.values])
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
        policy = greedy_policy(load_best(config, evaluate.spec, run.best))
        seeds = episode_seeds("select", config.seed, config.evaluation.final_episodes)
        return float(evaluate(policy, seeds.tolist()).returns.mean())


def enough_trials(settings: int) -> int:
    """Trials played to their end from which on importances of ``settings`` settings are more than chance."""
    return max(_LEAST_TRIALS, 3 * settings)


def importances(study: optuna.Study) -> dict[str, float]:
    """Share of the difference between good and bad trials that each setting explains (PED-ANOVA [2304.10255]).

    Empty when there are too few trials (`enough_trials`).
    """
    import optuna

    complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    if len(complete) < enough_trials(max((len(trial.params) for trial in complete), default=0)):
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # of too few trials
        try:
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
        except (ValueError, RuntimeError, UserWarning):
            return {}


def _encoded(value: Plain) -> Any:
    """As Optuna stores it: lists are text."""
    return json.dumps(list(value)) if isinstance(value, tuple) else value


def _decoded(value: Any, option: Any) -> Any:
    if isinstance(option, Choices):
        return next(choice for choice in option.values if _encoded(choice) == value)
    return value
