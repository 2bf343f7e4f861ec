"""One session of a training run: metrics, greedy checks, checkpoints; all that the loops share."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from nimbleq.errors import DivergedError
from nimbleq.figures import shown
from nimbleq.log import MetricsLog
from nimbleq.rl.distributed.chunk import Chunk
from nimbleq.rl.envs.vector_engine import Environments
from nimbleq.rl.learners.engine import Measure
from nimbleq.rl.learners.learner import Learner
from nimbleq.rl.ramp import ramp
from nimbleq.rl.replay.buffer import Collecting
from nimbleq.rl.rewards import clipped
from nimbleq.rl.training.check import Checker, EvalJob, EvalResult
from nimbleq.rl.training.race import SCRATCH, TRANSFER
from nimbleq.rl.training.state import TrainState, save_state
from nimbleq.rundir import RunDir
from nimbleq.types import Array, Step, Tick

_RECENT_EPISODES = 20
_LOG_UPDATES = 100  # updates between two records of metrics


@dataclass
class Session:
    """One session of a run: the state, where it is saved, and where it is logged.

    Attributes:
        limit: seconds of training after which it ends.
        note: on the last check, shown with the progress.
        lag: of actors, shown with the progress, too.
        measures: of actors, or of a race, written with every record of metrics.
    """

    state: TrainState
    run: RunDir
    log: MetricsLog
    checker: Checker
    limit: float | None = None
    note: str = ""
    lag: str = ""
    measures: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.began = self.saved = time.monotonic()
        self.earlier = self.state.counters.seconds

    @property
    def over(self) -> bool:
        """The budget is used up, or the task is solved."""
        counters = self.state.counters
        out_of_time = self.limit is not None and self.clock() >= self.limit
        return counters.solved or out_of_time or counters.steps >= self.state.config.steps

    def clock(self) -> float:
        """Update the training time, and return it."""
        self.state.counters.seconds = self.earlier + time.monotonic() - self.began
        return self.state.counters.seconds

    def epsilon(self) -> float:
        """Share of random actions now."""
        return self.state.explorer.epsilon(self.state.learner.updates)

    def explore(self, epsilon: float) -> Array:
        """Legal next actions of all environments, ``int64[N]``: the (noisy) network's, or random ones."""
        envs, state = self._environments, self.state
        chosen = state.explorer.choose(state.learner.act(envs.obs, envs.mask, explore=True), epsilon, envs.mask)
        return chosen if state.rival is None else state.rival.explore(chosen, envs, state.counters.steps)

    def play(self, action: Array) -> Step:
        """Step all environments with ``action: int64[N]``; rewards are clipped, as the learner gets them.

        Returns (`note_finished`) are sums of unclipped rewards.

        Raises:
            EnvError: see `nimbleq.rl.envs.batch.EnvBatch.step`.
        """
        return clipped(self._environments.step(action), self.state.config.learner.reward_clip)

    @property
    def learners(self) -> tuple[Learner, ...]:
        """Those that learn from what is played: that of the run first."""
        rival = self.state.rival
        return (self.state.learner,) if rival is None else (self.state.learner, rival.learner)

    @property
    def _environments(self) -> Environments:
        """Those that this process steps; a run with actors has none."""
        return cast(Environments, self.state.envs)

    def store(self, step: Step) -> Step:
        """Put ``step`` of all environments into the replay, if there is one; ``step``."""
        if self.state.replay is not None:
            self.state.replay.add(step)
        return step

    def store_chunk(self, chunk: Chunk) -> None:
        """Put all steps of a chunk into the replay, with the priorities that it brings, and into the statistics."""
        replay = self.state.replay
        assert replay is not None, "there is a replay in every algorithm that calls this"
        first = replay.settled().added
        for step in chunk.steps():
            replay.add(step)
        replay.settle()
        if chunk.abs_td is not None:
            replay.prioritize(first, chunk.abs_td)
        obs = chunk.play.obs
        self._observe([obs.reshape(-1, *obs.shape[2:])])

    def count(self, steps: Sequence[Step]) -> None:
        """Take ``steps`` of all environments into the count of steps and the statistics of observations."""
        self.state.counters.steps += self.state.config.envs * len(steps)
        self._observe([step.obs for step in steps])

    def _observe(self, seen: Sequence[Array]) -> None:
        """Take ``seen``, each ``[K, *O]``, into the statistics of observations."""
        state = self.state
        if state.stats is None:
            return
        for obs in seen:
            state.stats.add(obs)
        for learner in (state.learner, state.rival):
            if learner is not None:
                learner.set_obs_stats(*state.stats.mean_std())

    def settle(self) -> None:
        """From now on what was stored can be drawn."""
        if self.state.replay is not None:
            self.state.replay.settle()

    def collect(self) -> Callable[[], None]:
        """Take what was stored so far; from the call on it can be drawn, and more may be stored meanwhile."""
        return cast(Collecting, self.state.replay).collect()  # engines that overlap have such a replay

    def learn(self, epsilon: float) -> None:
        """Learn from the replay, if that is due."""
        state = self.state
        config, counters, replay = state.config, state.counters, state.replay
        assert replay is not None, "there is a replay in every algorithm that calls this"
        due = counters.steps // config.envs % config.update_every == 0
        if due and counters.steps >= config.learn_start and len(replay) > 0:
            beta = ramp(config.replay.beta_start, config.replay.beta_end, counters.steps / config.steps)
            for measure in state.engine.updates(config, state.learner, replay, state.replay_rng, beta):
                self.log_update(measure, epsilon)
            if state.rival is not None:
                state.rival.learn(replay, state.replay_rng, beta, counters.steps)
                self.measures = state.rival.measures(counters.steps)

    def note_finished(self) -> None:
        """Remember the returns of the training episodes that just ended."""
        if self.state.envs.finished:
            recent = self.state.counters.recent + [total for total, _ in self.state.envs.finished]
            self.state.counters.recent = recent[-_RECENT_EPISODES:]

    def log_update(self, measure: Measure, epsilon: float) -> None:
        """Write a line of metrics about the update that was just done, if it is one in a hundred.

        Raises:
            DivergedError: see `log_measures`.
        """
        if self.state.learner.updates % _LOG_UPDATES == 0:
            self.log_measures(measure, epsilon)

    def log_measures(self, measure: Measure, epsilon: float) -> None:
        """Write a line of metrics about the update that was just done.

        Raises:
            DivergedError: the network has diverged.
        """
        measures = measure()
        self._require(bool(np.isfinite(list(measures.values())).all()))
        recent = self.state.counters.recent
        self.log.write(
            self.state.counters.steps,
            update=self.state.learner.updates,
            seconds=round(self.clock(), 3),
            **measures,
            epsilon=epsilon,
            return_mean=float(np.mean(recent)) if recent else None,
            **self.measures,
        )

    def average_weights(self) -> None:
        """Update the averages of the weights, if these are what is checked."""
        for learner in (self.state, self.state.rival):
            if learner is not None and learner.average is not None:
                learner.average.follow()

    def end_turn(self, tick: Tick, interrupted: Callable[[], bool]) -> None:
        """What is due between two turns of a loop: checks, checkpoints, progress.

        Raises:
            KeyboardInterrupt: a signal asked to stop.
        """
        self.check_when_due()
        self.save_when_due()
        tick(self.state.counters.steps, self.state.config.steps, "; ".join(filter(None, (self.note, self.lag))))
        if interrupted():
            raise KeyboardInterrupt

    def resume_check(self) -> None:
        """Start again the check that was being played when the session before this one ended."""
        if self.state.checking is not None:
            self.checker.start(self.state.checking)
        self.check_when_due()

    def check_when_due(self) -> None:
        """Have the present network play greedily on fresh seeds, while training goes on.

        The outcome counts when the next check is due, however early it is known, so that runs repeat. Only one that
        solves the task ends training as soon as it is known; what was learnt after it began is not used.
        """
        due = self.state.learner.updates >= self.state.counters.next_check
        if self.state.checking is not None:
            checked = self.checker.result(wait=due)
            if checked is not None and (due or checked.solved):
                self._conclude(self.state.checking, checked)
        if due and not self.state.counters.solved:
            self._start_check()

    def finish_checks(self) -> None:
        """Wait for the last check. A run that was too short for any is checked now."""
        if self.state.checking is None and self.state.counters.best_return is None:
            self._start_check()
        if self.state.checking is not None:
            checked = self.checker.result(wait=True)
            assert checked is not None
            self._conclude(self.state.checking, checked)

    def _start_check(self) -> None:
        """Of both learners of a race in turns, at intervals half as long."""
        state, counters, rival = self.state, self.state.counters, self.state.rival
        best = -np.inf if counters.best_return is None else counters.best_return
        transferred, every = rival is not None and rival.turn == TRANSFER, state.config.evaluation.every
        if rival is not None:
            rival.turn, every = SCRATCH if transferred else TRANSFER, max(1, every // 2)
        student = rival if rival is not None and transferred else state
        weights = (student.average or student.learner).weights()
        self._require(all(bool(np.isfinite(value).all()) for value in weights.values()))
        updates = state.learner.updates
        check = EvalJob(updates, counters.steps, counters.checked, best, weights, transferred)
        counters.next_check = updates + every
        state.checking = check
        self.checker.start(check)

    def _require(self, finite: bool) -> None:
        """Stop training when weights or losses are not ``finite``: they stay so, and no checkpoint is written."""
        if not finite:
            raise DivergedError(
                f"the network has diverged after {self.state.learner.updates:,} updates (infinity or NaN): lower "
                "learner.lr or learner.reward_scale, or clip gradients by learner.max_grad_norm"
            )

    def _conclude(self, check: EvalJob, checked: EvalResult) -> None:
        """Take the network that was checked as the best, if it is, and note whether it solves the task."""
        counters, state = self.state.counters, self.state
        state.checking = None
        counters.checked += checked.seeds
        counters.solved = checked.solved
        if checked.mean >= check.best or checked.solved:
            counters.best_return, counters.best_updates, counters.best_steps = checked.mean, check.updates, check.steps
            state.best = check.weights
            counters.best_transferred = check.transferred
        if state.rival is not None:
            state.rival.checked(TRANSFER if check.transferred else SCRATCH, checked.mean, checked.solved, check.steps)
            self._take_winner()
        best = checked.mean if counters.best_return is None else counters.best_return
        self.note = f"return {shown(checked.mean)}, best {shown(best)}"
        self.log.write(check.steps, update=check.updates, seconds=round(self.clock(), 3), check_return=checked.mean)

    def _take_winner(self) -> None:
        """From now on there is one learner, if that is decided."""
        state, race = self.state, self.state.race
        if race is None or race.outcome is None:
            return
        self.measures = {}
        if race.outcome.goes_on == TRANSFER:
            left = state.counters.next_check - state.learner.updates
            state.learner, state.average = race.won()
            state.stats = None if race.keeps_stats else state.stats
            state.counters.next_check = state.learner.updates + left

    def save_when_due(self) -> None:
        """A checkpoint every ``checkpoint_seconds``."""
        if time.monotonic() - self.saved >= self.state.config.checkpoint_seconds:
            self.save()

    def save(self) -> None:
        """Write a checkpoint."""
        self.clock()
        self.state.counters.metrics_bytes = self.log.position
        save_state(self.state, self.run.checkpoint)
        self.saved = time.monotonic()
