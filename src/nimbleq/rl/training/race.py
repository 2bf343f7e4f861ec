"""A run that starts from another policy races a short run from scratch, and goes on as the one that is ahead.

Both learn for the same number of steps, the one with the source first; then their best networks play the same fresh
episodes. The steps of the one that is given up count, too.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from nimbleq.config import TrainConfig, TransferConfig
from nimbleq.errors import FileError
from nimbleq.figures import shown
from nimbleq.files import read_json, write_json
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.rl.policy_value.graphs import graphs_of
from nimbleq.rl.training.evaluate import Evaluator
from nimbleq.rl.training.state import TrainState
from nimbleq.rl.transfer.transfer import Transfer
from nimbleq.rundir import RunDir
from nimbleq.seeds import episode_seeds
from nimbleq.types import Array

_EPISODES = 40
_MOVED = ("checkpoint", "metrics.jsonl", "tensorboard")
SCRATCH, GIVEN_UP = "scratch", "transfer-given-up"
"""Folders of a run: training from scratch until the comparison, and what was left behind if that was ahead."""

Learn = Callable[[TrainConfig, RunDir, Transfer | None, int], TrainState]
"""``(config, run, transfer, steps)``: train, or go on, until so many steps."""


class Outcome(NamedTuple):
    """Attributes:
    goes_on: ``transfer`` or ``scratch``.
    why: in a sentence.
    teacher_return, random_return: of 20 episodes in the target (None: not measured).
    transfer_return, scratch_return: of the comparison (None: there was none).
    trial_steps: of each of the two, before it.
    discarded_steps, discarded_seconds: of the one that was given up.
    """

    goes_on: str
    why: str
    teacher_return: float | None
    random_return: float | None
    transfer_return: float | None
    scratch_return: float | None
    trial_steps: int
    discarded_steps: int
    discarded_seconds: float


def outcome_of(run: RunDir) -> Outcome | None:
    """What was decided in ``run``; None before that, and where nothing is transferred.

    Raises:
        FileError: the file is damaged.
    """
    if not run.transfer.exists():
        return None
    try:
        return Outcome(**read_json(run.transfer))
    except TypeError:
        raise FileError(f"{run.transfer} is damaged: it does not say what a transfer came to") from None


def without_transfer(config: TrainConfig) -> TrainConfig:
    """The same run from scratch."""
    return replace(config, transfer=TransferConfig())


def continued(config: TrainConfig, run: RunDir) -> TrainConfig:
    """The settings that the checkpoint of ``run`` belongs to: from scratch, if it went back to that."""
    outcome = outcome_of(run)
    return without_transfer(config) if outcome is not None and outcome.goes_on == SCRATCH else config


def forget(run: RunDir) -> None:
    """Remove what an earlier run with a source left, before a fresh start in the same place."""
    run.transfer.unlink(missing_ok=True)
    for folder in (run.path / SCRATCH, run.path / GIVEN_UP, run.checkpoint):
        shutil.rmtree(folder, ignore_errors=True)


def race(config: TrainConfig, run: RunDir, transfer: Transfer, learn: Learn) -> Outcome:
    """Decide whether ``run`` goes on with its source or from scratch; its checkpoint is that one's afterwards."""
    outcome = outcome_of(run)
    if outcome is None:
        outcome = _decided(config, run, transfer, learn)
        write_json(run.transfer, outcome._asdict())
    if outcome.goes_on == SCRATCH:
        _take_scratch(run)
    return outcome


def _decided(config: TrainConfig, run: RunDir, transfer: Transfer, learn: Learn) -> Outcome:
    with Evaluator(config.env) as evaluate:
        transfer.measure(evaluate)
    known = transfer.standing
    measured: dict[str, Any] = {
        "teacher_return": None if known is None else known.teacher,
        "random_return": None if known is None else known.random,
    }
    if known is not None and known.teacher <= known.random:
        means = f"the source returns {shown(known.teacher)} here and random play {shown(known.random)}"
        why = f"{means}: training from scratch"
        return Outcome(SCRATCH, why, **measured, transfer_return=None, scratch_return=None, trial_steps=0,
                       discarded_steps=0, discarded_seconds=0.0)  # fmt: skip
    trial = max(1, round(config.transfer.trial * config.steps))
    ours = learn(config, run, transfer, trial)
    spent = ours.counters.steps
    if ours.counters.solved or spent >= config.steps:
        why = f"after {spent:,} steps it had nothing left to learn: scratch was not tried"
        return Outcome("transfer", why, **measured, transfer_return=ours.counters.best_return, scratch_return=None,
                       trial_steps=spent, discarded_steps=0, discarded_seconds=0.0)  # fmt: skip
    theirs = learn(without_transfer(config), RunDir(run.path / SCRATCH), None, trial)
    with Evaluator(config.env) as evaluate:
        seeds = episode_seeds("select", config.seed, _EPISODES).tolist()
        returns: list[Array] = [evaluate(_policy(state), seeds).returns for state in (ours, theirs)]
    mine, scratch = (float(np.mean(each)) for each in returns)
    ahead = mine >= scratch
    verdict = "ahead, so it goes on" if ahead else "behind: training goes on from scratch"
    why = f"after {spent:,} steps the transfer returns {shown(mine)} and scratch {shown(scratch)}: it is {verdict}"
    lost = (theirs if ahead else ours).counters
    return Outcome("transfer" if ahead else SCRATCH, why, **measured, transfer_return=mine, scratch_return=scratch,
                   trial_steps=spent, discarded_steps=lost.steps, discarded_seconds=lost.seconds)  # fmt: skip


def _policy(state: TrainState) -> GraphPolicy:
    return GraphPolicy(graphs_of(state.config, state.envs.spec, state.best).policy)


def _take_scratch(run: RunDir) -> None:
    """Move the run from scratch to the place of the other; a kill at any moment leaves what can be gone on with."""
    scratch, given_up = run.path / SCRATCH, run.path / GIVEN_UP
    for name in _MOVED:
        if not (scratch / name).exists():
            continue
        given_up.mkdir(exist_ok=True)
        if (run.path / name).exists() and not (given_up / name).exists():
            (run.path / name).rename(given_up / name)
        (scratch / name).rename(run.path / name)
