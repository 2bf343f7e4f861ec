"""Training in programs that play and learn without the host, which starts them, checks and saves."""

from __future__ import annotations

from collections.abc import Callable

from nimbleq.rl.learners.engine import Beside, Program
from nimbleq.rl.replay.ring import part
from nimbleq.rl.training.session import Session
from nimbleq.rl.training.state import TrainState
from nimbleq.types import Tick

_STEPS_AT_ONCE = 1 << 17  # environment steps after which the host looks at Ctrl-C and the clock, at the latest


def learn_in_programs(program: Program, session: Session, tick: Tick, interrupted: Callable[[], bool]) -> None:
    """As many rounds at a time as there are until the next check. It stops and saves between programs only."""
    state = session.state
    while not session.over:
        rounds = rounds_at_once(program, state)
        measure, after = program.run(rounds, _beside(state))
        state.counters.steps += rounds * program.steps
        _put_back(state, after)
        session.note_finished()
        session.log_measures(measure, session.epsilon())
        session.end_turn(tick, interrupted)


def rounds_at_once(program: Program, state: TrainState) -> int:
    """Until the next check or the end of training, whichever comes first, and not too many."""
    until_check = -(-(state.counters.next_check - state.learner.updates) // program.updates)
    until_end = -(-(state.config.steps - state.counters.steps) // program.steps)
    return max(1, min(until_check, until_end, _STEPS_AT_ONCE // program.steps))


def _beside(state: TrainState) -> Beside:
    stats, average = state.stats, state.average
    return Beside(None if stats is None else stats.arrays(), None if average is None else average.arrays())


def _put_back(state: TrainState, after: Beside) -> None:
    if state.stats is not None and after.stats is not None:
        state.stats.load_arrays(dict(after.stats))
    if state.average is not None and after.average is not None:
        weights = part(after.average, "weights")
        state.average.load_arrays(after.average, weights)
