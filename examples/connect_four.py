"""Connect Four on OpenSpiel: a Q-network that plays in microseconds, and the same network inside a tree search.

    pip install 'nimbleq[games]'
    python examples/connect_four.py [run directory [recorded positions [steps [pairs of games]]]]

As in AlphaGo [10.1038/nature16961], the network starts from recorded games, here of OpenSpiel's own tree search (MCTS
with random playouts) against itself; then it learns by deep Q-learning against its earlier self. It is made small,
certified and exported, and plays OpenSpiel's search: alone, and as the evaluator of OpenSpiel's own MCTS. Run it from
the folder above ``examples``; training alone is ``nimbleq train --env examples.connect_four:ConnectFour``.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import pyspiel
import torch
from gymnasium import spaces
from open_spiel.python.algorithms import mcts

from nimbleq import EnvConfig, Runtime, save_artefact
from nimbleq.cli import main as command_line
from nimbleq.config import NetworkConfig, TorsoName
from nimbleq.graph.rewrites.mask import with_mask
from nimbleq.rl.envs.engines import spec_of
from nimbleq.rl.nets.graph import network_graph
from nimbleq.rl.nets.network import initial_network
from nimbleq.rl.training.evaluate import interval95
from nimbleq.types import Array

GAME = pyspiel.load_game("connect_four")
ROWS, COLUMNS = 6, 7
UCT_C = 2.0  # of OpenSpiel's example
PRIOR_C = 1.5  # weight of the network's prior in the search
TEMPERATURE = 0.2  # of that prior, in values
SLIP = 0.1  # share of random moves of an opponent from the pool
RECORDED_SIMULATIONS, PART = 500, 2_000  # simulations a recorded move; positions in a file of them
NETWORK = NetworkConfig(torso=TorsoName("board"), torso_width=2, hidden=(128,), layer_norm=False)
ENV = "examples.connect_four:ConnectFour"
TRAIN = shlex.split(
    f"train --env {ENV} --network.torso board --network.torso-width 2 --network.hidden 128 --network.no-layer-norm "
    "--network.no-dueling --learner.gamma 1.0 --learner.loss mse --learner.target polyak --learner.tau 0.01 "
    "--learner.batch-size 128 --learner.lr 1e-4 --learner.lr-end 1e-6 --learner.lr-updates 4000 --transfer finetune "
    "--learner.reward-scale 1.0 --replay.n-step 3 --explore.start 0.1 --explore.end 0.02 --explore.updates 2000 "
    "--envs 16 --updates-per-step 2 --learn-start 1000 --evaluation.network average --evaluation.every 500 "
    "--evaluation.episodes 100"
)
"""Without discount a value is the result to be expected, between −1 and 1, which is what a search asks for. It goes on
from the layers of its start: a fresh network that is taught to act like it knows less of what positions are worth."""

Player = Callable[[Any], int]
"""A state of OpenSpiel → a column."""


def observed(state: Any, player: int) -> Array:
    """``bool[3, 8, 9]``: own pieces, the other's, and the board; a frame of one cell goes around each."""
    planes = np.array(state.observation_tensor(0), bool).reshape(3, ROWS, COLUMNS)
    obs = np.zeros((3, ROWS + 2, COLUMNS + 2), bool)
    obs[0, 1:-1, 1:-1], obs[1, 1:-1, 1:-1], obs[2, 1:-1, 1:-1] = planes[player], planes[1 - player], True
    return obs


class ConnectFour(gymnasium.Env[Any, Any]):
    """The game against an opponent. A draw decides who begins, after some random moves.

    Args:
        opponent: ``random``; ``mcts:N``, OpenSpiel's search with N simulations a move; or ``pool:FOLDER``, one of the
            artefacts in that folder for each episode.
        opening: at most so many random moves.
    """

    action_space = spaces.Discrete(COLUMNS)
    observation_space = spaces.Box(0, 1, (3, ROWS + 2, COLUMNS + 2), np.bool_)

    def __init__(self, opponent: str = "random", opening: int = 6) -> None:
        self.opponent, self.opening = opponent, opening

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.other = opponent_named(self.opponent, self.np_random)
        self._begin()
        while self.state.is_terminal():  # the other's first move won
            self._begin()
        return self._observed()

    def _begin(self) -> None:
        self.state = opened(int(self.np_random.integers(self.opening + 1)), self.np_random)
        self.seat = int(self.np_random.integers(2))
        self._let_other_move()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.state.apply_action_with_legality_check(int(action))
        self._let_other_move()
        obs, info = self._observed()
        over = self.state.is_terminal()
        return obs, self.state.player_return(self.seat) if over else 0.0, over, False, info

    def _let_other_move(self) -> None:
        if not self.state.is_terminal() and self.state.current_player() != self.seat:
            self.state.apply_action(self.other(self.state))

    def _observed(self) -> tuple[Any, dict[str, Any]]:
        return observed(self.state, self.seat), {"legal_actions": self.state.legal_actions()}


def opened(moves: int, rng: np.random.Generator) -> Any:
    """The game after so many random moves; within six nobody can have won."""
    state = GAME.new_initial_state()
    for _ in range(moves):
        state.apply_action(int(rng.choice(state.legal_actions())))
    return state


def opponent_named(name: str, rng: np.random.Generator) -> Player:
    """See `ConnectFour`; what it draws, it draws from ``rng``."""
    kind, _, word = name.partition(":")
    if kind == "random":
        return lambda state: int(rng.choice(state.legal_actions()))
    if kind == "mcts":
        return searching(int(word), int(rng.integers(2**31))).step
    if kind != "pool":
        raise ValueError(f"an opponent is random, mcts:N or pool:FOLDER, not {name!r}")
    pool = sorted(path.parent for path in Path(word).glob("*/model.json"))
    if not pool:
        raise ValueError(f"there is no artefact in {word}")
    best = alone(opened_policy(pool[rng.integers(len(pool))]))
    return lambda state: int(rng.choice(state.legal_actions())) if rng.random() < SLIP else best(state)


@cache
def opened_policy(artefact: Path) -> Runtime:
    """Compiled once in a process."""
    return Runtime(artefact)


def alone(policy: Runtime) -> Player:
    """The network's own choice: one decision of microseconds."""

    def play(state: Any) -> int:
        return int(policy.act(observed(state, state.current_player()), state.legal_actions()))

    return play


def searching(simulations: int, seed: int) -> Any:
    """OpenSpiel's MCTS in C++ with random playouts; proven results are backed up."""
    playouts = pyspiel.RandomRolloutEvaluator(1, seed)
    return pyspiel.MCTSBot(GAME, playouts, UCT_C, simulations, 500, True, seed, False)


def searching_in_python(simulations: int, seed: int) -> Any:
    """The same in Python."""
    rng = np.random.RandomState(seed)
    return mcts.MCTSBot(GAME, UCT_C, simulations, mcts.RandomRolloutEvaluator(1, rng), random_state=rng)


class NetworkEvaluator(mcts.Evaluator):
    """Values and priors of positions from a Q-network, in place of random playouts."""

    def __init__(self, policy: Runtime) -> None:
        self.policy = policy
        self._known: dict[tuple[int, ...], Array] = {}

    def _values(self, state: Any) -> Array:
        """``float64[L]`` of the legal moves; a search asks for the value of a position first, for its prior later."""
        key = tuple(state.history())
        if key not in self._known:
            if len(self._known) > 100_000:
                self._known.clear()
            q = self.policy.q_values(observed(state, state.current_player()))
            self._known[key] = q[state.legal_actions()].astype(np.float64)
        return self._known[key]

    def _prior(self, state: Any) -> Array:
        """``softmax(Q/τ)`` of the legal moves."""
        q = self._values(state)
        share = np.exp((q - q.max()) / TEMPERATURE)
        return np.asarray(share / share.sum())

    def evaluate(self, state: Any) -> Array:
        """Expected results of both players, the mover playing by the prior: the best of noisy values is too high."""
        mean = float(np.clip(self._prior(state) @ self._values(state), -1, 1))
        return np.array([mean, -mean] if state.current_player() == 0 else [-mean, mean])

    def prior(self, state: Any) -> list[tuple[int, float]]:
        """Of the legal moves."""
        return list(zip(state.legal_actions(), self._prior(state).tolist(), strict=True))


def guided(policy: Runtime, simulations: int, seed: int) -> Any:
    """OpenSpiel's MCTS in Python with the network as its evaluator."""
    rng = np.random.RandomState(seed)
    prior = mcts.SearchNode.puct_value
    return mcts.MCTSBot(GAME, PRIOR_C, simulations, NetworkEvaluator(policy), True, rng, prior)


class Games(NamedTuple):
    """Positions of recorded games: ``obs bool[N, 3, 8, 9]``, what the search found each move to be worth
    (``value float32[N, 7]``) and how sure it was (``weight float32[N, 7]``, 0 for moves that are not legal)."""

    obs: Array
    value: Array
    weight: Array


def recorded(folder: Path, positions: int, simulations: int = RECORDED_SIMULATIONS) -> Games:
    """Games of the search against itself; every file of ``folder`` is made once."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for number in range(-(-positions // PART)):
        path = folder / f"{simulations}-{number:03d}.npz"
        if not path.exists():
            made = record(min(PART, positions), simulations, number)
            np.savez_compressed(folder / "new.npz", **made._asdict())
            (folder / "new.npz").rename(path)
        parts.append(Games(**np.load(path)))
    return Games(*(np.concatenate(arrays)[:positions] for arrays in zip(*parts, strict=True)))


def record(positions: int, simulations: int, seed: int) -> Games:
    """So many positions. A quarter of the moves is random, so that games differ and mistakes are answered."""
    rng = np.random.default_rng(seed)
    obs, value, weight = np.zeros((positions, 3, 8, 9), bool), *np.zeros((2, positions, COLUMNS), np.float32)
    bot, state = searching(simulations, seed), GAME.new_initial_state()
    for row in range(positions):
        if state.is_terminal():
            state = GAME.new_initial_state()
        mover = state.current_player()
        obs[row] = observed(state, mover)
        root = bot.mcts_search(state)
        for child in root.children:
            proven = len(child.outcome) > 0
            count = max(child.explore_count, 1)
            value[row, child.action] = child.outcome[mover] if proven else child.total_reward / count
            weight[row, child.action] = 1.0 if proven else count / (count + 20)
        move = root.best_child().action
        state.apply_action(int(rng.choice(state.legal_actions())) if rng.random() < 0.25 else move)
    return Games(obs, value, weight)


def learn_from(games: Games, artefact: Path, epochs: int = 50, seed: int = 0) -> None:
    """Fits a network to what the search found, boards as they are and mirrored, and saves it."""
    spec = spec_of(EnvConfig(ENV))
    network, rng = initial_network(spec, NETWORK, seed), np.random.default_rng(seed)
    updates = epochs * len(games.obs) // 256
    adam = torch.optim.Adam(network.parameters(), 1e-3)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, updates)
    for _ in range(updates):
        rows = rng.integers(len(games.obs), size=256)
        obs, value, weight = (array[rows] for array in games)
        if rng.random() < 0.5:
            obs, value, weight = obs[..., ::-1].copy(), value[:, ::-1].copy(), weight[:, ::-1].copy()
        q = network(torch.from_numpy(obs * np.uint8(255)))
        error = torch.from_numpy(weight) * (q - torch.from_numpy(value)) ** 2
        adam.zero_grad()
        (error.sum() / float(weight.sum())).backward()
        adam.step()
        falling.step()
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    graph = with_mask(network_graph(spec, NETWORK, weights))
    save_artefact(
        artefact, graph, games.obs[:256] * np.uint8(255), {"recorded": len(games.obs)}, interface=spec.interface
    )


class Duel(NamedTuple):
    """Results of pairs of games: ``score float64[P]`` of the first player, between 0 and 1, and milliseconds of
    processor time a move of both players."""

    score: Array
    ms: tuple[float, float]

    def __str__(self) -> str:
        low, high = interval95(self.score)
        return f"{self.score.mean():.1%} ({low:.1%} to {high:.1%}), {self.ms[0]:.3f} ms a move against {self.ms[1]:.3f}"


def duel(first: Player, second: Player, seeds: Sequence[int]) -> Duel:
    """Two games from each opening, of four random moves, seats swapped."""
    score, spent, moves = [], [0.0, 0.0], [1, 1]
    for seed in seeds:
        won = 0.0
        for seat in (0, 1):
            state = opened(4, np.random.default_rng(seed))
            while not state.is_terminal():
                which = int(state.current_player() != seat)
                began = time.process_time()
                move = (first, second)[which](state)
                spent[which] += time.process_time() - began
                moves[which] += 1
                state.apply_action_with_legality_check(move)
            won += (1 + state.player_return(seat)) / 2
        score.append(won / 2)
    return Duel(np.array(score), (1e3 * spent[0] / moves[0], 1e3 * spent[1] / moves[1]))


def nimbleq(*words: object) -> None:
    """One command line. Exit code 1 is an answer (what was asked does not hold); 2 ends the example."""
    if command_line([str(word) for word in words]) == 2:
        sys.exit(2)


def main(out: str = "runs/connect-four", positions: str = "48000", steps: str = "30000", pairs: str = "25") -> None:
    folder = Path(out)
    start = folder.with_name(f"{folder.name}-pool") / "recorded"
    learn_from(recorded(start.parent / "games", int(positions)), start)
    pool = f"opponent=pool:{start.parent}"
    nimbleq(*TRAIN, "--env-kwargs", pool, "--steps", steps, "--from", start, "--out", folder)
    brief = ("--select-episodes", 200, "--max-episodes", 1000, "--no-scratch", "--workers", 1)
    nimbleq("compress", folder, "--keep", 0.8, "--passes", "fold", "int8", *brief)
    nimbleq("export", folder, "--to", "c", "--out", folder / "build", "--name", "connect_four")
    nimbleq("verify", folder / "build", "--observations", 2000)
    policy, seeds = Runtime(folder / "artefacts" / "small"), range(int(pairs))
    print(f"network alone, against 100 simulations: {duel(alone(policy), searching(100, 1).step, seeds)}")
    print(
        f"network in a search of 100, against 400: {duel(guided(policy, 100, 1).step, searching(400, 2).step, seeds)}"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
