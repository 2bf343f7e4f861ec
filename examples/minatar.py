"""MinAtar: five Atari games on ten by ten cells; a small certified policy of one of them, beside chance.

    pip install 'nimbleq[minatar,train]'
    python examples/minatar.py [run directory [game [steps [episodes]]]]

Games: Asterix, Breakout, Freeway, Seaquest, SpaceInvaders [1903.03176]. It learns by PQN [2407.04811].
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nimbleq import EnvConfig, Runtime
from nimbleq.cli import main as command_line
from nimbleq.rl.envs.find import find_env
from nimbleq.rl.training.evaluate import interval95
from nimbleq.types import Array

GAMES = ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders")
LIMIT = 5_000  # steps of an episode


def words_for(game: str, steps: int) -> list[object]:
    """The training command; step size and exploration fall over so many steps."""
    updates = steps // 64
    return [
        "train", "--env", f"MinAtar/{game}-v1", "--preset", "pqn", "--max-episode-steps", LIMIT, "--steps", steps,
        "--learner.lr-updates", updates, "--explore.updates", updates // 10,
        "--evaluation.every", max(1, updates // 20),
    ]  # fmt: skip


COMPRESS = shlex.split(
    "--keep 0.8 --select-episodes 90 --max-episodes 2000 --no-scratch --distill.rounds 4 --distill.updates 400 "
    "--distill.last-updates 2500 --distill.batch-size 128 --distill.states 8000"
)
"""Every family of students, the smallest that is certified."""


def played(game: str, act: Callable[[Any], int], seeds: Sequence[int]) -> Array:
    """``float64[E]`` returns, in Gymnasium's environment as it is."""
    env = find_env(EnvConfig(f"MinAtar/{game}-v1", max_episode_steps=LIMIT))
    returns = []
    for seed in seeds:
        obs, _ = env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            obs, reward, terminated, truncated, _ = env.step(act(obs))
            total += float(reward)
            over = terminated or truncated
        returns.append(total)
    return np.array(returns)


def nimbleq(*words: object) -> None:
    """One command line. Exit code 1 is an answer (what was asked does not hold); 2 ends the example."""
    if command_line([str(word) for word in words]) == 2:
        sys.exit(2)


def main(out: str = "runs/minatar", game: str = "Breakout", steps: str = "1000000", episodes: str = "100") -> None:
    folder = Path(out)
    nimbleq(*words_for(game, int(steps)), "--out", folder)
    nimbleq("compress", folder, *COMPRESS)
    nimbleq("export", folder, "--to", "c", "--out", folder / "build", "--name", "player")
    nimbleq("verify", folder / "build", "--observations", 2000)
    policy, rng = Runtime(folder / "artefacts" / "small"), np.random.default_rng(0)
    players: dict[str, Callable[[Any], int]] = {
        "small policy": policy.act,
        "chance": lambda obs: int(rng.integers(policy.graph.actions)),
    }
    for name, act in players.items():
        returns = played(game, act, range(int(episodes)))
        low, high = interval95(returns)
        print(f"{game}, {name}: {returns.mean():.1f} ({low:.1f} to {high:.1f})")


if __name__ == "__main__":
    main(*sys.argv[1:])
