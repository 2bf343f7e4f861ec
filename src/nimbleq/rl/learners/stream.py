"""The engine ``stream``: stream Q(λ) [2410.14606] in C, by the very code that a policy is exported with.

No replay, no batch, no target network: eligibility traces carry news back, LayerNorm, sparse initial weights and
running statistics keep the scales in order, and the step size is bounded so that no update overshoots (ObGD).
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from itertools import pairwise
from types import ModuleType
from typing import NamedTuple

import numpy as np

from nimbleq.config import TrainConfig
from nimbleq.errors import ConfigError, FileError
from nimbleq.graph.graph import Graph
from nimbleq.rl.learners.engine import Engine
from nimbleq.rl.masks import best_legal
from nimbleq.rl.nets.graph import network_graph
from nimbleq.rl.replay.ring import Replay
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array, Batch, Step


class Layer(NamedTuple):
    """A layer's name, and where its weight ``[inputs, outputs]`` and bias lie in the state."""

    name: str
    weight: slice
    bias: slice
    shape: tuple[int, int]


def _extension() -> ModuleType | None:
    try:
        return importlib.import_module("nimbleq.native._stream")
    except ModuleNotFoundError:
        return None


class StreamLearner:
    """`nimbleq.rl.learners.learner.Learner` of single steps: `learn` in place of ``update``.

    Attributes:
        state: ``float32[S]``, all that learning changes, as native/kernels/stream.h lays it out.
    """

    def __init__(self, config: TrainConfig, spec: EnvSpec, seed: int) -> None:
        extension = _extension()
        assert extension is not None, "`_why_not` refuses"
        network, self.config, self.spec = config.network, config, spec
        self.updates = 0
        self._core = extension
        self._widths = np.array([spec.obs.shape[0], *network.hidden, spec.actions], np.int32)
        values = (
            network.obs_clip, config.learner.gamma, config.stream.trace_decay, config.learner.lr,
            config.stream.overshoot, network.normalize_obs, network.layer_norm,
        )  # fmt: skip
        self._settings = np.array(values, np.float32)
        size, work = extension.sizes(self._widths, self._settings)
        self.state, self._work = np.zeros(size, np.float32), np.zeros(work, np.float32)
        self._layers, self._weights = _layers(self._widths.tolist(), network.layer_norm)
        rng = np.random.default_rng(seed)
        for layer in self._layers:
            inputs, outputs = layer.shape
            weight = rng.uniform(-(inputs**-0.5), inputs**-0.5, (outputs, inputs))
            # Of four inputs 90 % would be all: a layer of zeros, whose units are dead for good.
            zeros = min(math.ceil(config.stream.sparsity * inputs), inputs - 1)
            for row in weight:
                row[rng.permutation(inputs)[:zeros]] = 0
            self.state[layer.weight] = weight.T.reshape(-1)

    def q(self, obs: Array) -> Array:
        """See `nimbleq.rl.learners.learner.Learner`; of scaled rewards."""
        values = np.empty((len(obs), self.spec.actions), np.float32)
        self._core.q(self._widths, self._settings, self.state, self._work, np.ascontiguousarray(obs), values)
        return values

    def act(self, obs: Array, mask: Array | None = None, explore: bool = False) -> Array:
        """See `nimbleq.rl.learners.learner.Learner`."""
        q = self.q(obs)
        return np.asarray(q.argmax(axis=1)) if mask is None else best_legal(q, mask)

    def learn(self, step: Step) -> float:
        """Learn from the step of one environment; the TD error before that, in scaled rewards."""
        legal, next_legal = (None if mask is None else mask[0] for mask in (step.mask, step.next_mask))
        over = bool(step.terminated[0] or step.truncated[0])
        error: float = self._core.learn(
            self._widths, self._settings, self.state, self._work, np.ascontiguousarray(step.obs[0]),
            int(step.action[0]), float(step.reward[0]), bool(step.terminated[0]), over,
            np.ascontiguousarray(step.next_obs[0]), legal, next_legal,
        )  # fmt: skip
        self.updates += 1
        return error

    def measures(self, step: Step, error: float) -> dict[str, float]:
        """What is logged about `learn`."""
        return {"loss": error**2, "q_mean": float(self.q(step.obs).mean())}

    def update(self, batch: Batch) -> Array:
        """There are no batches here."""
        raise AssertionError("stream learns from steps")

    def set_obs_stats(self, mean: Array, std: Array) -> None:
        """It keeps them itself."""

    def arrays(self) -> dict[str, Array]:
        """See `nimbleq.rl.learners.learner.Learner`: everything is in ``state``."""
        return {"state": self.state.copy(), "updates": np.array([self.updates], np.int64)}

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """See `nimbleq.rl.learners.learner.Learner`.

        Raises:
            FileError: it is the state of another network.
        """
        if "state" not in arrays or arrays["state"].shape != self.state.shape:
            raise FileError(f"the learner's state needs {self.state.size} numbers; it is from another network")
        self.state[:] = arrays["state"]
        self.updates = int(arrays["updates"][0])

    def weights(self) -> dict[str, Array]:
        """See `nimbleq.rl.learners.learner.Learner`."""
        named: dict[str, Array] = {}
        if self.config.network.normalize_obs:
            size = int(self._widths[0])
            mean, variance = self.state[1 : 1 + size], self.state[1 + size : 1 + 2 * size]
            varies = variance > np.float32(_SMALL)
            inverse = np.where(varies, 1 / np.sqrt(np.where(varies, variance, 1)), 0).astype(np.float32)
            named = {"prepare.mean": mean.copy(), "prepare.inverse_std": inverse}
        for layer in self._layers:
            named[f"{layer.name}.weight"] = np.array(self.state[layer.weight].reshape(layer.shape).T, order="C")
            named[f"{layer.name}.bias"] = self.state[layer.bias].copy()
        return named

    def set_weights(self, weights: Mapping[str, Array]) -> None:
        """See `nimbleq.rl.learners.learner.Learner`."""
        if self.config.network.normalize_obs:
            size, inverse = int(self._widths[0]), weights["prepare.inverse_std"]
            self.state[1 : 1 + size] = weights["prepare.mean"]
            self.state[1 + size : 1 + 2 * size] = np.where(inverse > 0, 1 / np.square(np.maximum(inverse, _SMALL)), 0)
        for layer in self._layers:
            self.state[layer.weight] = weights[f"{layer.name}.weight"].T.reshape(-1)
            self.state[layer.bias] = weights[f"{layer.name}.bias"]

    def parameters(self) -> Array:
        """See `nimbleq.rl.learners.learner.Learner`; a view."""
        return self.state[self._weights]

    def unpack(self, parameters: Array) -> dict[str, Array]:
        """See `nimbleq.rl.learners.learner.Learner`."""
        before = self.parameters().copy()
        self.state[self._weights] = parameters
        named = self.weights()
        self.state[self._weights] = before
        return named

    def pack(self, weights: Mapping[str, Array]) -> Array:
        """See `nimbleq.rl.learners.learner.Learner`."""
        parts = [weights[f"{layer.name}.{kind}"].T.reshape(-1) for layer in self._layers for kind in ("weight", "bias")]
        return np.concatenate(parts)

    def graph(self, weights: Mapping[str, Array] | None = None) -> Graph:
        """See `nimbleq.rl.learners.learner.Learner`."""
        return network_graph(self.spec, self.config.network, self.weights() if weights is None else weights)


_SMALL = 1e-12  # variance of a feature that never varied, as in native/kernels/stream.h


def _layers(widths: list[int], layer_norm: bool) -> tuple[list[Layer], slice]:
    """The layers, and where all their weights lie."""
    first = at = 5 + 2 * widths[0]
    found = []
    for index, shape in enumerate(pairwise(widths)):
        last = index == len(widths) - 2
        name = "advantage" if last else f"body.{index * (3 if layer_norm else 2)}"
        middle, end = at + math.prod(shape), at + math.prod(shape) + shape[1]
        found.append(Layer(name, slice(at, middle), slice(middle, end), shape))
        at = end
    return found, slice(first, at)


def _why_not(config: TrainConfig, spec: EnvSpec | None) -> str | None:
    network = config.network
    for name, holds, wanted in (
        ("head", network.head == "q", "q"),
        ("torso", network.torso == "mlp", "mlp"),
        ("dueling", not network.dueling, "off"),
        ("noisy", not network.noisy, "off"),
        ("sparsity", not network.sparsity, "0"),
        ("spectral_norm", not network.spectral_norm, "off"),
    ):
        if not holds:
            return f"the setting network.{name} must be {wanted} with stream, not {getattr(network, name)}"
    if spec is not None and (len(spec.obs.shape) != 1 or spec.obs.dtype != "float32" or spec.obs.pictures):
        return f"stream learns from vectors of numbers, not {spec.obs.dtype} observations of shape {spec.obs.shape}"
    if _extension() is None:
        return "stream was not compiled when nimbleq was installed (is there a C compiler?)"
    return None


def _no_replay(config: TrainConfig, spec: EnvSpec, learner: StreamLearner) -> Replay:
    raise ConfigError("stream has no replay")


ENGINE: Engine[StreamLearner, Replay] = Engine(
    "stream",
    "single steps, in C, small enough for a microcontroller",
    _why_not,
    StreamLearner,
    replay=_no_replay,
    learns=("stream",),
    checks="stream",
)
