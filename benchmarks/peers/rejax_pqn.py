"""rejax's PQN on gymnax's MinAtar: ``python -m benchmarks.peers.rejax_pqn --game Breakout --steps 10000000``.

The network and the settings are those of `benchmarks.cases.pqn`. With ``--state FILE`` it learns, stops after
``--seconds`` and goes on from the file next time; it prints one JSON object. Without, it learns a block for each line
on standard input that says how many iterations, and prints the seconds that they took; compiling comes before.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.pqn_recipe import EPISODES, LIMIT, PQN

ITERATIONS = 10
"""That are compiled as one."""


def algorithm(game: str, steps: int) -> Any:
    """rejax's, whose network is a convolution and a layer with LayerNorm in place of two such layers."""
    import distrax
    import jax.numpy as jnp
    import optax
    from flax import linen as nn
    from rejax.algos import pqn

    class Network(nn.Module):  # type: ignore[misc]
        actions: int

        @nn.compact  # type: ignore[untyped-decorator]
        def __call__(self, obs: Any) -> Any:
            x = nn.relu(nn.Conv(16, (3, 3), padding="VALID")(obs))
            x = nn.Dense(128)(x.reshape(len(x), -1))
            return nn.Dense(self.actions)(nn.relu(nn.LayerNorm(use_bias=False, use_scale=False)(x)))

        def take(self, obs: Any, action: Any) -> Any:
            return jnp.take_along_axis(self(obs), action[:, None], axis=1).squeeze(1)

        def act(self, obs: Any, rng: Any, epsilon: float = 0.05) -> Any:
            return distrax.EpsilonGreedy(self(obs), epsilon=epsilon).sample(seed=rng)

    made = pqn.PQN.create(
        env=f"{game}-MinAtar", total_timesteps=steps, num_envs=PQN.envs, num_steps=PQN.rollout, num_epochs=PQN.epochs,
        num_minibatches=PQN.iteration // PQN.batch, gamma=PQN.gamma, td_lambda=PQN.trace_decay,
        eps_start=1.0, eps_end=PQN.epsilon, exploration_fraction=PQN.exploring, max_grad_norm=PQN.clip,
        learning_rate=optax.linear_schedule(PQN.lr, 0.0, PQN.updates(steps)),
    )  # fmt: skip
    return made.replace(agent=Network(made.action_dim))


def blocks(game: str, steps: int) -> None:
    """Seconds of blocks of iterations, as they are asked for."""
    import jax

    made = algorithm(game, steps)
    learn = jax.jit(
        lambda state, count: jax.lax.fori_loop(0, count, lambda _, state: made.train_iteration(state), state)
    )
    state = jax.block_until_ready(learn(made.init_state(jax.random.PRNGKey(0)), 1))
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        state = jax.block_until_ready(learn(state, int(line)))
        print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)


def learnt(game: str, steps: int, seed: int, place: Path, seconds: float) -> dict[str, Any]:
    """How far a run has come, and what it returns once it is over: greedy but for ε = 0.005, in gymnax's game."""
    import jax
    from flax import serialization
    from rejax.evaluate import evaluate

    began = time.monotonic()
    made = algorithm(game, steps)
    state, before = made.init_state(jax.random.PRNGKey(seed)), 0.0
    if place.exists():
        kept = serialization.from_bytes({"state": state, "seconds": before}, place.read_bytes())
        state, before = kept["state"], float(kept["seconds"])
    learn = jax.jit(lambda state: jax.lax.fori_loop(0, ITERATIONS, lambda _, state: made.train_iteration(state), state))
    while int(state.global_step) < steps and time.monotonic() - began < seconds:
        state = jax.block_until_ready(learn(state))
    spent = before + time.monotonic() - began
    place.write_bytes(serialization.to_bytes({"state": state, "seconds": spent}))
    found = {"steps": int(state.global_step), "train_seconds": spent}
    if found["steps"] < steps:
        return found
    _, returns = evaluate(
        made.make_act(state), jax.random.PRNGKey(seed + 1), made.env, made.env_params, EPISODES, LIMIT
    )
    return {**found, "returns": [float(value) for value in returns]}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--game", required=True)
    parser.add_argument("--steps", type=int, default=PQN.steps)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    words = parser.parse_args()
    if words.state is None:
        blocks(words.game, words.steps)
    else:
        print(json.dumps(learnt(words.game, words.steps, words.seed, words.state, words.seconds)))


if __name__ == "__main__":
    main()
