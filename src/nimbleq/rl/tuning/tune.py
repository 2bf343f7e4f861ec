"""Searching settings with Optuna [1907.10902] (the extra ``tune``): a study in SQLite that any later session continues.

A tree-structured Parzen estimator suggests the settings of a trial. Trials whose greedy checks fall below the median of
the others at the same share of the budget are given up.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nimbleq.config import TrainConfig, flat_settings, from_dict, to_dict
from nimbleq.errors import ConfigError, FileError
from nimbleq.figures import shown
from nimbleq.rl.tuning.space import current
from nimbleq.rl.tuning.trial import TuneConfig, encoded, folder_of, played
from nimbleq.types import Tick, no_tick

if TYPE_CHECKING:
    import optuna

_STARTUP = 5  # trials before the median means anything
_LEAST_TRIALS = 10


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
        study.enqueue_trial({name: encoded(value) for name, value in current(config.base, config.space).items()})
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
        study.enqueue_trial(trial.params, user_attrs={"folder": folder_of(trial)})


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
        share = _share(tick, len(done), trials, "" if best is None else f"best return {shown(best)}")
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
    place = folder / "trials" / f"{folder_of(trial):04d}"
    try:
        value = played(trial, config, place, share)
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
