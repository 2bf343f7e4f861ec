"""Treating sepsis in a simulated intensive care unit: a small policy whose survival is computed, not estimated.

    pip install 'nimbleq[medicine]'
    python examples/medicine.py [run directory [steps [steps that a student climbs]]]

icu-sepsis [2406.05646] is a model of 716 states made from hospital records. Each of 25 actions is a dose of fluids and
one of vasopressors; a state admits those that clinicians gave often enough there. This is research, not treatment: see
docs/medicine.md. Run it from the folder above ``examples``; training alone is
``nimbleq train --env examples.medicine:Sepsis``.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

from nimbleq import Runtime, compress_policy, load_artefact, save_artefact
from nimbleq.cli import main as command_line
from nimbleq.compress.passes.climb import Climb
from nimbleq.compress.passes.distill import Distill
from nimbleq.compress.passes.fold import Fold
from nimbleq.compress.passes.student import Student
from nimbleq.compress.search.config import CompressConfig
from nimbleq.files import write_json
from nimbleq.graph.artefact import Artefact
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.rundir import RunDir
from nimbleq.types import Array, Episodes, Policy

ENDS, ACTIONS = 713, 25  # states from 713 on are ends: death, survival, and what follows both
TRAIN = shlex.split(
    "train --env examples.medicine:Sepsis --max-episode-steps 500 --network.hidden 128 128 --learner.gamma 1.0 "
    "--replay.n-step 1 --replay.capacity 2000000 --learner.batch-size 256 --learner.target polyak --learner.tau 0.01 "
    "--learner.lr 1e-3 --learner.lr-end 1e-5 --learner.lr-updates 160000 --explore.end 1.0 --envs 64 "
    "--updates-per-step 8 --evaluation.network average --evaluation.average-updates 20000 --evaluation.every 159000 "
    "--evaluation.episodes 500"
)
"""Every return is one death or survival, so learning averages over many: it watches random treatment, from a large
replay, and takes the average of its last networks, as checks are too noisy to choose one."""


STUDENTS = ((8, "int5"), (13, "int5"), (20, "int5"), (32, "int8"))
"""Hidden units and number format, from small to large."""


class Model(NamedTuple):
    """What the package knows of its 716 states and 25 actions: ``S`` is all of them, with three ends.

    Attributes:
        to: ``float64[S, 25, S]`` probability of the next state.
        paid: ``float64[S, 25, S]`` reward, which is 1 for survival.
        start: ``float64[S]`` probability of the first state.
        legal: the admissible actions of each state.
        obs: ``float32[S, 47]`` features of the patients in a state, standardised.
        clinicians: ``float64[S, 25]`` what was done, as probabilities.
    """

    to: Array
    paid: Array
    start: Array
    legal: list[list[int]]
    obs: Array
    clinicians: Array


@cache
def model() -> Model:
    """The package's own files, loaded once, as they take 200 MB. The package itself would import the old Gym."""
    package = find_spec("icu_sepsis")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("pip install 'nimbleq[medicine]'", name="icu_sepsis")
    assets = Path(package.origin).parent / "envs" / "assets"
    known = np.load(assets / "dynamics.npz")
    lists = (assets / "admissible_actions.txt").read_text().splitlines()[1:]  # the first line counts them
    legal = [[int(action) for action in line.split()] for line in lists]
    obs = known["state_cluster_centers"].astype(np.float32)
    return Model(known["tx_mat"], known["r_mat"], known["d_0"], legal, obs, known["expert_policy"])


@cache
def cumulative(*place: int) -> Array:
    """Cumulative probabilities of the first state, or of the one after ``(state, action)``."""
    share = model().to[place] if place else model().start
    summed: Array = share.cumsum()
    return summed / summed[-1]


class Sepsis(gymnasium.Env[Any, Any]):
    """icu-sepsis, observed as the 47 features of the patient's state in place of the state's number.

    From a seed and actions follows what follows in ``Sepsis/ICU-Sepsis-v2``, sooner: that one adds up the probabilities
    of all next states in every step.
    """

    action_space = spaces.Discrete(ACTIONS)
    observation_space = spaces.Box(-np.inf, np.inf, (47,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.model = model()
        self.state = int(cumulative().searchsorted(self.np_random.random(), side="right"))
        return self._observed()

    def _observed(self) -> tuple[Any, dict[str, Any]]:
        return self.model.obs[self.state], {"admissible_actions": self.model.legal[self.state]}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        before = self.state
        if action not in self.model.legal[before]:
            raise ValueError(f"action {action} is not admissible in state {before}")
        self.state = int(cumulative(before, int(action)).searchsorted(self.np_random.random(), side="right"))
        obs, info = self._observed()
        return obs, float(self.model.paid[before, action, self.state]), self.state >= ENDS, False, info


@cache
def first_state(seed: int) -> int:
    """Where an episode starts."""
    return int(cumulative().searchsorted(np.random.default_rng(seed).random(), side="right"))


class Ward:
    """All patients at once. Also a `nimbleq.types.Evaluate`: the return of an episode is the survival to be expected
    from its first state, so policies are compared without the luck of single patients.

    Attributes:
        obs: ``float32[S, 47]`` of every state that is not an end.
        mask: ``bool[S, 25]`` its legal actions.
    """

    def __init__(self) -> None:
        known = model()
        self.start, self.obs, self.clinicians = known.start[:ENDS], known.obs[:ENDS], known.clinicians[:ENDS]
        self.mask = np.array([[action in legal for action in range(ACTIONS)] for legal in known.legal[:ENDS]])
        self.uniform = self.mask / self.mask.sum(axis=1, keepdims=True)
        self._to = known.to[:ENDS, :, :ENDS]
        self._paid = (known.to * known.paid).sum(axis=2)[:ENDS]
        self._legal = np.nonzero(self.mask)  # state, action
        self._after = self._to[self._legal]

    def leaving(self, choice: Array) -> Array:
        """``float[S, S]`` identity minus the chain of a policy, ``choice: float[S, 25]`` probabilities of actions."""
        state, action = np.nonzero(choice)  # one state after the other, each with an action at least
        chain = np.add.reduceat(
            choice[state, action, None] * self._to[state, action], np.flatnonzero(np.diff(state, prepend=-1))
        )
        left: Array = np.eye(ENDS) - chain
        return left

    def values(self, choice: Array) -> Array:
        """``float[S]`` probability of survival from each state (γ = 1, no time limit)."""
        found: Array = np.linalg.solve(self.leaving(choice), (choice * self._paid).sum(axis=1))
        return found

    def q(self, values: Array) -> Array:
        """``float[S, 25]`` survival after each legal action, from ``values [S]`` of the states; −∞ for others."""
        found = np.full(self.mask.shape, -np.inf)
        found[self._legal] = self._paid[self._legal] + self._after @ values
        return found

    def visits(self, choice: Array) -> Array:
        """``float[S]`` how often a patient is expected to be in each state."""
        found: Array = np.linalg.solve(self.leaving(choice).T, self.start)
        return np.maximum(found, 0)

    def gradient(self, choice: Array) -> Array:
        """See `nimbleq.compress.passes.climb.Model`."""
        values = self.values(choice)
        advantage = np.where(self.mask, self.q(values) - values[:, None], 0)
        return np.asarray(self.visits(choice)[:, None] * advantage)

    def survival(self, choice: Array) -> float:
        """Probability of survival of a new patient."""
        return float(self.start @ self.values(choice))

    returned = survival  # as `nimbleq.compress.passes.climb.Model` calls it

    def value(self, policy: Policy) -> float:
        """Probability of survival under a greedy policy."""
        return self.survival(self.choice(policy(self.obs, mask=self.mask)))

    def choice(self, actions: Array) -> Array:
        """``float[S, 25]`` of a greedy policy's ``actions: int[S]``; raises `ValueError` where one is not legal."""
        chosen = np.eye(ACTIONS)[actions]
        if (chosen > self.mask).any():
            raise ValueError("the policy chose an action that is not admissible")
        return chosen

    def optimum(self) -> Array:
        """``float[S, 25]`` of the best policy, by policy iteration."""
        best = self.choice(self.mask.argmax(axis=1))
        while True:
            q = self.q(self.values(best))
            better = q.max(axis=1) > q[best > 0] + 1e-12
            if not better.any():
                return best
            best[better] = self.choice(q.argmax(axis=1))[better]

    def __call__(self, policy: Policy, seeds: Sequence[int], *, epsilon: float = 0.0, keep_obs: int = 0) -> Episodes:
        """See `nimbleq.types.Evaluate`."""
        greedy = 0 if epsilon == 1 else self.choice(policy(self.obs, mask=self.mask))
        choice = (1 - epsilon) * greedy + epsilon * self.uniform
        first = [first_state(seed) for seed in seeds]
        returns, lengths = self.values(choice)[first], np.zeros(len(first), np.int64)
        if not keep_obs:
            return Episodes(np.array(seeds), returns, lengths)
        visits = self.visits(choice)
        seen = np.random.default_rng(list(seeds)).choice(ENDS, keep_obs, p=visits / visits.sum())
        return Episodes(np.array(seeds), returns, lengths, self.obs[seen], self.mask[seen])


def compress(folder: Path, ward: Ward, keep: float = 0.99, steps: int = 800) -> Artefact:
    """The smallest of `STUDENTS` that keeps ``keep`` of the teacher's survival over uniform treatment, exactly; saved.

    Args:
        steps: that each climbs.
    """
    run = RunDir(folder)
    teacher = load_artefact(run.teacher)
    least = ward.survival(ward.uniform)
    least += keep * (ward.value(GraphPolicy(teacher.graph)) - least)
    for width, weights in STUDENTS:
        recipe = (Student((width,)), Distill(), Fold(), Climb(ward, weights, steps))
        # What is exact below needs no certificate, however many episodes one would take.
        found = compress_policy(teacher.graph, ward, CompressConfig(keep=keep, recipe=recipe, max_episodes=1_000_000))
        survival = ward.value(GraphPolicy(found.best.graph))
        print(f"{found.best.recipe}: {found.best.size_bytes:,} B, survival {survival:.4f} of {least:.4f} asked for")
        if survival >= least:
            facts = {"parents": {"teacher": teacher.digest}, "recipe": found.best.recipe}
            small = run.artefact("small")
            return save_artefact(small, found.best.graph, found.golden_obs, facts, interface=teacher.interface)
    sys.exit(f"no student keeps {keep:.0%} of the teacher's survival over uniform treatment: train it longer")


def survival_of(act: Callable[[Any, Any], Any], ward: Ward) -> float:
    """Of what really runs: one call of ``act(obs, mask)`` per state."""
    actions = [act(obs, mask) for obs, mask in zip(ward.obs, ward.mask, strict=True)]
    return ward.survival(ward.choice(np.array(actions)))


def judged(folder: Path, ward: Ward) -> dict[str, Any]:
    """What the teacher and the small policy of a run are worth, as they run. Nothing here is sampled."""
    run = RunDir(folder)
    survival = {
        "uniform": ward.survival(ward.uniform),
        "clinicians": ward.survival(ward.clinicians),
        "teacher": survival_of(Runtime(run.teacher).act, ward),
        "small": survival_of(Runtime(run.artefact("small")).act, ward),
        "optimum": ward.survival(ward.optimum()),
    }
    return {
        "claim": "probability of survival in icu-sepsis, by solving the linear system over its states",
        "artefact": load_artefact(run.artefact("small")).digest,
        "teacher": load_artefact(run.teacher).digest,
        "kept": (survival["small"] - survival["uniform"]) / (survival["teacher"] - survival["uniform"]),
        "returns": survival,
    }


def nimbleq(*words: object) -> None:
    """One command line. Exit code 1 is an answer (what was asked does not hold); 2 ends the example."""
    if command_line([str(word) for word in words]) == 2:
        sys.exit(2)


def main(out: str = "runs/sepsis", steps: str = "1280000", climb: str = "800") -> None:
    folder = Path(out)
    nimbleq(*TRAIN, "--steps", steps, "--out", folder)
    ward = Ward()
    compress(folder, ward, steps=int(climb))
    exact = judged(folder, ward)
    write_json(folder / "exact.json", exact)  # in place of a statistical certificate; nimbleq zoo reads it
    print(json.dumps(exact, indent=1))
    nimbleq("export", folder, "--to", "c", "--out", folder / "build", "--name", "sepsis")
    nimbleq("verify", folder / "build", "--observations", 2000)


if __name__ == "__main__":
    main(*sys.argv[1:])
