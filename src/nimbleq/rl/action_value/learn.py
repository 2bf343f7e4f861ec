"""Deep Monte-Carlo [2106.06135]: play, see who wins, fit Q(s, a) to that. No bootstrapping, no target network."""

from __future__ import annotations

import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from nimbleq.config import NetworkConfig
from nimbleq.errors import ConfigError
from nimbleq.graph.graph import Graph
from nimbleq.rl.action_value.game import Deal, Seat, Table
from nimbleq.rl.action_value.memory import Memory
from nimbleq.rl.nets.graph import network_graph
from nimbleq.rl.nets.network import QNetwork, initial_network
from nimbleq.rl.spec import EnvSpec
from nimbleq.rl.training.checkpoint import has_checkpoint, load_checkpoint, save_checkpoint
from nimbleq.stopping import deferred
from nimbleq.types import Array, ObsSpec, Tick, no_tick


@dataclass(frozen=True)
class MonteCarloConfig:
    """Settings of deep Monte-Carlo.

    Attributes:
        features: ``F`` of a row.
        hidden: widths of the network's layers.
        tables: games played side by side.
        capacity: rows kept.
        batch_size: rows of an update.
        passes: times that a row is learnt from, on average. All rows of a game share one result, so a network that
            sees them often knows the games by heart and values no other.
        lr: step size of Adam.
        average_updates: updates over which the weights are averaged; the average plays and is what is saved.
        epsilon: share of random actions of the learner.
        seed: of the weights, the batches and the exploration.
        save_seconds: processor time between checkpoints.
    """

    features: int
    hidden: tuple[int, ...] = (256, 256)
    tables: int = 32
    capacity: int = 300_000
    batch_size: int = 512
    passes: float = 2.0
    lr: float = 1e-3
    average_updates: int = 300
    epsilon: float = 0.02
    seed: int = 0
    save_seconds: float = 60.0

    @property
    def spec(self) -> EnvSpec:
        """A row in, one value out."""
        return EnvSpec(ObsSpec((self.features,)), 1)

    @property
    def network(self) -> NetworkConfig:
        """The network."""
        return NetworkConfig(hidden=self.hidden, normalize_obs=False, layer_norm=False)


@dataclass
class State:
    """All that learning goes on from.

    Attributes:
        network: its output is the log-odds of winning.
        average: the same with the average of its weights.
        games: finished so far; also the number of the next one.
        seconds: of processor time so far.
        owed: updates that are due.
    """

    config: MonteCarloConfig
    network: QNetwork
    average: QNetwork
    adam: torch.optim.Adam
    memory: Memory
    games: int = 0
    seconds: float = 0.0
    owed: float = 0.0

    def graph(self) -> Graph:
        """The averaged network as a graph with one action."""
        weights = {name: value.numpy() for name, value in self.average.state_dict().items()}
        return network_graph(self.config.spec, self.config.network, weights)


@dataclass
class Playing:
    """A table, who sits there, and what was done that is learnt from."""

    table: Table
    seats: Sequence[Seat]
    rows: list[Array] = field(default_factory=list)
    by: list[int] = field(default_factory=list)

    def play(self, rows: Array, action: int) -> None:
        """The seat to move takes ``rows[action]``."""
        seat = self.table.seat
        assert seat is not None
        if self.seats[seat].recorded:
            self.rows.append(rows[action])
            self.by.append(seat)
        self.table.play(action)

    def let_others_move(self) -> None:
        """Until the learner is to move, or the game is over."""
        while (seat := self.table.seat) is not None and (choose := self.seats[seat].choose) is not None:
            self.play(self.table.rows() if self.seats[seat].recorded else np.zeros(0), choose(self.table))


def learn(
    config: MonteCarloConfig, deal: Deal, folder: Path, seconds: float, games: int = 10**9, tick: Tick = no_tick
) -> State:
    """Learn until ``seconds`` of processor time or ``games`` are used up, those before a stop included.

    What is in ``folder`` goes on; games that were under way when it was saved are dealt anew. On Ctrl-C or SIGTERM it
    finishes the move, saves and raises `KeyboardInterrupt`.

    Raises:
        FileError: the checkpoint is damaged or cannot be written.
    """
    state = load(config, folder) if has_checkpoint(folder) else new(config)
    rng = np.random.default_rng([config.seed, state.games])
    began, before, saved = time.process_time(), state.seconds, state.seconds
    dealt, tables = state.games, list[Playing]()
    with deferred() as interrupted:
        while state.seconds < seconds and state.games < games and not interrupted():
            while len(tables) < config.tables:
                tables.append(Playing(*deal(dealt)))
                dealt += 1
            for playing in tables:
                playing.let_others_move()
            for playing in [one for one in tables if one.table.seat is None]:
                tables.remove(playing)
                count(state, playing, rng)
                tick(state.seconds, seconds, f"{state.games:,} games")
            move(state, tables, rng)
            state.seconds = before + time.process_time() - began
            if state.seconds - saved > config.save_seconds:
                save(state, folder)
                saved = state.seconds
        save(state, folder)
        if interrupted():
            raise KeyboardInterrupt
    return state


def move(state: State, tables: Sequence[Playing], rng: np.random.Generator) -> None:
    """One action of the learner at each table."""
    if not tables:
        return
    offered = [one.table.rows() for one in tables]
    with torch.no_grad():
        values = state.average(torch.from_numpy(np.concatenate(offered).astype(np.float32)))[:, 0].numpy()
    ends = np.cumsum([len(rows) for rows in offered])[:-1]
    for playing, rows, value in zip(tables, offered, np.split(values, ends), strict=True):
        explores = rng.random() < state.config.epsilon
        playing.play(rows, int(rng.integers(len(rows)) if explores else value.argmax()))


def count(state: State, playing: Playing, rng: np.random.Generator) -> None:
    """A game is over: keep what was done, and learn."""
    results = np.asarray(playing.table.results(), np.float32)
    if playing.rows:
        state.memory.add(np.stack(playing.rows), results[playing.by])
    state.games += 1
    state.owed += state.config.passes * len(playing.rows) / state.config.batch_size
    while state.owed >= 1 and len(state.memory) >= state.config.batch_size:
        update(state, *state.memory.sample(rng, state.config.batch_size))
        state.owed -= 1


def update(state: State, rows: Array, results: Array) -> None:
    """One step of Adam on the cross-entropy of ``rows: float32[B, F]`` and ``results: float32[B]``."""
    loss = binary_cross_entropy_with_logits(state.network(torch.from_numpy(rows))[:, 0], torch.from_numpy(results))
    state.adam.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    state.adam.step()
    with torch.no_grad():
        for mean, value in zip(state.average.parameters(), state.network.parameters(), strict=True):
            mean.lerp_(value, 1 / state.config.average_updates)


def new(config: MonteCarloConfig) -> State:
    """Before the first game."""
    network = initial_network(config.spec, config.network, config.seed)
    adam = torch.optim.Adam(network.parameters(), config.lr)
    return State(config, network, deepcopy(network), adam, Memory(config.capacity, config.features))


def save(state: State, folder: Path) -> None:
    """Replace the checkpoint in ``folder``."""
    arrays = {f"network.{name}": value.numpy() for name, value in state.network.state_dict().items()}
    arrays |= {f"average.{name}": value.numpy() for name, value in state.average.state_dict().items()}
    arrays |= {f"memory.{name}": value for name, value in state.memory.arrays().items()}
    for at, moments in state.adam.state_dict()["state"].items():
        arrays |= {f"adam.{at}.{name}": value.numpy() for name, value in moments.items()}
    shape = [state.config.features, *state.config.hidden]
    values = {"games": state.games, "seconds": state.seconds, "owed": state.owed, "network": shape}
    save_checkpoint(folder, arrays, values)


def load(config: MonteCarloConfig, folder: Path) -> State:
    """The way back from `save`.

    Raises:
        FileError: it is damaged.
        ConfigError: it is of a network of another shape, or of a version that did not average weights.
    """
    arrays, values = load_checkpoint(folder)
    asked = [config.features, *config.hidden]
    if values["network"] != asked:
        raise ConfigError(
            f"{folder} holds a network of the widths {values['network']}, not {asked}: use another folder"
        )
    if "owed" not in values:
        raise ConfigError(f"{folder} was saved before weights were averaged: use another folder")
    state = new(config)
    state.network.load_state_dict(_part(arrays, "network."))
    state.average.load_state_dict(_part(arrays, "average."))
    state.memory.load_arrays({name.removeprefix("memory."): a for name, a in arrays.items() if name[:7] == "memory."})
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in _part(arrays, "adam.").items():
        at, _, which = name.partition(".")
        moments.setdefault(int(at), {})[which] = value
    state.adam.load_state_dict({"state": moments, "param_groups": state.adam.state_dict()["param_groups"]})
    state.games, state.seconds, state.owed = int(values["games"]), float(values["seconds"]), float(values["owed"])
    return state


def _part(arrays: dict[str, Array], start: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(start): torch.tensor(a) for name, a in arrays.items() if name.startswith(start)}
