"""The native learner: a whole TD step of a fully connected Q-network in C, with the mathematics of `TorchLearner`.

On small networks a framework spends most of a step between its operations. Here one call does the forward passes of
both networks, the loss, the backward pass, Adam and the target network, and `NativeLearner.update_many` does several
such steps. Weights agree with `TorchLearner`'s within float rounding (the sums are in another order).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from types import ModuleType

import numpy as np

from nimbleq.config import LearnerConfig, NetworkConfig, TrainConfig
from nimbleq.errors import ConfigError, FileError
from nimbleq.graph.graph import Graph
from nimbleq.rl.learners.engine import Engine
from nimbleq.rl.learners.imitation import Imitation
from nimbleq.rl.learners.native_layout import Layout, View
from nimbleq.rl.learners.native_masks import Masks
from nimbleq.rl.learners.native_noise import Noise
from nimbleq.rl.learners.sparse_masks import NEVER, PREFIX
from nimbleq.rl.masks import best_legal
from nimbleq.rl.nets.graph import network_graph
from nimbleq.rl.nets.initial import initial_weights
from nimbleq.rl.replay.ring import Replay
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array, Batch, ObsSpec

_TARGETS = ("none", "hard", "polyak")  # the numbers of `Target` in native/learner/learner.h
_HEADS = ("q", "c51", "qr", "hl-gauss")  # the numbers of `Head` there
_MAX_HIDDEN = 63
_INSTEAD = "; use --learner.engine torch"


def native_available(
    network: NetworkConfig, obs: ObsSpec | None = None, learner: LearnerConfig | None = None
) -> str | None:
    """Why the native learner cannot train this network this way, in words for a person; None when it can."""
    if network.torso != "mlp":
        return f"the native learner has no {network.torso} torso, only fully connected layers"
    if network.head not in _HEADS:
        return f"the native learner has no {network.head} head, only {', '.join(_HEADS)}"
    if obs is not None and obs.pictures:
        return "the native learner takes no pictures"
    if obs is not None and (len(obs.shape) != 1 or obs.dtype != "float32"):
        return f"the native learner takes float32 vectors, not {obs.dtype} observations of shape {obs.shape}"
    if len(network.hidden) > _MAX_HIDDEN:
        return f"the native learner has at most {_MAX_HIDDEN} hidden layers"
    if _extension() is None:
        return "the native learner was not compiled when nimbleq was installed (is there a C compiler?)"
    return None


def _extension() -> ModuleType | None:
    try:
        return importlib.import_module("nimbleq.native._learner")
    except ModuleNotFoundError:
        return None


class NativeLearner:
    """`nimbleq.rl.learners.learner.Learner` in C: float32 vectors, fully connected layers.

    The same batches give the same bits, on any number of threads: large updates are shared by those that the process
    may run on, as long as that is faster. Calls must not overlap (they share a workspace).

    Raises:
        ConfigError: `native_available` gives a reason.
    """

    def __init__(self, config: TrainConfig, spec: EnvSpec, seed: int) -> None:
        extension = _extension()
        reason = native_available(config.network, spec.obs, config.learner)
        if extension is None or reason is not None:
            raise ConfigError(f"{reason}{_INSTEAD}")
        network, learner = config.network, config.learner
        self.updates = 0
        self._core = extension.Learner(
            obs=spec.obs.shape[0],
            actions=spec.actions,
            hidden=tuple(network.hidden),
            batch=learner.batch_size,
            normalize=network.normalize_obs,
            layer_norm=network.layer_norm,
            dueling=network.dueling,
            double=learner.double,
            huber=learner.loss == "huber",
            radam=learner.optimizer == "radam",
            target=_TARGETS.index(learner.target),
            target_every=learner.target_every,
            lr_updates=learner.lr_updates,
            obs_clip=network.obs_clip,
            tau=learner.tau,
            lr=learner.lr,
            lr_end=learner.lr_end,
            adam_eps=learner.adam_eps,
            max_grad_norm=learner.max_grad_norm,
            reward_scale=learner.reward_scale,
            head=_HEADS.index(network.head),
            atoms=1 if network.head == "q" else network.atoms,
            v_min=network.v_min,
            v_max=network.v_max,
            munchausen=learner.munchausen,
            munchausen_alpha=learner.munchausen_alpha,
            munchausen_tau=learner.munchausen_tau,
            munchausen_clip=learner.munchausen_clip,
            noisy=network.noisy,
            smoothing=network.smoothing,
            sparse=network.sparsity > 0,
            dynamic=network.sparsity_mode == "dynamic",
            spectral=network.spectral_norm,
        )
        self._noise = Noise(spec, network, seed) if network.noisy else None
        self._state = np.frombuffer(self._core, np.float32)
        layout = Layout(self._state, extension.BLOCK)
        self._layout_of = extension.BLOCK, network, spec
        self._online = layout.parameters(network, spec)
        self._size = layout.used  # floats of one network's parameters, padding included
        self._target = layout.parameters(network, spec) if learner.target != "none" else {}
        self._adam_m, self._adam_v = (layout.parameters(network, spec) for _ in range(2))
        stats = {f"prepare.{name}": layout.vector(spec.obs.shape[0]) for name in ("mean", "inverse_std")}
        if network.normalize_obs:
            self._online |= stats
            self._target |= stats if self._target else {}  # both networks normalise with the same statistics
        for group in (self._online, self._target) if self._target else (self._online,):
            group |= layout.vectors(network, spec)
        initial = initial_weights(spec, network, seed)
        self._sparse: Masks | None = None
        if network.sparsity:
            self._sparse = Masks(layout.parameters(network, spec), initial, network, seed)
            self._core.pause = self._sparse.pause(0)
        self._masks = {} if self._sparse is None else self._sparse.views
        for group in (self._online, self._target):
            for key, view in group.items():
                view.write(initial[key])

    @property
    def threads(self) -> int:
        """How many threads, 1 to 8, may share a large update."""
        count: int = self._core.threads
        return count

    @threads.setter
    def threads(self, count: int) -> None:
        self._core.threads = count

    def q(self, obs: Array) -> Array:
        """Online Q-values: ``obs[B, O] → float32[B, A]``."""
        q: Array = self._core.q(obs)
        return q

    def act(self, obs: Array, mask: Array | None = None, explore: bool = False) -> Array:
        """See `nimbleq.rl.learners.learner.Learner`."""
        if explore and self._noise is not None:
            self._core.set_noise(self._noise.draw(1)[0])
            try:
                return self.act(obs, mask)
            finally:
                self._core.set_noise(None)
        if mask is not None:
            return best_legal(self.q(obs), mask)
        action: Array = self._core.act(obs)
        return action

    def update(self, batch: Batch) -> Array:
        """One gradient step; returns ``|TD error|: float32[B]`` before it."""
        errors: Array = self.update_many(_stacked(batch))[0]
        return errors

    def update_many(self, batches: Batch) -> Array:
        """``U`` gradient steps, one after the other, without Python in between.

        Args:
            batches: a `Batch` whose arrays have a leading axis ``U``: ``obs[U, B, O]``, ``action[U, B]``, …

        Returns:
            ``|TD error|: float32[U, B]`` (of ``c51`` the KL divergence), each row before its own step.

        Raises:
            ValueError: shapes disagree, or an action does not exist; nothing was changed.
        """
        arrays = (*batches[:6], batches.next_mask, batches.mask, self._factors(len(batches.obs)))
        before = self.updates
        abs_td: Array = self._core.update_many(*arrays)
        while self._end_step() < before + len(abs_td):
            done = self.updates - before
            abs_td[done:] = self._core.update_many(*(None if array is None else array[done:] for array in arrays))
        return abs_td

    def _end_step(self) -> int:
        """Do the rest of a step that stopped because masks move; returns how many updates are done now."""
        if self._sparse is not None and self._core.halted:
            state = self._views_of(self._core.gradient()), self._online, self._adam_m, self._adam_v
            self._sparse.move(*state, updates=self._core.updates, frozen=self._core.frozen)
            self._core.move()
            self._core.pause = self._sparse.pause(self._core.updates)
        self.updates = self._core.updates
        return self.updates

    def _factors(self, updates: int) -> Array | None:
        """Of noisy layers, of the target network and then of the online one: ``float32[U, 2 F]``."""
        return None if self._noise is None else self._noise.draw(2 * updates).reshape(updates, -1)

    def update_towards(self, batch: Batch, towards: Imitation) -> Array:
        """See `nimbleq.rl.learners.imitation.Imitator`."""
        policy = towards.probability[None], towards.weight[None], 1 / towards.temperature
        one = _stacked(batch)
        abs_td: Array = self._core.update_many(*one[:6], one.next_mask, one.mask, self._factors(1), *policy)[0]
        self._end_step()
        return abs_td

    def imitate(self, obs: Array, towards: Imitation) -> None:
        """See `nimbleq.rl.learners.imitation.Imitator`."""
        self._core.imitate(obs, towards.probability, towards.weight, 1 / towards.temperature)
        self._end_step()

    def freeze(self, layers: int) -> None:
        """See `nimbleq.rl.learners.imitation.Imitator`."""
        self._core.frozen = layers

    def set_obs_stats(self, mean: Array, std: Array) -> None:
        """Statistics that normalise observations, ``float32[O]`` each; ignored without normalisation."""
        if "prepare.mean" in self._online:
            self._online["prepare.mean"].write(mean)
            self._online["prepare.inverse_std"].write(1 / std)

    def arrays(self) -> dict[str, Array]:
        """Complete state, as copies, named as `TorchLearner.arrays` names it."""
        state = {key: view.read() for key, view in self._named()}
        if self._noise is not None:
            state["rng"] = self._noise.state()
        for name in self._masks:
            state[f"{PREFIX}{name}"] = state[f"{PREFIX}{name}"].astype(np.uint8)
        return state | {"updates": np.array([self.updates], np.int64)}

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Continue from what `arrays` (or `TorchLearner.arrays`) returned; from the former bit for bit.

        Raises:
            FileError: an array is missing or has another shape; nothing was changed.
        """
        for key, view in self._named():
            if key not in arrays or arrays[key].shape != view.shape:
                raise FileError(f"the learner's state needs {key} of shape {view.shape}; it is from another network")
        if "updates" not in arrays:
            raise FileError("the learner's state has no updates counter")
        for key, view in self._named():
            view.write(arrays[key])
        if self._noise is not None:
            self._noise.load(arrays["rng"])
        self.updates = self._core.updates = int(arrays["updates"][0])
        self._core.pause = NEVER if self._sparse is None else self._sparse.pause(self.updates)

    def weights(self) -> dict[str, Array]:
        """See `nimbleq.rl.learners.learner.Learner`."""
        return {key: view.read() for key, view in self._online.items()}

    def set_weights(self, weights: Mapping[str, Array]) -> None:
        """See `nimbleq.rl.learners.learner.Learner`."""
        for key, view in self._online.items():
            view.write(weights[key] * self._masks[key].read() if key in self._masks else weights[key])

    def graph(self, weights: Mapping[str, Array] | None = None) -> Graph:
        """See `nimbleq.rl.learners.learner.Learner`."""
        _, network, spec = self._layout_of
        return network_graph(spec, network, self.weights() if weights is None else weights)

    def _views_of(self, parameters: Array) -> dict[str, View]:
        block, network, spec = self._layout_of
        return Layout(parameters, block).parameters(network, spec)

    def parameters(self) -> Array:
        """See `nimbleq.rl.learners.learner.Learner`; a view of the state, padding included."""
        return self._state[: self._size]

    def unpack(self, parameters: Array) -> dict[str, Array]:
        """See `nimbleq.rl.learners.learner.Learner`."""
        return {key: view.read() for key, view in (self._online | self._views_of(parameters)).items()}

    def pack(self, weights: Mapping[str, Array]) -> Array:
        """See `nimbleq.rl.learners.learner.Learner`."""
        parameters = np.zeros(self._size, np.float32)
        for key, view in self._views_of(parameters).items():
            view.write(weights[key])
        return parameters

    def _named(self) -> Iterator[tuple[str, View]]:
        groups = {"online": self._online, "target": self._target, "adam_m": self._adam_m, "adam_v": self._adam_v}
        for prefix, group in groups.items():
            for key, view in group.items():
                yield f"{prefix}.{key}", view
        for key, view in self._masks.items():
            yield f"{PREFIX}{key}", view


def _stacked(batch: Batch) -> Batch:
    """With a leading axis of 1."""
    return Batch(*(None if array is None else array[None] for array in batch))  # type: ignore[arg-type]


def _why_not(config: TrainConfig, spec: EnvSpec | None) -> str | None:
    reason = native_available(config.network, None if spec is None else spec.obs, config.learner)
    return None if reason is None else f"{reason}{_INSTEAD}"


ENGINE: Engine[NativeLearner, Replay] = Engine(
    "native", "fully connected networks on vectors, in C", _why_not, NativeLearner, imitates=True
)
