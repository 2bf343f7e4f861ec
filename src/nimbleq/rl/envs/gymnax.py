"""Training on gymnax: environments in JAX, stepped all at once, on the accelerator if there is one.

Only environments whose dynamics are Gymnasium's are played (MinAtar's games there have no sticky actions, so they are
others). What differs is rounding, float32 in place of float64, and the random numbers. Checks, certificates and
everything else that is claimed of a policy are played on Gymnasium's environment.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from nimbleq.config import EnvConfig
from nimbleq.errors import EnvError
from nimbleq.rl.envs.gymnasium import env_spec, make_env, time_limit
from nimbleq.rl.envs.vector_engine import VectorEngine

if TYPE_CHECKING:
    from nimbleq.rl.envs.jax_env import JaxEnv

SAME = ("CartPole-v1", "Acrobot-v1", "MountainCar-v0")
"""Environments that both libraries have under one name, with the same dynamics."""
INSTALL = "pip install 'nimbleq[xla]' flax matplotlib, then pip install --no-deps gymnax==1.0.1"
"""Without its dependencies: it asks for an older Gymnasium than nimbleq's, with which it works all the same."""


def make_gymnax(config: EnvConfig, envs: int, seed: int) -> JaxEnv:
    """``envs`` environments of gymnax with Gymnasium's time limit, or that of ``config``.

    Raises:
        EnvError: gymnax is not installed or does not play this environment as Gymnasium does, or ``config`` has
            arguments.
    """
    if config.kwargs or config.discretize is not None or config.offsets:
        raise EnvError("gymnax takes no --env-kwargs, --discretize or --obs-offsets: leave out --env-engine")
    if config.id not in SAME:
        raise EnvError(
            f"gymnax does not play {config.id} as Gymnasium does, only {', '.join(SAME)}: leave out --env-engine"
        )
    if find_spec("gymnax") is None or find_spec("jax") is None:
        raise EnvError(f"gymnax is not installed: {INSTALL}; or leave out --env-engine")
    from nimbleq.rl.envs.jax_env import JaxEnv

    env = make_env(config)
    inside, params = import_module("gymnax").make(config.id)
    params = params.replace(max_steps_in_episode=time_limit(env))
    env.close()
    return JaxEnv(config.id, env_spec(env), inside, params, envs, seed)


ENGINE = VectorEngine(make_gymnax, no_workers="which steps them all at once")
