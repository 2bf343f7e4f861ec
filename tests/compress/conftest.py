"""Small hand-made networks and environments for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from nimbleq.compress.students.mlp import mlp_student
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.tensor import UINT8, TensorType
from nimbleq.types import Array, Episodes, Policy


@pytest.fixture(scope="session")
def mlp() -> Callable[..., tuple[Graph, Array]]:
    """``(seed, inputs, hidden, actions) → (random network with biases, observations)``."""

    def make(seed: int, inputs: int, hidden: Sequence[int], actions: int) -> tuple[Graph, Array]:
        rng = np.random.default_rng(seed)
        obs = (rng.standard_normal((800, inputs)) * rng.uniform(0.1, 10, inputs) + rng.uniform(-3, 3, inputs)).astype(
            np.float32
        )
        graph = mlp_student(TensorType((inputs,)), hidden, actions, obs, rng)
        biases = {
            n: rng.standard_normal(w.shape).astype(np.float32) * 0.3 for n, w in graph.weights.items() if n[0] == "b"
        }
        return graph.with_weights(biases), obs

    return make


@pytest.fixture(scope="session")
def cnn() -> Callable[..., tuple[Graph, Array]]:
    """``(seed, padding) → (uint8 → 2 × (conv → relu), a pool between → 2 linear, observations)``."""

    def make(seed: int, padding: int = 1) -> tuple[Graph, Array]:
        rng = np.random.default_rng(seed)
        side = 10 + 2 * padding - 2
        flat = 6 * (side // 2 - 2) ** 2
        shapes = {"w0": (5, 3, 3, 3), "w1": (6, 5, 3, 3), "w2": (12, flat), "w3": (4, 12)}
        weights = {
            n: (rng.standard_normal(s) * np.sqrt(2 / np.prod(s[1:]))).astype(np.float32) for n, s in shapes.items()
        }
        weights |= {f"b{n[1:]}": rng.standard_normal(s[0]).astype(np.float32) * 0.1 for n, s in shapes.items()}
        weights |= {"scale": np.array(1 / 255, np.float32), "shift": np.zeros((), np.float32)}
        nodes = (
            Node(ops.Affine("scale", "shift"), ("obs",), "x"),
            Node(ops.Conv2d("w0", "b0", padding=(padding, padding)), ("x",), "c0"),
            Node(ops.Activation("relu"), ("c0",), "r0"),
            Node(ops.Pool("max", (2, 2), (2, 2)), ("r0",), "p0"),
            Node(ops.Conv2d("w1", "b1"), ("p0",), "c1"),
            Node(ops.Activation("relu"), ("c1",), "r1"),
            Node(ops.Flatten(), ("r1",), "f"),
            Node(ops.Linear("w2", "b2"), ("f",), "s2"),
            Node(ops.Activation("relu"), ("s2",), "r2"),
            Node(ops.Linear("w3", "b3"), ("r2",), Q),
            Node(ops.ArgMax(), (Q,), ACTION),
        )
        graph = Graph({"obs": TensorType((3, 10, 10), UINT8)}, nodes, (Q, ACTION), weights)
        return graph, rng.integers(0, 256, (60, 3, 10, 10)).astype(np.uint8)

    return make


@dataclass
class Balance:
    """A stick to balance, vectorised in numpy: a linear feedback on four features holds it to the limit.

    Counts the episodes it played, so that tests see what was spent.
    """

    limit: int = 60
    played: int = 0

    def __call__(self, policy: Policy, seeds: Sequence[int], *, epsilon: float = 0.0, keep_obs: int = 0) -> Episodes:
        self.played += len(seeds)
        noise = [np.random.default_rng(int(seed)) for seed in seeds]
        state = np.array([rng.uniform(-0.1, 0.1, 4) for rng in noise])
        lengths, alive, seen = np.zeros(len(seeds), np.int64), np.ones(len(seeds), bool), []
        for _ in range(self.limit):
            obs = state[alive].astype(np.float32)
            seen.append(obs)
            action = policy(obs)
            if epsilon > 0:
                explore = [(noise[i].random(), noise[i].integers(2)) for i in np.flatnonzero(alive)]
                action = np.array([b if a < epsilon else c for (a, b), c in zip(explore, action, strict=True)])
            x, v, angle, spin = state[alive].T
            push = 2.0 * action - 1.0
            spin = spin + 0.05 * (12 * angle - 6 * push)
            v = v + 0.05 * 4 * push
            state[alive] = np.stack([x + 0.05 * v, v, angle + 0.05 * spin, spin], axis=1)
            lengths[alive] += 1
            alive &= (np.abs(state[:, 2]) < 0.5) & (np.abs(state[:, 0]) < 2.4)
            if not alive.any():
                break
        obs_all = np.concatenate(seen)
        kept = None
        if keep_obs:
            kept = obs_all[np.random.default_rng(0).permutation(len(obs_all))[:keep_obs]]
        return Episodes(np.asarray(seeds, np.int64), lengths.astype(np.float64), lengths, kept)


@pytest.fixture
def balance() -> Balance:
    """A fresh environment."""
    return Balance()


@pytest.fixture
def balance_teacher() -> Graph:
    """A wide network that balances: the feedback ``angle + 0.4·spin`` (and the position, gently) through 64 ReLUs."""
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((64, 4)).astype(np.float32)
    feedback = np.array([0.03, 0.06, 1.0, 0.4], np.float32)
    # relu(h·x) − relu(−h·x) = h·x: pairs of units carry the linear map exactly.
    weight = np.concatenate([hidden, -hidden])
    solve = np.linalg.lstsq(hidden.T, feedback, rcond=None)[0]
    out = np.concatenate([solve, -solve])
    weights = {
        "w0": weight,
        "b0": np.zeros(128, np.float32),
        "w1": np.stack([-out, out]).astype(np.float32),
        "b1": np.zeros(2, np.float32),
    }
    nodes = (
        Node(ops.Linear("w0", "b0"), ("obs",), "s"),
        Node(ops.Activation("relu"), ("s",), "r"),
        Node(ops.Linear("w1", "b1"), ("r",), Q),
        Node(ops.ArgMax(), (Q,), ACTION),
    )
    return Graph({"obs": TensorType((4,))}, nodes, (Q, ACTION), weights)
