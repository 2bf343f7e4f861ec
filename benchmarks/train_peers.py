"""One peer trains once, in a process of its own: ``python -m benchmarks.train_peers --peer sb3 --env CartPole-v1``.

Peers: `sb3`, the DQN of Stable-Baselines3 (PyTorch), and `sbx`, that of Stable-Baselines Jax. Settings are those that
rl-baselines3-zoo publishes for the environment (github.com/DLR-RM/rl-baselines3-zoo, ``hyperparams/dqn.yml``; its
LunarLander entry is for v2: v3 repeats episodes exactly and mends the wind, which is off). The zoo trains sbx from the
same entries. What they do not name is the library's default.

Counted is the time inside ``learn``. Not counted: imports, building the model, compiling (JAX traces, lowers and
compiles while it learns; its own monitoring says how long), and checking. Every `cadence` steps up to 100 greedy
episodes decide whether the score is reached, given up after 25 when it clearly is not; so a peer's time is too long by
at most one cadence, and its checks are free (nimbleq's are counted). Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nimbleq.config import EnvConfig
from nimbleq.rl.training.evaluate import Evaluator, check_return
from nimbleq.seeds import episode_seeds
from nimbleq.types import Array

EPISODES = 100


@dataclass(frozen=True)
class Task:
    """What has to be reached, the zoo's settings for it, and steps between checks.

    Attributes:
        score: mean return of 100 greedy episodes.
        budget: the zoo's ``n_timesteps``.
        cadence: steps between checks.
        settings: arguments of the DQN classes.
    """

    score: float
    budget: int
    cadence: int
    settings: dict[str, Any]


TASKS = {
    "CartPole-v1": Task(
        score=475.0,
        budget=50_000,
        cadence=1_000,
        settings={
            "learning_rate": 2.3e-3,
            "batch_size": 64,
            "buffer_size": 100_000,
            "learning_starts": 1_000,
            "gamma": 0.99,
            "target_update_interval": 10,
            "train_freq": 256,
            "gradient_steps": 128,
            "exploration_fraction": 0.16,
            "exploration_final_eps": 0.04,
            "policy_kwargs": {"net_arch": [256, 256]},
        },
    ),
    "LunarLander-v3": Task(
        score=200.0,
        budget=100_000,
        cadence=2_500,
        settings={
            "learning_rate": 6.3e-4,
            "batch_size": 128,
            "buffer_size": 50_000,
            "learning_starts": 0,
            "gamma": 0.99,
            "target_update_interval": 250,
            "train_freq": 4,
            "gradient_steps": -1,
            "exploration_fraction": 0.12,
            "exploration_final_eps": 0.1,
            "policy_kwargs": {"net_arch": [256, 256]},
        },
    ),
}


class Compiling:
    """Seconds that JAX spent on tracing, lowering and compiling; while `paused` they belong to a check."""

    def __init__(self) -> None:
        self.seconds, self.paused = 0.0, False

    def __call__(self, event: str, seconds: float, **_: object) -> None:
        if event.startswith("/jax/core/compile/") and not self.paused:
            self.seconds += seconds


@dataclass
class Watch:
    """Checks a model while it learns and keeps the time without them.

    Attributes:
        checks: ``(steps, seconds, mean return, episodes)`` of each.
        reached: the score was.
        checking: seconds spent on checks.
    """

    task: Task
    seed: int
    evaluate: Evaluator
    compiling: Compiling
    checks: list[tuple[int, float, float, int]] = field(default_factory=list)
    reached: bool = False
    checking: float = 0.0
    began: float = field(default_factory=time.perf_counter)

    def seconds(self) -> float:
        """Of training so far."""
        return time.perf_counter() - self.began - self.checking - self.compiling.seconds

    def check(self, model: Any) -> bool:
        """Whether the score is not reached yet."""
        now, start = self.seconds(), time.perf_counter()
        self.compiling.paused = True
        seeds = episode_seeds("check", self.seed, EPISODES, start=len(self.checks) * EPISODES)
        mean, count = check_return(lambda part: self.returns(model, part), seeds, self.task.score)
        self.compiling.paused = False
        self.checking += time.perf_counter() - start
        self.checks.append((int(model.num_timesteps), now, mean, count))
        self.reached = count == EPISODES and mean >= self.task.score
        return not self.reached

    def returns(self, model: Any, seeds: Array) -> Array:
        """Greedy returns of one episode per seed."""

        def act(obs: Array) -> Array:
            padded = np.zeros((EPISODES, *obs.shape[1:]), np.float32)  # one shape, so that JAX compiles once
            padded[: len(obs)] = obs
            return np.asarray(model.predict(padded, deterministic=True)[0])[: len(obs)]

        return self.evaluate(act, seeds.tolist()).returns


def build(peer: str, env: str, seed: int, settings: dict[str, Any], compiling: Compiling) -> Any:
    """The peer's model."""
    if peer == "sb3":
        from stable_baselines3 import DQN

        return DQN("MlpPolicy", env, seed=seed, device="cpu", **settings)
    import jax.monitoring
    import sbx

    jax.monitoring.register_event_duration_secs_listener(compiling)
    return sbx.DQN("MlpPolicy", env, seed=seed, **settings)


def train(peer: str, env: str, seed: int, threads: int, steps: int, cap: int, checks: bool) -> dict[str, Any]:
    """Train until the score is reached, for ``steps``, and if that was not enough on to ``cap`` steps."""
    imported = time.perf_counter()
    import torch
    from stable_baselines3.common.callbacks import EventCallback, EveryNTimesteps

    torch.set_num_threads(threads)
    task, compiling = TASKS[env], Compiling()
    model = build(peer, env, seed, task.settings, compiling)
    with Evaluator(EnvConfig(env)) as evaluate:
        watch = Watch(task, seed, evaluate, compiling)

        class Check(EventCallback):  # type: ignore[misc]
            def _on_step(self) -> bool:
                return watch.check(model)

        callback = EveryNTimesteps(task.cadence, Check()) if checks else None
        ready = time.perf_counter()
        compiling.seconds, watch.began = 0.0, ready
        model.learn(steps, callback=callback)
        if checks and not watch.reached and cap > steps:
            model.learn(cap - steps, callback=callback, reset_num_timesteps=False)
        seconds = watch.seconds()
        if checks and not watch.reached:
            watch.check(model)
        fresh = watch.returns(model, episode_seeds("final", seed, EPISODES)) if checks else np.zeros(1)
    return {
        "seconds": watch.checks[-1][1] if watch.reached else seconds,
        "reached": watch.reached,
        "steps": int(model.num_timesteps),
        "return_mean": float(fresh.mean()),
        "best": max((mean for _, _, mean, _ in watch.checks), default=None),
        "checks": watch.checks,
        "setup_seconds": ready - imported,
        "compile_seconds": compiling.seconds,
        "check_seconds": watch.checking,
        "threads": threads,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", choices=("sb3", "sbx"), required=True)
    parser.add_argument("--env", choices=tuple(TASKS), required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="threads and processors it may use")
    parser.add_argument("--steps", type=int, default=None, help="budget in place of the zoo's")
    parser.add_argument("--cap", type=int, default=0, help="when not reached, train on to so many steps")
    parser.add_argument("--no-checks", action="store_true", help="only train, for its speed")
    args = parser.parse_args()
    limit_processors(args.threads)
    steps = args.steps or TASKS[args.env].budget
    print(json.dumps(train(args.peer, args.env, args.seed, args.threads, steps, args.cap, not args.no_checks)))


def limit_processors(count: int) -> None:
    """Let this process use ``count`` processors: JAX and OpenMP size their pools by that."""
    os.environ["OMP_NUM_THREADS"] = str(count)
    if sys.platform == "linux":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-count:])


if __name__ == "__main__":
    main()
