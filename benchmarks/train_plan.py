"""What `benchmarks.train` measures, as cells. Peers and nimbleq take turns, seed by seed, each first in its turn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cleanrl_recipe import ours
from benchmarks.train_cells import OUT, Cell
from benchmarks.train_peers import TASKS

PARTS = ("cartpole", "lunarlander", "balance", "recipe", "pieces", "breakout")
ENVS = {"cartpole": "CartPole-v1", "lunarlander": "LunarLander-v3"}
PEERS = ("sb3", "sbx")
PIECES: dict[str, tuple[str, ...]] = {  # scripts, with what makes them short
    "td_step": ("--pairs", "1", "--seconds", "0.05"),
    "per": ("--pairs", "1", "--calls", "20"),
    "replay_memory": ("--transitions", "20000"),
}
THREADS = (1, 2)
BREAKOUT_SEEDS = 3

_EXPECTED = {  # seconds of a process on two quiet cores
    ("cartpole", "sb3"): 70, ("cartpole", "sbx"): 40, ("cartpole", "nimbleq"): 6,
    ("lunarlander", "sb3"): 260, ("lunarlander", "sbx"): 130, ("lunarlander", "nimbleq"): 30,
    ("lunarlander", "envpool"): 20,
    ("balance", "nimbleq"): 12, ("recipe", "cleanrl"): 95, ("recipe", "nimbleq"): 25,
    ("pieces", "td_step"): 60, ("pieces", "per"): 25, ("pieces", "replay_memory"): 240,
    ("breakout", "nimbleq"): 200,
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """How much of it.

    Attributes:
        seeds: runs of each trainer; `BREAKOUT_SEEDS` at most for the curve.
        recipe_steps, breakout_steps: lengths of those runs.
        cap: steps that a peer may train on to when the zoo's budget was not enough (0: none).
        quick: everything too short to mean anything, to see that it works.
    """

    seeds: int
    recipe_steps: int
    breakout_steps: int
    cap: int
    quick: bool

    def speed_cells(self) -> list[Cell]:
        """Each peer for a moment with one thread and with two: the faster is how it runs in `cells`."""
        found = []
        for part in PARTS:
            for threads in THREADS:
                if part in ENVS:
                    steps = 1_500 if self.quick else 6_000
                    for peer in PEERS:
                        words = (*_peer(peer, ENVS[part]), "--steps", str(steps), "--no-checks")
                        found.append(Cell(part, f"speed-{peer}", threads, (*words, "--threads", str(threads)), 15))
                if part == "recipe":
                    words = ("-m", "benchmarks.cleanrl_recipe", "--steps", "11000" if self.quick else "30000")
                    found.append(Cell(part, "speed-cleanrl", threads, (*words, "--threads", str(threads)), 12))
        return found

    def cells(self, results: dict[str, dict[str, Any]], pieces: Path) -> list[Cell]:
        """All other cells, given the results of `speed_cells`; ``pieces`` is where their scripts write."""
        found: list[Cell] = []
        for part in PARTS:
            if part in ENVS:
                found += self._score(part, results)
            elif part == "balance":
                found += self._balance()
            elif part == "recipe":
                found += self._recipe(results)
            elif part == "pieces":
                found += self._pieces(pieces)
            else:
                found += self._breakout()
        return found

    def _score(self, part: str, results: dict[str, dict[str, Any]]) -> list[Cell]:
        env = ENVS[part]
        steps = ["--steps", "3000"] if self.quick else ["--cap", str(self.cap)] if self.cap else []
        limit = ["--steps", "20000"] if self.quick else []
        found = []
        for seed in range(self.seeds):
            turn = []
            for peer in PEERS:
                threads = faster(results, part, peer)
                turn.append((peer, (*_peer(peer, env), "--seed", str(seed), "--threads", str(threads), *steps)))
            turn.append(("nimbleq", _train("--env", env, "--seed", str(seed), *limit)))
            if part == "lunarlander":
                words = ("--env", env, "--seed", str(seed), "--env-engine", "envpool", *limit)
                turn.append(("envpool", _train(*words)))
            found += [_cell(part, *turn[(seed + i) % len(turn)], seed) for i in range(len(turn))]
        return found

    def _balance(self) -> list[Cell]:
        words = ("--env", "CartPole-v1", "--max-episode-steps", "10000", "--evaluation.final-episodes", "20")
        return [_cell("balance", "nimbleq", _train(*words, "--seed", str(seed)), seed) for seed in range(self.seeds)]

    def _recipe(self, results: dict[str, dict[str, Any]]) -> list[Cell]:
        steps, threads = self.recipe_steps, faster(results, "recipe", "cleanrl")
        peer = ("-m", "benchmarks.cleanrl_recipe", "--steps", str(steps), "--threads", str(threads))
        found = []
        for seed in range(self.seeds):
            turn = [
                ("cleanrl", (*peer, "--seed", str(seed))),
                ("nimbleq", _train(*ours(steps), "--seed", str(seed))),
            ]
            found += [_cell("recipe", *turn[(seed + i) % 2], seed) for i in range(2)]
        return found

    def _pieces(self, folder: Path) -> list[Cell]:
        return [
            _cell("pieces", name, (f"benchmarks/{name}.py", "--out", str(folder), *(words if self.quick else ())), 0)
            for name, words in PIECES.items()
        ]

    def _breakout(self) -> list[Cell]:
        words = ("--env", "MinAtar/Breakout-v1", "--preset", "pqn", "--steps", str(self.breakout_steps))
        checks = ("--evaluation.every", "100" if self.quick else "500")
        seeds = range(min(self.seeds, BREAKOUT_SEEDS))
        return [_cell("breakout", "nimbleq", _train(*words, *checks, "--seed", str(seed)), seed) for seed in seeds]


def faster(results: dict[str, dict[str, Any]], part: str, peer: str) -> int:
    """Two threads where they save ``peer`` a tenth of the time or more, else one (also where nothing was measured)."""
    one, two = (results.get(f"{part}-speed-{peer}-{n}", {}).get("seconds", float("inf")) for n in THREADS)
    return 2 if two < 0.9 * one else 1


def score_of(part: str) -> float:
    """The mean return that counts as solved."""
    return TASKS[ENVS[part]].score


def _peer(peer: str, env: str) -> tuple[str, ...]:
    return ("-m", "benchmarks.train_peers", "--peer", peer, "--env", env)


def _train(*words: str) -> tuple[str, ...]:
    return ("-m", "nimbleq", "train", *words, "--out", OUT, "--json")


def _cell(part: str, name: str, words: tuple[str, ...], seed: int) -> Cell:
    return Cell(part, name, seed, words, _EXPECTED[part, name])
