"""The learner of the engine ``xla``: numpy in, numpy out, one compiled program for each thing that it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from nimbleq.config import TrainConfig
from nimbleq.graph.graph import Graph
from nimbleq.rl.learners.torch_state import named_arrays
from nimbleq.rl.learners.xla.network import Tensor, Weights, q_values
from nimbleq.rl.learners.xla.step import Sample, State, td_step
from nimbleq.rl.masks import best_legal
from nimbleq.rl.nets.graph import network_graph
from nimbleq.rl.nets.network import initial_network
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array, Batch


class XlaLearner:
    """`nimbleq.rl.learners.learner.Learner` in JAX, on JAX's default device.

    Weights agree with `TorchLearner`'s within float rounding.

    Attributes:
        state: lives on the device; after an update the arrays of the one before are gone.
    """

    def __init__(self, config: TrainConfig, spec: EnvSpec, seed: int) -> None:
        self.config, self.spec = config, spec
        self.updates = 0
        self.state, self._names = initial_state(config, spec, seed)
        self._step = jax.jit(partial(td_step, config), donate_argnums=0)
        self._q = jax.jit(partial(q_values, config.network))
        self._greedy = jax.jit(lambda weights, obs: q_values(config.network, weights, obs).argmax(1))

    def q(self, obs: Array) -> Array:
        """See `Learner`."""
        return np.asarray(self._q(self._online(), obs))

    def act(self, obs: Array, mask: Array | None = None, explore: bool = False) -> Array:
        """See `Learner`; there is no noise to ``explore``."""
        if mask is not None:
            return best_legal(self.q(obs), mask)
        return np.asarray(self._greedy(self._online(), obs)).astype(np.int64)

    def update(self, batch: Batch) -> Array:
        """See `Learner`."""
        self.state, report = self._step(self.state, Sample(*batch[:6], batch.next_mask, batch.mask))
        self.updates += 1
        return np.asarray(report.abs_td)

    def set_obs_stats(self, mean: Array, std: Array) -> None:
        """See `Learner`."""
        if "prepare.mean" in self.state.buffers:
            stats = {"prepare.mean": jnp.asarray(mean), "prepare.inverse_std": jnp.asarray(1 / std)}
            self.state = self.state._replace(buffers={**self.state.buffers, **stats})

    def arrays(self) -> dict[str, Array]:
        """See `Learner`."""
        state = self.state
        groups = {"online": self._online(), "adam_m": state.first, "adam_v": state.second}
        if state.target:
            groups["target"] = {**state.target, **state.buffers}
        named = {f"{prefix}.{name}": _copy(value) for prefix, group in groups.items() for name, value in group.items()}
        return named | {"updates": np.array([self.updates], np.int64)}

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """See `Learner`."""

        def group(prefix: str, like: Weights) -> Weights:
            return {name: jnp.array(arrays[f"{prefix}.{name}"]) for name in like}

        state = self.state
        self.updates = int(arrays["updates"][0])
        self.state = State(
            group("online", state.weights),
            group("target", state.target),
            group("adam_m", state.first),
            group("adam_v", state.second),
            group("online", state.buffers),
            jnp.asarray(self.updates, jnp.int32),
        )

    def weights(self) -> dict[str, Array]:
        """See `Learner`."""
        online = self._online()
        return {name: _copy(online[name]) for name in self._names}

    def set_weights(self, weights: Mapping[str, Array]) -> None:
        """See `Learner`."""
        given, buffers = (
            {name: jnp.array(weights[name]) for name in group} for group in (self.state.weights, self.state.buffers)
        )
        self.state = self.state._replace(weights=given, buffers=buffers)

    def parameters(self) -> Array:
        """See `Learner`; a copy."""
        return self.pack(self.weights())

    def unpack(self, parameters: Array) -> dict[str, Array]:
        """See `Learner`."""
        named, start = self.weights(), 0
        for name, value in named.items():
            if name in self.state.weights:
                named[name] = parameters[start : start + value.size].reshape(value.shape).copy()
                start += value.size
        return named

    def pack(self, weights: Mapping[str, Array]) -> Array:
        """See `Learner`."""
        return np.concatenate([weights[name].reshape(-1) for name in self._names if name in self.state.weights])

    def graph(self, weights: Mapping[str, Array] | None = None) -> Graph:
        """See `Learner`."""
        return network_graph(self.spec, self.config.network, self.weights() if weights is None else weights)

    def _online(self) -> dict[str, Tensor]:
        return {**self.state.weights, **self.state.buffers}


def initial_state(config: TrainConfig, spec: EnvSpec, seed: int) -> tuple[State, tuple[str, ...]]:
    """The state before the first step, with the weights that every engine starts from; and the names of all weights."""
    network = initial_network(spec, config.network, seed)
    named, parameters = named_arrays(network), {name for name, _ in network.named_parameters()}
    weights = {name: jnp.array(value) for name, value in named.items() if name in parameters}
    buffers = {name: jnp.array(value) for name, value in named.items() if name not in parameters}
    target = {} if config.learner.target == "none" else jax.tree.map(jnp.copy, weights)
    first, second = (jax.tree.map(jnp.zeros_like, weights) for _ in range(2))
    return State(weights, target, first, second, buffers, jnp.zeros((), jnp.int32)), tuple(named)


def _copy(value: Tensor) -> Array:
    return np.array(value)
