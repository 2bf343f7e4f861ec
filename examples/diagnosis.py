"""Diagnosis with costly tests: order as few as it takes, then decide. On scikit-learn's breast-cancer data.

    pip install 'nimbleq[medicine]'
    python examples/diagnosis.py [run directory [steps [options of nimbleq compress …]]]

Ten tests measure the nuclei of cells in an image (radius, texture …), each as mean, error and worst value. The policy
sees what was measured so far, and orders another test or says benign or malignant. This is research, not medicine: see
docs/medicine.md. Run it from the folder above ``examples``; training alone is
``nimbleq train --env examples.diagnosis:Clinic --env-kwargs fold=0 cost=0.01``.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

from nimbleq import Runtime
from nimbleq.cli import main as command_line
from nimbleq.types import Array

TESTS, FOLDS = 10, 5
TRAIN = shlex.split(
    "train --env examples.diagnosis:Clinic --network.hidden 64 64 --learner.gamma 1.0 --replay.n-step 1 "
    "--evaluation.episodes 200"
)


class Patients(NamedTuple):
    """Attributes:
    tests: ``float32[N, 10, 3]`` mean, error and worst value of each test.
    benign: ``bool[N]``.
    """

    tests: Array
    benign: Array


def patients(fold: int, training: bool) -> Patients:
    """Four fifths of the 569 patients for training, or the fifth that ``fold`` leaves for testing, stratified."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import StratifiedKFold

    values, benign = load_breast_cancer(return_X_y=True)
    learnt, unseen = list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(values, benign))[fold]
    chosen = learnt if training else unseen
    tests = values.reshape(-1, 3, TESTS).swapaxes(1, 2).astype(np.float32)
    return Patients(tests[chosen], benign[chosen] == 1)


class Clinic(gymnasium.Env[Any, Any]):
    """One patient: actions 0 … 9 order a test that costs ``cost``, 10 says malignant, 11 says benign (1 if right).

    Observes the 30 values, 0 where they are not known, and 10 flags of the tests that are. A test is ordered once.
    """

    action_space = spaces.Discrete(TESTS + 2)
    observation_space = spaces.Box(-np.inf, np.inf, (4 * TESTS,), np.float32)

    def __init__(self, fold: int = 0, cost: float = 0.01, training: bool = True) -> None:
        self.patients, self.cost = patients(fold, training), cost

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        drawn = self.np_random.integers(len(self.patients.benign))
        self.patient = int((options or {}).get("patient", drawn))
        self.known = np.zeros(TESTS, bool)
        return self._observed()

    def _observed(self) -> tuple[Array, dict[str, Any]]:
        values = self.patients.tests[self.patient] * self.known[:, None]
        legal = np.concatenate([~self.known, [True, True]])
        return np.concatenate([values.ravel(), self.known], dtype=np.float32), {"action_mask": legal}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        over = action >= TESTS
        if over:
            reward = float((action == TESTS + 1) == self.patients.benign[self.patient])
        else:
            self.known[action], reward = True, -self.cost
        obs, info = self._observed()
        return obs, reward, over, False, info


class Diagnoses(NamedTuple):
    """Attributes:
    right: ``bool[N]``.
    tests: ``int[N]`` how many were ordered.
    """

    right: Array
    tests: Array


def diagnosed(act: Callable[[Any, Any], int], fold: int) -> Diagnoses:
    """Every unseen patient of the fold once, by what really runs."""
    clinic = Clinic(fold, training=False)
    right, tests = [], []
    for patient in range(len(clinic.patients.benign)):
        obs, info = clinic.reset(options={"patient": patient})
        over = False
        while not over:
            obs, reward, over, _, info = clinic.step(act(obs, info["action_mask"]))
        right.append(reward == 1)
        tests.append(clinic.known.sum())
    return Diagnoses(np.array(right), np.array(tests))


def logistic_regression(fold: int) -> Array:
    """``bool[N]`` whether each unseen patient is told right from all 30 values, the usual baseline."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    learnt, unseen = patients(fold, True), patients(fold, False)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000))
    model.fit(learnt.tests.reshape(-1, 3 * TESTS), learnt.benign)
    right: Array = model.predict(unseen.tests.reshape(-1, 3 * TESTS)) == unseen.benign
    return right


def nimbleq(*words: object) -> None:
    """One command line. Exit code 1 is an answer (what was asked does not hold); 2 ends the example."""
    if command_line([str(word) for word in words]) == 2:
        sys.exit(2)


def main(out: str = "runs/clinic", steps: str = "150000", *options: str, fold: int = 0, cost: float = 0.01) -> None:
    folder = Path(out)
    nimbleq(*TRAIN, "--env-kwargs", f"fold={fold}", f"cost={cost}", "--steps", steps, "--out", folder)
    nimbleq("compress", folder, "--keep", 0.95, "--recipe", "distill", *options)
    nimbleq("export", folder, "--to", "c", "--out", folder / "build", "--name", "clinic")
    nimbleq("verify", folder / "build", "--observations", 2000)
    for name in ("teacher", "small"):
        met = diagnosed(Runtime(folder / "artefacts" / name).act, fold)
        print(f"{name}: {met.right.mean():.1%} of {len(met.right)} unseen patients right, {met.tests.mean():.1f} tests")
    print(f"logistic regression: {logistic_regression(fold).mean():.1%} right, all {TESTS} tests")


if __name__ == "__main__":
    main(*sys.argv[1:])
