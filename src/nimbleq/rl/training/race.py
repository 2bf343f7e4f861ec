"""A run with a source trains two learners, one from scratch and one from the source, until one of them is given up.

Both learn from one replay, and each acts in half of the environments, so a step counts once and a transfer that hurts
costs the learner from scratch half of its own play and nothing else. The greedy checks take turns, so that each learner
is checked as often as a run alone is. Whoever solves the task first has won; whoever is behind in ``transfer.patience``
pairs of checks, one after the other, is given up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from nimbleq.config import TrainConfig
from nimbleq.figures import shown
from nimbleq.files import write_json
from nimbleq.rl.envs.vector_engine import Environments
from nimbleq.rl.explore import Explorer
from nimbleq.rl.learners.engine import Engine
from nimbleq.rl.learners.learner import Learner
from nimbleq.rl.replay.buffer import ReplayBuffer
from nimbleq.rl.replay.ring import part
from nimbleq.rl.spec import EnvSpec
from nimbleq.rl.training.average import WeightAverage
from nimbleq.rl.training.evaluate import Evaluator
from nimbleq.rl.transfer.transfer import NOISE, Transfer
from nimbleq.rundir import RunDir
from nimbleq.types import Array

SCRATCH, TRANSFER = "scratch", "transfer"
_EXPLORE = 2  # the purpose of a generator; 0 and 1 are those of the run
_BLOCK = 256  # steps after which both change places, so that each acts even where there is one environment only


class Outcome(NamedTuple):
    """Attributes:
    goes_on: ``transfer`` or ``scratch``: whose network the run has in the end.
    why: in a sentence.
    teacher_return, random_return: of 20 episodes in the target (None: not measured).
    transfer_return, scratch_return: of the last check of each (None: there was none).
    steps: of the environments, until it was decided.
    """

    goes_on: str
    why: str
    teacher_return: float | None
    random_return: float | None
    transfer_return: float | None
    scratch_return: float | None
    steps: int


class Race:
    """The learner that starts from the source, beside that of the run, which starts from scratch.

    Attributes:
        transfer: what the source gives.
        learner, average: as in `nimbleq.rl.training.state.TrainState`; out of use once there is an outcome.
        turn: whose check is next.
        outcome: None until it is decided.
    """

    def __init__(self, config: TrainConfig, transfer: Transfer, row: Engine[Any, Any], spec: EnvSpec) -> None:
        self.config, self.transfer, self._row = config, transfer, row
        self.learner: Learner = row.make(config, spec, config.seed)
        transfer.start(self.learner)
        averaging = config.evaluation.network == "average"
        self.average = WeightAverage(config.evaluation.average_updates, self.learner) if averaging else None
        rng = np.random.default_rng([config.seed, _EXPLORE])
        self._explorer = Explorer(config.explore, rng, config.envs, spec.actions)
        self.turn = TRANSFER
        self._returns: dict[str, float | None] = {TRANSFER: None, SCRATCH: None}
        self._behind = {TRANSFER: 0, SCRATCH: 0}  # pairs of checks, one after the other
        self.outcome: Outcome | None = None

    def measure(self) -> None:
        """Play the source in the target: one that is no better than random play is not listened to at all."""
        with Evaluator(self.config.env) as evaluate:
            self.transfer.measure(evaluate)
        known = self.transfer.standing
        if known is not None and known.teacher <= known.random:
            why = f"the source returns {shown(known.teacher)} here and random play {shown(known.random)}"
            self.decide(SCRATCH, why, 0)

    def explore(self, chosen: Array, envs: Environments, steps: int) -> Array:
        """``chosen: int64[N]`` of the learner from scratch; in half of the environments what this one does."""
        if self.transfer.teaches(steps, self.learner.updates):
            greedy, epsilon = self.transfer.act(envs.obs, envs.mask), NOISE
        else:
            greedy, epsilon = self.learner.act(envs.obs, envs.mask, explore=True), self._epsilon()
        ours = self._explorer.choose(greedy, epsilon, envs.mask)
        half = (np.arange(len(chosen)) + steps // len(chosen) // _BLOCK) % 2 == 0
        return np.where(half, ours, chosen)

    def _epsilon(self) -> float:
        """One that has a policy already explores as at the end of a run."""
        return self.config.explore.end if self.transfer.knows else self._explorer.epsilon(self.learner.updates)

    def set_obs_stats(self, mean: Array, std: Array) -> None:
        """See `Learner`; layers that were taken keep the statistics that they were learnt with."""
        if self.transfer.stats is None:
            self.learner.set_obs_stats(mean, std)

    @property
    def keeps_stats(self) -> bool:
        """The learner of the run has statistics of observations that do not change."""
        return self.outcome is not None and self.outcome.goes_on == TRANSFER and self.transfer.stats is not None

    def learn(self, replay: ReplayBuffer, rng: np.random.Generator, beta: float, steps: int) -> None:
        """The updates that are due beside those of the learner from scratch."""
        for _ in range(self.transfer.rounds(self.learner.updates)):
            for _ in self.transfer.updates(self._row, self.config, self.learner, replay, rng, beta, steps):
                pass

    def won(self) -> tuple[Learner, WeightAverage | None]:
        """The learner, which goes on as any other, and the average of its weights."""
        self.transfer.thaw(self.learner)
        return self.learner, self.average

    def measures(self, steps: int) -> dict[str, float]:
        """What is logged beside the learner from scratch."""
        return {"teacher_weight": self.transfer.weight(steps)}

    def checked(self, whose: str, mean: float, solved: bool, steps: int) -> None:
        """Take in the outcome of a check; with it the race may be decided."""
        self._returns[whose] = mean
        if whose == TRANSFER:
            self.transfer.student_return = mean
        transfer, scratch = self._returns[TRANSFER], self._returns[SCRATCH]
        if solved:
            self.decide(whose, "it was the first to solve the task", steps)
        elif whose == SCRATCH and transfer is not None and scratch is not None:
            self._behind[TRANSFER] = self._behind[TRANSFER] + 1 if transfer < scratch else 0
            self._behind[SCRATCH] = self._behind[SCRATCH] + 1 if scratch < transfer else 0
            for behind, ahead in ((TRANSFER, SCRATCH), (SCRATCH, TRANSFER)):
                if self._behind[behind] == self.config.transfer.patience:
                    self.decide(ahead, f"it was ahead in {self._behind[behind]} checks one after the other", steps)

    def decide(self, whose: str, why: str, steps: int) -> None:
        """Go on as one of both."""
        transfer, scratch, known = self._returns[TRANSFER], self._returns[SCRATCH], self.transfer.standing
        last = (f"{name} {shown(value)}" for name, value in self._returns.items() if value is not None)
        stands = "; ".join((why, *([f"last checks: {', '.join(last)}"] if transfer is not None else [])))
        self.outcome = Outcome(
            goes_on=whose,
            why=f"after {steps:,} steps {whose} goes on: {stands}",
            teacher_return=None if known is None else known.teacher,
            random_return=None if known is None else known.random,
            transfer_return=transfer,
            scratch_return=scratch,
            steps=steps,
        )

    def arrays(self) -> dict[str, Array]:
        """Those that change; none once it is decided."""
        if self.outcome is not None:
            return {}
        groups = {
            "learner": self.learner.arrays(),
            "average": {} if self.average is None else self.average.arrays(),
            "explorer": self._explorer.arrays(),
        }
        return {f"{group}.{name}": array for group, members in groups.items() for name, array in members.items()}

    def values(self) -> dict[str, Any]:
        """What else changes, as JSON values."""
        return {
            "outcome": None if self.outcome is None else self.outcome._asdict(),
            "transfer": self.transfer.values(),
            "rng": self._explorer.rng.bit_generator.state,
            "turn": self.turn,
            "returns": self._returns,
            "behind": self._behind,
        }

    def load(self, arrays: dict[str, Array], values: Mapping[str, Any]) -> None:
        """The way back from `arrays` and `values`."""
        self.transfer.load(values["transfer"])
        self._explorer.rng.bit_generator.state = values["rng"]
        self.turn, self._returns, self._behind = values["turn"], dict(values["returns"]), dict(values["behind"])
        self.outcome = None if values["outcome"] is None else Outcome(**values["outcome"])
        if self.outcome is None:
            self.learner.load_arrays(part(arrays, "learner"))
            self._explorer.load_arrays(part(arrays, "explorer"))
            if self.average is not None:
                average = part(arrays, "average")
                self.average.load_arrays(average, part(average, "weights"))


def settled(race: Race | None, transferred: bool, steps: int, run: RunDir) -> Outcome | None:
    """The outcome at the end of ``run``, which keeps it; where nothing was decided the best network's learner has won.

    Args:
        transferred: that learner is the one that starts from the source.
    """
    if race is None:
        return None
    if race.outcome is None:
        race.decide(TRANSFER if transferred else SCRATCH, "the best network is its", steps)
    assert race.outcome is not None
    write_json(run.transfer, race.outcome._asdict())
    return race.outcome
