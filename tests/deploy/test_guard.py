"""The guard under faults: the emitted C and Python give the same actions, and every fault ends as it should."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from nimbleq.deploy.runtime import Runtime
from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.targets.c.guard import emit_guard
from nimbleq.deploy.targets.c.guard_call import CGuard
from nimbleq.deploy.targets.c.isa import PORTABLE
from nimbleq.deploy.toolchain import compile_library, find_compiler
from nimbleq.errors import ConfigError, FileError
from nimbleq.graph.artefact import save_artefact
from nimbleq.graph.envelope import Witness
from nimbleq.graph.graph import Graph
from nimbleq.graph.guard import VECTORS, Envelope, Guard, misguided
from nimbleq.graph.guard_codec import guard_from_dict, guard_to_dict
from nimbleq.graph.guard_state import GuardedPolicy, GuardState
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.graph.rewrites.mask import with_mask
from nimbleq.types import Array
from tests.deploy.nets import int_mlp, mlp
from tests.rows import rows

COMPILER = find_compiler()
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wundef", "-Wfloat-equal", "-Wshadow", "-Werror")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")
F, A = 4, 3


def swing(seed: int, steps: int = 40) -> Array:
    """``float32[steps, F]`` sensors of a swing: smooth, never the same twice in a row; the last one is a switch."""
    rng = np.random.default_rng(seed)
    time = np.arange(steps)[:, None] * 0.07 + rng.uniform(0, 6, 3)
    sensors = np.sin(time * (1 + 0.2 * np.arange(3))) + 0.01 * rng.normal(size=(steps, 3))
    switch = (np.sin(np.arange(steps) * 0.05 + rng.uniform(0, 6)) > 0)[:, None]
    return np.concatenate([sensors, switch], axis=1).astype(np.float32)


def learnt() -> Envelope:
    witness = Witness(mlp(F, 8, A)).begin(40)
    for episode in range(40):
        for obs in swing(episode):
            witness(obs[None], np.array([episode]))
    return witness.envelope(0.25)


ENVELOPE = learnt()


def network(seed: int = 0) -> Graph:
    return int_mlp(F, 16, A, seed=seed)


def compiled(graph: Graph, guard: Guard, folder: Path) -> CGuard:
    assert COMPILER is not None
    library = folder / f"guard{len(list(folder.iterdir()))}.so"
    isas = (PORTABLE,)
    texts = emit_c(graph, "policy", isas=isas) | emit_guard(graph, "policy", guard, isas=isas)
    compile_library(texts, library, COMPILER, (*WARNINGS, "-O1"))
    return CGuard(library, "policy", graph)


KINDS: dict[str, Guard] = {
    "action": Guard(2, ENVELOPE),
    "hold": Guard(1, ENVELOPE, hold=2, latch=6),
    "backup": Guard(0, ENVELOPE, backup=network(5)),
    "larger": Guard(2, ENVELOPE, larger=mlp(F, 32, A, seed=3), margin=2.5),
    "forbidden": Guard(2, ENVELOPE, forbidden=(0,), backup=network(5), larger=network(7), margin=1.5, hold=1),
    "partners": Guard(1, replace(ENVELOPE, repeats=[4, 0, 3, 0], partner=[1, 2, 1, 3], still=[0.05, 0, 0.1, 0])),
    "no envelope": Guard(1),
}


@dataclass(frozen=True)
class Fault:
    """What happens to the sensors at ``time``, for ``periods``."""

    kind: str
    time: int
    periods: int
    feature: int
    size: float

    def on(self, clean: Array, time: int) -> Array | None:
        """The observation that comes; None: none."""
        if not self.time <= time < self.time + self.periods:
            return clean[time]
        if self.kind in ("late", "missing"):
            return None
        obs = clean[time].copy()
        match self.kind:
            case "nan":
                obs[self.feature] = np.nan if self.size > 0 else np.inf
            case "stuck":
                obs[self.feature] = clean[self.time - 1, self.feature]
            case "spike":  # beyond what the sensor can do in a period
                limit = float(ENVELOPE.rate[self.feature])
                before = clean[self.time - 1, self.feature]
                obs[self.feature] = before + np.sign(self.size) * limit * (self.periods + abs(self.size))
        return obs


def faults(count: int) -> list[Fault]:
    rng = np.random.default_rng(1)
    kinds = ("nan", "stuck", "spike", "late", "missing")
    return [
        Fault(
            kinds[index % len(kinds)], int(rng.integers(1, 28)), int(rng.integers(1, 8)), int(rng.integers(0, 3)),
            float(rng.normal() * 10 ** rng.uniform(-2, 2)),
        )
        for index in range(count)
    ]  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """Every fault on a clean run of its own; the guard's answers in each period, by the reference.

    Attributes:
        clean: ``[N, T, F]`` what the sensors would say.
        came: ``bool[N, T]`` an observation came.
        obs: ``[N, T, F]`` what came.
        faulty: ``bool[N, T]`` the fault was there.
        action, found: ``int[N, T]`` of the reference.
    """

    faults: list[Fault]
    clean: Array
    came: Array
    obs: Array
    faulty: Array
    action: Array
    found: Array
    state: GuardState

    @classmethod
    def run(cls, graph: Graph, guard: Guard, count: int) -> Bench:
        made = faults(count)
        clean = np.stack([swing(1_000 + index) for index in range(count)])
        steps = clean.shape[1]
        given = [[fault.on(clean[index], time) for time in range(steps)] for index, fault in enumerate(made)]
        came = np.array([[obs is not None for obs in row] for row in given])
        obs = np.array([[np.zeros(F, np.float32) if one is None else one for one in row] for row in given])
        times = np.arange(steps)
        faulty = np.array([(fault.time <= times) & (times < fault.time + fault.periods) for fault in made])
        state, rows = GuardState(guard, graph, count), np.arange(count)
        answers = [state.step(rows, obs[:, time], came[:, time]) for time in range(steps)]
        action, found = (np.stack(part, axis=1) for part in zip(*answers, strict=True))
        return cls(made, clean, came, obs, faulty, action, found, state)


@needs_compiler
def test_a_thousand_faults_end_in_the_right_action_or_the_fallback(tmp_path: Path) -> None:
    """Also: C gives the same action and the same verdict as the reference in every period of every fault."""
    graph, guard = network(), KINDS["action"]
    bench, native = Bench.run(graph, guard, 1_200), compiled(graph, guard, tmp_path)
    should = GraphPolicy(graph)(bench.clean.reshape(-1, F)).reshape(bench.action.shape)
    right, fallback = bench.action == should, bench.action == guard.fallback
    wrong = np.argwhere(bench.faulty & ~right & ~fallback)
    assert not len(wrong), [bench.faults[index] for index, _ in wrong[:3]]
    assert (right & bench.faulty).sum() > 300
    assert (fallback & ~right & bench.faulty).sum() > 300
    assert (bench.found[bench.faulty] != 0).mean() > 0.99
    before = np.cumsum(bench.faulty, axis=1) == 0
    assert (bench.found[before] != 0).mean() < 1e-3
    assert right[before & (bench.found == 0)].all()
    assert (bench.found[:, -4:] == 0).any(axis=1).all(), "it does not recover"
    for index in range(len(bench.faults)):
        native.reset()
        for time in range(bench.action.shape[1]):
            answer = native.act(bench.obs[index, time] if bench.came[index, time] else None)
            assert (answer, native.faults) == (bench.action[index, time], bench.found[index, time])
    assert native.counters == bench.state.counters()


@needs_compiler
@pytest.mark.parametrize("own", rows(KINDS, {"action", "backup", "larger"}))
def test_every_kind_of_guard_is_the_same_in_c(own: Guard, tmp_path: Path) -> None:
    """Two masks as well: the policy without one, and with random ones, from which a period may take none."""
    rng = np.random.default_rng(2)
    for masked in (False, True):
        graph, guard = network(), own
        if masked:
            graph, others = with_mask(graph), {"larger": guard.larger, "backup": guard.backup}
            guard = replace(guard, **{name: other and with_mask(other) for name, other in others.items()})
        bench, native = Bench.run(network(), own, 10), compiled(graph, guard, tmp_path)
        state, row = GuardState(guard, graph), np.zeros(1, np.int64)
        for index in range(len(bench.faults)):
            native.reset(), state.reset()
            for time in range(bench.action.shape[1]):
                mask = rng.random(A) < 0.5 if masked and rng.random() < 0.8 else None
                obs, came = bench.obs[index, time], bench.came[index, time]
                assert native.standby() == state.standby(row)[0]
                action, found = state.step(row, obs[None], np.array([came]), None if mask is None else mask[None])
                assert (native.act(obs if came else None, mask), native.faults) == (action[0], found[0])
        assert native.counters == state.counters()
        assert state.counters()["fallback"] > 0
        assert (state.counters()["larger"] > 0) == (guard.larger is not None)


@pytest.mark.parametrize("engine", ["auto", "numpy"])
def test_the_runtime_acts_behind_its_guard(engine: str) -> None:
    graph, guard = network(), KINDS["hold"]
    bench, runtime = Bench.run(graph, guard, 12), Runtime(graph, engine, guard=guard)
    for index in range(len(bench.faults)):
        runtime.reset()
        for time in range(bench.action.shape[1]):
            assert runtime.act(bench.obs[index, time] if bench.came[index, time] else None) == bench.action[index, time]
    assert runtime.status.guard == bench.state.counters()
    other = runtime.stream()
    assert other.act(None) == guard.fallback
    assert other.faults == ("missing",)


def test_rules_one_by_one() -> None:
    envelope = Envelope([-1, -1], [1, 1], [0.5, 0.5], [2, 0])
    state, row, here = GuardState(Guard(1, envelope, latch=3), mlp(2, 4, 2)), np.zeros(1, np.int64), np.ones(1, bool)

    def verdict(*obs: float) -> int:
        return int(state.step(row, np.array([obs], np.float32), here)[1][0])

    assert verdict(0, 0) == 0
    assert verdict(0.4, 0.1) == 0
    assert verdict(1.1, 0.1) == 0b01100, "range and rate"
    assert verdict(1, 0.1) == 0, "two periods have gone since the last good one: 0.6 is no more than twice 0.5"
    assert verdict(1, 0.1) == 0, "the same once"
    assert verdict(1, 0.1) == 0b10000, "twice"
    assert verdict(np.nan, 0) == 0b00010
    assert verdict(np.inf, 0) == 0b00010
    assert verdict(1, 0) & 0b1000000, "three faulty periods in a row: latched"
    state.reset()
    assert verdict(-1, -1) == 0
    assert state.counters()["fallback"] == 5


def test_an_entry_is_stuck_while_its_partner_moves() -> None:
    envelope = Envelope([-9, -9], [9, 9], [9, 9], [0, 0], [1, 1], [0.5, 0])
    state, row, here = GuardState(Guard(1, envelope), mlp(2, 4, 2)), np.zeros(1, np.int64), np.ones(1, bool)
    walk = [(0, 0), (0, 0.5), (0, 1.125), (0.25, 3), (0.25, 3), (0.25, 2)]
    found = [int(state.step(row, np.array([obs], np.float32), here)[1][0]) for obs in walk]
    assert found == [0, 0, 0b10000, 0, 0, 0b10000]


def test_partners_are_stored_and_older_envelopes_as_before(tmp_path: Path) -> None:
    graph, obs = network(), swing(0)
    for kind, version in (("action", 3), ("partners", 4)):
        made = save_artefact(tmp_path / kind, graph, obs, {}, guard=KINDS[kind])
        model = json.loads((tmp_path / kind / "model.json").read_text())
        assert model["format"] == version
        assert ("partner" in model["guard"]["envelope"]) == (version == 4)
        assert made.guard is not None
        for name in VECTORS:
            assert np.array_equal(getattr(made.guard.envelope, name), getattr(KINDS[kind].envelope, name))
    half = guard_to_dict(KINDS["partners"])
    del half["envelope"]["still"]
    with pytest.raises(FileError, match="still"):
        guard_from_dict(half, {})


def test_partners_are_learnt() -> None:
    """Place and speed change in each period until they rest; a switch changes now and then."""
    speed = np.append((1, 0.75, 0.5, 0.25, 0.0625), np.zeros(40))
    flown = np.stack([np.cumsum(speed), speed, np.arange(45) % 6 < 3], axis=1).astype(np.float32)
    witness = Witness(mlp(3, 4, 2)).begin(1)
    for obs in flown:
        witness(obs[None], np.zeros(1, np.int64))
    envelope = witness.envelope(0.0)
    assert envelope.repeats.tolist() == [0, 0, 3]
    assert envelope.partner.tolist() == [1, 0, 2]
    assert envelope.still.tolist() == [0.0625, 0, 0]
    state, row, here = GuardState(Guard(1, envelope), mlp(3, 4, 2)), np.zeros(1, np.int64), np.ones(1, bool)
    for obs, want in ((flown[0], 0), (flown[1], 0), ((flown[1][0], flown[2][1], 1), 0b10000)):
        assert state.step(row, np.array([obs], np.float32), here)[1][0] == want


def test_what_does_not_fit_is_refused() -> None:
    graph = mlp(F, 8, A)
    assert "0..2" in misguided(Guard(3), graph)
    assert "forbids" in misguided(Guard(1, forbidden=(1,)), graph)
    assert "2 entries" in misguided(Guard(0, Envelope([0, 0], [1, 1], [1, 1], [0, 0])), graph)
    assert "larger" in misguided(Guard(0, larger=mlp(F, 8, 2), margin=1.0), graph)
    with pytest.raises(ConfigError, match="margin"):
        Guard(0, larger=graph)
    with pytest.raises(ConfigError, match="finite"):
        Envelope([0], [np.inf], [1], [0])
    with pytest.raises(ConfigError, match=r"partners in 0\.\.0"):
        Envelope([0], [1], [1], [0], [1], [0])
    with pytest.raises(ConfigError, match="of its own"):
        Runtime(graph, fallback_action=0, guard=Guard(0))


def test_a_guard_is_inert_where_it_sees_nothing_wrong() -> None:
    graph, episodes = mlp(F, 8, A), np.arange(3)
    playing, alone = GuardedPolicy(graph, Guard(0, ENVELOPE)).begin(3), GraphPolicy(graph)
    for obs in np.stack([swing(index) for index in range(3)], axis=1):
        np.testing.assert_array_equal(playing(obs, episodes), alone(obs))
    assert playing.state.counters()["fallback"] == 0
