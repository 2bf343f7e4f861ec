"""The engine ``xla``: its row in the table, which can be read where JAX is not installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

from nimbleq.config import TrainConfig
from nimbleq.rl.envs.vector_engine import Environments
from nimbleq.rl.learners.engine import Engine, Program, host_replay
from nimbleq.rl.learners.xla.strides import STRIDES
from nimbleq.rl.replay.buffer import ReplayBuffer
from nimbleq.rl.spec import EnvSpec

if TYPE_CHECKING:
    from nimbleq.rl.learners.xla.learner import XlaLearner
    from nimbleq.rl.learners.xla.ring import RingReplay

_INSTEAD = "; use --learner.engine torch"


def missing_jax() -> str | None:
    """Why there is no JAX, and what to install; None when there is."""
    if find_spec("jax") is not None:
        return None
    return "learner.engine xla needs JAX: pip install 'nimbleq[xla]', on a TPU 'nimbleq[tpu]'"


def _why_not(config: TrainConfig, spec: EnvSpec | None) -> str | None:
    network = config.network
    if network.head != "q":
        return f"learner.engine xla has no {network.head} head, it learns expected values{_INSTEAD}"
    if network.noisy:
        return f"learner.engine xla has no noisy layers{_INSTEAD}"
    if network.sparsity:
        return f"learner.engine xla has no sparse weights{_INSTEAD}"
    if network.spectral_norm:
        return f"learner.engine xla has no spectral norms{_INSTEAD}"
    if network.torso not in STRIDES:
        return f"learner.engine xla has no {network.torso} torso, only {', '.join(STRIDES)}{_INSTEAD}"
    if network.space_to_depth > 1 or network.torso_pool:
        return f"learner.engine xla has no space_to_depth and no torso_pool{_INSTEAD}"
    if spec is not None and spec.obs.pictures:
        return f"learner.engine xla learns from one picture or numbers, not both{_INSTEAD}"
    return missing_jax()


def _make(config: TrainConfig, spec: EnvSpec, seed: int) -> XlaLearner:
    from nimbleq.rl.learners.xla.learner import XlaLearner

    return XlaLearner(config, spec, seed)


def _one_program(config: TrainConfig) -> bool:
    """Whether the environments are JAX's, and all that happens can be."""
    inside = config.env.engine == "gymnax" and config.explore.hold == 1
    return inside and (config.algorithm == "pqn" or not config.replay.prioritized)


def _replay(config: TrainConfig, spec: EnvSpec, learner: XlaLearner) -> ReplayBuffer:
    """On the device where the whole of training is, else the host's."""
    if not _one_program(config):
        return host_replay(config, spec, learner)
    from nimbleq.rl.learners.xla.ring import RingReplay

    return RingReplay(config, spec)


def _program(
    config: TrainConfig, learner: XlaLearner, envs: Environments, replay: ReplayBuffer | None
) -> Program | None:
    """The rounds as one program, where the environments are JAX's."""
    if not _one_program(config):
        return None
    from nimbleq.rl.envs.jax_env import JaxEnv
    from nimbleq.rl.learners.xla.rounds import Rounds

    assert isinstance(envs, JaxEnv), "gymnax makes no others"
    return Rounds(config, learner, envs, cast("RingReplay | None", replay))


ENGINE: Engine[XlaLearner, ReplayBuffer] = Engine(
    "xla", "JAX, on a TPU, a GPU or the CPU", _why_not, _make, _replay, program=_program
)
