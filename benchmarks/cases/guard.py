"""The guard under faults, what the larger network costs and brings (Simplex), and how the field monitor errs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import Case, Cell, CellError, Context
from benchmarks.faults import FAULTS, LONGEST, SEEN, Bench, in_python, over_http
from benchmarks.process import nimbleq
from benchmarks.record import ROOT, Record
from benchmarks.server import free_port, server
from benchmarks.statistics import Share
from benchmarks.tables import header, owed
from nimbleq.compress.certify.monitor import Monitor, Promise
from nimbleq.compress.quantize.post_training import quantize
from nimbleq.compress.states import action_gap, actions, q_values, visit
from nimbleq.config import EnvConfig
from nimbleq.deploy.footprint import footprint
from nimbleq.deploy.runtime import Runtime
from nimbleq.deploy.target import Source
from nimbleq.deploy.targets import TARGETS
from nimbleq.errors import NimbleqError
from nimbleq.graph.artefact import load_artefact, save_artefact
from nimbleq.graph.cost import cost
from nimbleq.graph.envelope import Witness
from nimbleq.graph.graph import Graph
from nimbleq.graph.guard import Guard
from nimbleq.graph.guard_state import GuardedEpisodes, GuardState
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.graph.rewrite import fold, for_deployment
from nimbleq.rl.training.evaluate import Evaluator
from nimbleq.seeds import episode_seeds
from nimbleq.types import Array

ENV = EnvConfig("LunarLander-v3")
RUN: Path = ROOT / "runs" / "bench-guard"
FAULT, BENCH, BOARD, SIMPLEX, WATCH = "fault: ", "bench: ", "board: ", "larger network: ", "monitor: "
SHARES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
STUDENT = (
    "--recipe", "distill", "--hidden", "4", "--keep", "0.5", "--select-episodes", "100", "--max-episodes", "400",
    "--no-scratch", "--workers", "1",
)  # fmt: skip
"""A small policy that is worse than its teacher, so that asking it brings something."""
FALLBACK = 0  # all engines off
TRIALS, FEW = 1_200, 160
"""Faults of the test bench; of emulators that take long."""
SENSORS = 6
"""Numbers of the observation that fail: not the two contact switches."""


def teacher(context: Context) -> Graph:
    """Trained once, and kept."""
    path = RUN.with_name("bench-guard-quick") if context.quick else RUN
    if not path.exists():
        words = ("--steps", "2000") if context.quick else ()
        nimbleq("train", "--env", ENV.id, "--seed", "0", "--out", str(path), *words)
    return fold(for_deployment(load_artefact(path / "artefacts" / "teacher").graph))


def student(context: Context) -> Graph:
    """Made once, and kept."""
    path = RUN.with_name("bench-guard-quick") if context.quick else RUN
    made = path / "artefacts" / "simplex"
    if not made.exists():
        nimbleq("compress", str(path), *STUDENT, "--name", made.name, accepted=(0, 1))
    return for_deployment(load_artefact(made).graph)


def seeds(context: Context, start: int, count: int) -> list[int]:
    """Of episodes, a few when it is to be quick."""
    return [int(seed) for seed in episode_seeds("guard", 0, max(2, count // 50) if context.quick else count, start)]


class Tape:
    """Plays a policy and keeps every observation of every episode."""

    by_episode = True

    def __init__(self, graph: Graph) -> None:
        self._policy, self.episodes = GraphPolicy(graph), dict[int, list[Array]]()

    def __call__(self, obs: Array, episode: Array) -> Array:
        for index, one in zip(episode.tolist(), obs, strict=True):
            self.episodes.setdefault(index, []).append(one)
        return self._policy(obs)


def faults(name: str, context: Context) -> dict[str, Any]:
    """The sensors other than the two contact switches, one period each, at random times of fresh episodes."""
    graph = teacher(context)
    with Evaluator(ENV) as evaluate:
        witness, tape = Witness(graph), Tape(graph)
        evaluate(witness, seeds(context, 0, 200))
        evaluate(tape, seeds(context, 1_000, 50))
    guard = Guard(FALLBACK, witness.envelope(0.1))
    assert guard.envelope is not None
    span, rng = guard.envelope.high - guard.envelope.low, np.random.default_rng(0)
    state, row, here = GuardState(guard, graph), np.zeros(1, np.int64), np.ones(1, bool)
    counted = {"faults": 0, "clean": 0, "fallback": 0, "neither": 0, "periods": 0, "false": 0}
    episodes = [np.stack(obs) for obs in tape.episodes.values() if len(obs) > 2]
    for clean in episodes * (1 if context.quick else 4):
        should, at, feature = GraphPolicy(graph)(clean), int(rng.integers(1, len(clean))), int(rng.integers(SENSORS))
        state.reset()
        for time_ in range(at):
            found = state.step(row, clean[time_ : time_ + 1], here)[1][0]
            counted["periods"] += 1
            counted["false"] += int(found != 0)
        came = FAULTS[name](clean[at], clean[at - 1], feature, rng, span)
        action = state.step(row, (clean[at] if came is None else came)[None], np.array([came is not None]))[0][0]
        counted["faults"] += 1
        how = "clean" if action == should[at] else "fallback" if state.bad[0] else "neither"
        counted[how] += 1
    return counted


def guarded(context: Context) -> tuple[Graph, Guard, list[Array]]:
    """The policy in int8, its guard, and clean episodes."""
    large = teacher(context)
    with Evaluator(ENV) as evaluate:
        met = visit(GraphPolicy(large), evaluate, seeds(context, 0, 50), 4_000, 0.05)
        small = quantize(large, met.obs)
        witness, tape = Witness(small), Tape(small)
        evaluate(witness, seeds(context, 0, 200))
        evaluate(tape, seeds(context, 1_000, 50))
    return small, Guard(FALLBACK, witness.envelope(0.1)), [np.stack(obs) for obs in tape.episodes.values()]


IMPLEMENTATIONS = ("Python", "C", "HTTP", "cortex-m4", "avr")


def bench(name: str, context: Context) -> dict[str, Any]:
    """The same faults for one implementation of the guard."""
    graph, guard, episodes = guarded(context)
    count = 12 if context.quick else FEW if name == "avr" else TRIALS
    made = Bench.of(graph, guard, episodes, SENSORS, count)
    if name in ("Python", "C"):
        return made.ends(*in_python(graph, guard, {"Python": "numpy", "C": "c"}[name])(made.periods))
    if name == "HTTP":
        path, port = context.scratch / "guarded", free_port()
        save_artefact(path, graph, episodes[0][:8], {}, guard=guard)
        words = ("nimbleq", "serve", str(path), "--port", str(port), "--grpc-port", "None")
        with server(port, *words), over_http(port, "guarded") as ask:
            return made.ends(*ask(made.periods))
    row, source = TARGETS[name], Source(graph, guard=guard)
    assert row.guard is not None
    if why := row.cannot_open():
        raise CellError(why)
    run = next(iter(row.guard(source, row.emit(source, "policy", row.options()), "policy", context.scratch).values()))
    _, action, found = run(made.periods)
    return made.ends(action, found)


BOARDS = ("cortex-m4", "cortex-m7", "cortex-m55", "avr")


def board(name: str, context: Context) -> dict[str, Any]:
    """What the guard takes of a processor: the policy alone, and behind it."""
    graph, guard, episodes = guarded(context)
    found = {}
    for who, one in (("alone", None), ("guarded", guard)):
        try:
            measured = footprint(name, graph, episodes[0][:64], one)
        except NimbleqError as error:
            raise CellError(str(error)) from None
        found[who] = {
            "flash": measured.text_bytes + measured.data_bytes, "ram": measured.ram_bytes, "unit": measured.unit,
            "stack": measured.stack_bytes, "instructions": measured.instructions,
        }  # fmt: skip
    return found


def simplex(share: float, context: Context) -> dict[str, Any]:
    """A student, and its teacher where the margin is among the lowest ``share``."""
    large, small = teacher(context), student(context)
    with Evaluator(ENV) as evaluate:
        seen = visit(GraphPolicy(small), evaluate, seeds(context, 2_000, 50), 4_000)
        gaps = action_gap(q_values(small, seen.obs))
        margin = float(np.nextafter(np.float32(np.quantile(gaps, share)), np.float32(np.inf)))
        guard = Guard(FALLBACK, larger=large if share else None, margin=margin if share else 0.0)
        fresh = seeds(context, 4_000, 500)
        playing = GuardedEpisodes(GuardState(guard, small, len(fresh)))
        returns = evaluate(playing, fresh).returns
    counts = playing.state.counters()
    asked = counts["larger"] / counts["decisions"]
    act = Runtime(small, guard=guard).act
    return {
        "return_mean": float(returns.mean()), "return_half95": float(1.96 * returns.std(ddof=1) / len(returns) ** 0.5),
        "episodes": len(returns), "larger": asked, "margin": margin,
        "macs": cost(small).macs + asked * cost(large).macs, "decision_us": _decision_us(act, seen.obs),
        "like_the_teacher": float((actions(large, seen) == _actions(guard, small, seen.obs)).mean()),
    }  # fmt: skip


def _actions(guard: Guard, small: Graph, obs: Array) -> Array:
    rows = np.arange(len(obs))
    return GuardState(guard, small, len(obs)).step(rows, obs, np.ones(len(obs), bool))[0]


def _decision_us(act: Callable[[Array], Any], obs: Array) -> float:
    """Mean over visited states, of the fastest of five turns."""
    turns = []
    for _ in range(5):
        start = time.process_time_ns()
        for one in obs:
            act(one)
        turns.append((time.process_time_ns() - start) / len(obs) / 1e3)
    return min(turns)


DRAWS: dict[str, Callable[[np.random.Generator, int, float], Array]] = {
    "normal, sd 20": lambda rng, n, mean: np.minimum(rng.normal(mean, 20, n), 330.0),
    "normal, sd 50, cut at the range": lambda rng, n, mean: np.minimum(rng.normal(mean, 50, n), 330.0),
    "1 % crash for 400": lambda rng, n, mean: mean + 4 - 400 * (rng.random(n) < 0.01),
}
"""Live returns; 330 is the highest."""
FLOOR, HIGH = 270.0, 330.0
DROPS = (5.0, 15.0, 50.0)


def monitor(name: str, context: Context) -> dict[str, Any]:
    """False alarms at the boundary, and the delay after a fall at several times."""
    rng, count, length = np.random.default_rng(5), 20 if context.quick else 500, 100 if context.quick else 2_000
    draw = _centred(DRAWS[name])
    false = sum(_alarm(draw(rng, length, FLOOR)) is not None for _ in range(count))
    delays = {}
    for good in (0, 1_000):
        for drop in DROPS:
            found = []
            for _ in range(5 if context.quick else 40):
                returns = np.concatenate([draw(rng, good, FLOOR + 5), draw(rng, 4_000, FLOOR - drop)])
                alarm = _alarm(returns)
                found.append(np.inf if alarm is None else alarm - good)
            middle = float(np.median(found))
            delays[f"{drop:g} after {good}"] = None if middle == np.inf else middle
    return {"monitors": count, "episodes": length, "false": false, "delays": delays}


def _centred(draw: Callable[[np.random.Generator, int, float], Array]) -> Callable[..., Array]:
    """With the mean that is asked for, in spite of the cut."""

    def centred(rng: np.random.Generator, count: int, mean: float) -> Array:
        shift = mean - float(draw(np.random.default_rng(0), 200_000, mean).mean())
        return np.minimum(draw(rng, count, mean + shift), HIGH)

    return centred


def _alarm(returns: Array) -> int | None:
    watching = Monitor(Promise(FLOOR, HIGH, "a simulation"))
    for total in returns.tolist():
        if watching.add(total):
            break
    return watching.alarm


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""

    def fault(name: str, cell: dict[str, Any]) -> str:
        ends = " | ".join(f"{cell[how] / cell['faults']:.1%}" for how in ("clean", "fallback", "neither"))
        return f"| {name.removeprefix(FAULT)} | {cell['faults']} | {ends} | {cell['false'] / cell['periods']:.2%} |"

    def bench_row(name: str, cell: dict[str, Any]) -> str:
        ends = [f"{cell[how]:,}" for how in ("faults", "faulty", "right", "fallback", "still", "neither", "differs")]
        if cell["still"]:
            ends[4] += f" (of {cell['still_faults']} faults, at most {cell['longest']} of one)"
        return f"| {name.removeprefix(BENCH)} | {' | '.join(ends)} |"

    def board_row(name: str, cell: dict[str, Any]) -> str:
        alone, behind = cell["alone"], cell["guarded"]
        parts = [f"{alone[what]:,} → {behind[what]:,}" for what in ("flash", "ram", "stack", "instructions")]
        return f"| {name.removeprefix(BOARD)} | {' | '.join(parts)} {behind['unit']} |"

    def larger(name: str, cell: dict[str, Any]) -> str:
        return (
            f"| {name.removeprefix(SIMPLEX)} | {cell['larger']:.1%} | {cell['return_mean']:.1f} ± "
            f"{cell['return_half95']:.1f} | {cell['like_the_teacher']:.1%} | {cell['macs']:,.0f} | "
            f"{cell['decision_us']:.2f} |"
        )

    def watch(name: str, cell: dict[str, Any]) -> str:
        share = Share(cell["false"], cell["monitors"])
        delays = " | ".join("never" if one is None else f"{one:.0f}" for one in cell["delays"].values())
        return f"| {name.removeprefix(WATCH)} | {share} | {delays} |"

    def of(kind: str) -> list[str]:
        return [name for name in names if name.startswith(kind)]

    falls = [f"−{drop:g}, after {good:,} good" for good in (0, 1_000) for drop in DROPS]
    return "\n".join([
        "# The guard and the field monitor", "", record.footnote(), "",
        "LunarLander-v3, the trained policy behind an envelope from 200 episodes, widened by 10 %. One fault of one "
        "period, of one of the six numbers, at a random time of fresh episodes; it ends in the action that would have "
        "been taken without it, in the fallback, or in neither. False: faultless periods that got the fallback.", "",
        header("fault", "faults", "right action", "fallback", "neither", "false"),
        *record.rows(of(FAULT), fault, 6), "",
        f"The test bench: the policy in int8 behind the same envelope, {TRIALS:,} faults by turns of "
        f"{', '.join(SEEN)} ({FEW} in the slow emulator), of 1 to {LONGEST} periods. Periods with a fault that end in "
        "the action that would have been taken without it, in the fallback in that very period, or in neither: a stuck "
        "sensor is seen when it stays as it never did in visited states, until then it is *still*. And periods in "
        "which the implementation differs from the reference.", "",
        header("implementation", "faults", "faulty periods", "right action", "fallback", "still", "neither", "differs"),
        *record.rows(of(BENCH), bench_row, 8), "",
        "What the guard takes of a processor: the same policy alone → behind its guard, by the compiler's own `size`; "
        "one decision in an emulator, its observation looked through and let be.", "",
        header("processor", "flash bytes", "static RAM bytes", "stack bytes", "one decision"),
        *record.rows(of(BOARD), board_row, 5), "",
        "A student of four hidden units in int8, its decisions taken by the teacher where its margin is among the "
        "lowest share of visited states. Time: from Python, processor time, mean over visited states.", "",
        header("share", "asked", "return", "acts as the large one", "MACs", "µs"),
        *record.rows(of(SIMPLEX), larger, 6), "",
        f"The field monitor: certified mean {FLOOR:g}, highest return {HIGH:g}. False alarms within 2,000 episodes "
        "whose mean is exactly what was certified, and the median episodes from a fall of the mean to the alarm; "
        "before the fall the mean is 5 above.", "",
        header("returns", "false alarms", *falls), *record.rows(of(WATCH), watch, 2 + len(falls)),
        *owed(missed(record)), "",
    ])  # fmt: skip


def missed(record: Record) -> list[str]:
    """Faults that a guard has to see, and false alarms."""
    found = [
        f"{name}: {cell['neither']} of {cell['faults']} end in neither"
        for name, cell in record.cells.items()
        if name.removeprefix(FAULT) in SEEN and name != f"{FAULT}stuck" and "error" not in cell and cell["neither"]
    ]
    for name, cell in record.cells.items():
        if name.startswith(BENCH) and "error" not in cell and (cell["neither"] or cell["differs"]):
            found.append(f"{name}: {cell['neither']} end in neither, {cell['differs']} differ from the reference")
        if name.startswith(BENCH) and "error" not in cell and cell["still"]:
            found.append(f"{name}: {cell['still']} periods of a stuck sensor before it is seen end in another action")
        if name.startswith(WATCH) and "error" not in cell and cell["false"] > 0.05 * cell["monitors"]:
            found.append(f"{name}: {cell['false']} of {cell['monitors']} false alarms")
    return found


CASE = Case(
    "guard",
    cells=lambda _: [
        *(Cell(FAULT + name, partial(faults, name), 20) for name in FAULTS),
        *(Cell(BENCH + name, partial(bench, name), 40) for name in IMPLEMENTATIONS),
        *(Cell(BOARD + name, partial(board, name), 30) for name in BOARDS),
        *(Cell(f"{SIMPLEX}{share:.0%}", partial(simplex, share), 20) for share in SHARES),
        *(Cell(WATCH + name, partial(monitor, name), 40) for name in DRAWS),
    ],
    table=table,
    missed=missed,
)
"""Faults and where they end; a larger network for close decisions; alarms, false and right."""
