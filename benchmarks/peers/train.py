"""One peer trains once, in a process of its own: ``python -m benchmarks.peers.train --peer sb3 --env CartPole-v1``.

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

from benchmarks.peers import PEERS
from benchmarks.peers.peer import Compiling
from benchmarks.peers.tasks import TASKS, Task
from nimbleq.config import EnvConfig
from nimbleq.rl.training.evaluate import Evaluator, check_return
from nimbleq.seeds import episode_seeds
from nimbleq.types import Array

EPISODES = 100


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


def train(peer: str, env: str, seed: int, threads: int, steps: int, checks: bool) -> dict[str, Any]:
    """Train until the score is reached, for at most ``steps``."""
    imported = time.perf_counter()
    import torch
    from stable_baselines3.common.callbacks import EventCallback, EveryNTimesteps

    torch.set_num_threads(threads)
    task, compiling = TASKS[env], Compiling()
    model = PEERS[peer].model(env, seed, task.settings, compiling)
    with Evaluator(EnvConfig(env)) as evaluate:
        watch = Watch(task, seed, evaluate, compiling)

        class Check(EventCallback):  # type: ignore[misc]
            def _on_step(self) -> bool:
                return watch.check(model)

        callback = EveryNTimesteps(task.cadence, Check()) if checks else None
        ready = time.perf_counter()
        compiling.seconds, watch.began = 0.0, ready
        model.learn(steps, callback=callback)
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
    parser.add_argument("--peer", choices=tuple(PEERS), required=True)
    parser.add_argument("--env", choices=tuple(TASKS), required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="threads and processors it may use")
    parser.add_argument("--steps", type=int, default=None, help="budget in place of the zoo's")
    parser.add_argument("--no-checks", action="store_true", help="only train, for its speed")
    args = parser.parse_args()
    limit_processors(args.threads)
    steps = args.steps or TASKS[args.env].budget
    print(json.dumps(train(args.peer, args.env, args.seed, args.threads, steps, not args.no_checks)))


def limit_processors(count: int) -> None:
    """Let this process use ``count`` processors: JAX and OpenMP size their pools by that."""
    os.environ["OMP_NUM_THREADS"] = str(count)
    if sys.platform == "linux":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-count:])


if __name__ == "__main__":
    main()
