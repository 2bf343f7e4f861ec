"""A small policy network beside a large value network: who should collect, and what int8 brings.

Arms, at equal environment steps: `alone`, the Q-network acts itself; `value`, it collects and the policy is distilled
online; `policy`, the policy collects; and the last two with int8 weights (`value-int8`, `policy-int8`). The cells
`…-speed` time collection (acting and stepping the environments, nothing learnt), acting alone, and one decision in C,
policy and value network in turns. Fresh networks end episodes at different times, so the environment costs each
another time; what is owed is judged with the dearer of both. Wants a quiet machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.case import Case, Cell, Context
from benchmarks.process import nimbleq
from benchmarks.record import Record
from benchmarks.statistics import PAIRS, interleaved, interval95, mean, ratio
from benchmarks.tables import header

BYTES, RETURN, SPEED = 20.0, 0.99, 1.5
"""Owed: times fewer bytes than the value network, share of the return of `alone`, collection speed."""


@dataclass(frozen=True)
class Task:
    """Attributes:
    env: Gymnasium id.
    words: of every arm: the value network and the budget.
    policy: options of the policy network.
    seeds: at most so many.
    expected: seconds of a cell on a quiet machine.
    """

    env: str
    words: tuple[str, ...]
    policy: tuple[str, ...]
    seeds: int
    expected: float


TASKS: Mapping[str, Task] = {
    "lunarlander": Task(
        "LunarLander-v3",
        ("--preset", "wide", "--steps", "250000", "--evaluation.stop-return", "None"),
        ("--policy-network", "32-32"),
        10,
        40,
    ),
    "cartpole": Task(
        "CartPole-v1",
        ("--preset", "wide", "--steps", "25000", "--evaluation.stop-return", "None"),
        ("--policy-network", "16"),
        10,
        5,
    ),
    "breakout": Task(
        "MinAtar/Breakout-v1",
        ("--preset", "pqn", "--steps", "1000000", "--evaluation.every", "500", "--learner.lr-updates", "15600"),
        ("--policy-network", "16", "--policy.torso-pool", "--policy.lr", "1e-3", "--policy.lr-updates", "15600"),
        3,
        200,
    ),
}
ARMS: Mapping[str, tuple[str, ...] | None] = {
    "alone": None,
    "value": ("--policy.collects", "value"),
    "policy": ("--policy.collects", "policy"),
    "value-int8": ("--policy.collects", "value", "--policy-format", "int8"),
    "policy-int8": ("--policy.collects", "policy", "--policy-format", "int8"),
}
KEPT = ("return_mean", "return_ci95", "steps", "train_seconds", "policy_value", "process_seconds")


def trained(task: Task, arm: str, seed: int, context: Context) -> dict[str, Any]:
    """One run."""
    chosen = ARMS[arm]
    policy = () if chosen is None else (*task.policy, *chosen)
    steps = ("--steps", "20000") if context.quick else ()
    out = ("--seed", str(seed), "--out", str(context.scratch / "run"))
    result = nimbleq("train", "--env", task.env, *task.words, *policy, *steps, *out)
    return {name: result[name] for name in KEPT if name in result}


def speed(task: Task, context: Context) -> dict[str, Any]:
    """Environment steps per second and nanoseconds per decision, of both networks in turns, freshly made."""
    from nimbleq.rl.envs.vectors import VECTOR_ENGINES
    from nimbleq.rl.policy_value.graphs import graphs_of
    from nimbleq.rl.policy_value.pair import Pair, training_engine
    from nimbleq.verbs.measures import decision_us
    from nimbleq.verbs.train import arguments

    words = ["--env", task.env, *task.words[:2]]
    config = _with(arguments(words).config, task.policy)
    envs = VECTOR_ENGINES[config.env.engine].make(config.env, config.envs, 0)
    learner = training_engine(config, envs.spec).make(config, envs.spec, 0)
    assert isinstance(learner, Pair)
    steps = 20 if context.quick else 400

    def collect(act: Callable[..., Any]) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            envs.step(act(envs.obs, envs.mask))
        return time.perf_counter() - began

    def acting(act: Callable[..., Any]) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            act(envs.obs, envs.mask)
        return time.perf_counter() - began

    networks = {"policy": learner.policy.act, "value": learner.value.act}
    timers = {name: partial(collect, act) for name, act in networks.items()}
    timers |= {f"{name} acts": partial(acting, act) for name, act in networks.items()}
    interleaved(timers, 1)
    times = interleaved(timers, PAIRS + 4)
    graphs = graphs_of(config, envs.spec, learner.weights())
    obs = envs.obs.copy()
    envs.close()
    assert graphs.value is not None
    int8 = graphs_of(_with(config, ("--policy-format", "int8")), envs.spec, learner.weights()).policy
    decisions = {"policy": graphs.policy, "policy-int8": int8, "value": graphs.value}
    return {
        "envs": config.envs,
        "steps_per_s": {name: steps * config.envs / min(times[name]) for name in networks},
        "acting_us": {name: min(times[f"{name} acts"]) / (steps * config.envs) * 1e6 for name in networks},
        "ratio": ratio(times["value"], times["policy"]),
        "decision_us": {name: decision_us(graph, obs) for name, graph in decisions.items()},
    }


def _with(config: Any, words: Sequence[str]) -> Any:
    """``config`` with options of the policy network."""
    from nimbleq.config import with_changes

    names = {"--policy-network": "policy.network", "--policy-format": "policy.format"}
    changes: dict[str, Any] = {}
    for at, word in enumerate(words):
        if word in names:
            changes[names[word]] = words[at + 1]
        elif word == "--policy.torso-pool":
            changes["policy.torso_pool"] = True
    return with_changes(config, changes)


def cells(seeds: Sequence[int]) -> list[Cell]:
    """Speeds first, then every arm of a seed before the next seed."""
    found = [Cell(f"{name}-speed", partial(speed, task), 20) for name, task in TASKS.items()]
    for seed in seeds:
        for name, task in TASKS.items():
            if seed < task.seeds:
                found += [
                    Cell(f"{name}-{arm}-{seed}", partial(trained, task, arm, seed), task.expected) for arm in ARMS
                ]
    return found


def of(record: Record, task: str, arm: str) -> list[dict[str, Any]]:
    """The finished cells of an arm, by seed."""
    names = [f"{task}-{arm}-{seed}" for seed in range(TASKS[task].seeds)]
    return [record.cells[name] for name in names if record.finished(name)]


def paired_share(record: Record, task: str, arm: str) -> float | None:
    """Mean return of an arm over that of `alone`, on the seeds that both have."""
    both = []
    for seed in range(TASKS[task].seeds):
        names = [f"{task}-{each}-{seed}" for each in (arm, "alone")]
        if all(record.finished(name) for name in names):
            both.append([record.cells[name]["return_mean"] for name in names])
    if not both:
        return None
    mine, alone = (mean([pair[at] for pair in both]) for at in (0, 1))
    return mine / alone


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    lines = [
        "# A small policy beside a large value network",
        "",
        str(__doc__).partition("\n\n")[2],
        record.footnote(),
        "",
    ]
    for name, task in TASKS.items():
        lines += [f"## {task.env} ({' '.join(task.words)}; {' '.join(task.policy)})", "", _speed(record, name), ""]
        lines += [
            header("arm", "seeds", "return (95 % interval)", "÷ alone", "value network's return", "agreement",
                   "policy", "value ÷ policy bytes", "training"),
            *(_arm(record, name, arm) for arm in ARMS), "",
        ]  # fmt: skip
    missing = [name for name in names if not record.finished(name)]
    owed = missed(record)
    return "\n".join(
        [
            *lines,
            *([f"Owed and missed: {'; '.join(owed)}.", ""] if owed else []),
            *([f"Missing: {', '.join(missing)}.", ""] if missing else []),
        ]
    )


def _speed(record: Record, task: str) -> str:
    name = f"{task}-speed"
    if not record.finished(name):
        return f"Speed: {record.why(name)}."
    cell = record.cells[name]
    rate, us, pairs = cell["steps_per_s"], cell["decision_us"], cell["ratio"]
    shown = ", ".join(f"{which} {value * 1e3:,.0f} ns" for which, value in us.items() if value is not None)
    rates = f"policy {rate['policy']:,.0f}, value network {rate['value']:,.0f} steps/s"
    return (
        f"Collection with {cell['envs']} environments: {rates}, ×{pairs['median']:.2f} "
        f"({pairs['least']:.2f} to {pairs['most']:.2f} in {pairs['pairs']} pairs).{_parts(cell)} "
        f"A decision in C: {shown}."
    )


def _parts(cell: Mapping[str, Any]) -> str:
    """What of a step acting takes, where that was timed alone, too."""
    acting, even = cell.get("acting_us"), even_ratio(cell)
    if acting is None:
        return ""
    env = _environment_us(cell)
    return (
        f" A step takes the environment {env['policy']:.2f} µs where the policy plays and {env['value']:.2f} where the "
        f"value network does, whose episodes are others; acting takes {acting['policy']:.2f} and "
        f"{acting['value']:.2f} µs. With the dearer environment for both: ×{even:.2f}."
    )


def _environment_us(cell: Mapping[str, Any]) -> dict[str, float]:
    """Microseconds of a step without acting, by who plays."""
    return {name: 1e6 / cell["steps_per_s"][name] - acting for name, acting in cell["acting_us"].items()}


def even_ratio(cell: Mapping[str, Any]) -> float:
    """How much faster the policy collects: as measured, or with the dearer environment for both where that is less."""
    measured = float(cell["ratio"]["median"])
    if "acting_us" not in cell:
        return measured
    env, acting = max(_environment_us(cell).values()), cell["acting_us"]
    return min(measured, float((env + acting["value"]) / (env + acting["policy"])))


def _arm(record: Record, task: str, arm: str) -> str:
    found = of(record, task, arm)
    if not found:
        return f"| {arm} | 0 |" + " |" * 7
    returns = [cell["return_mean"] for cell in found]
    low, high = interval95(returns, mean)
    share = paired_share(record, task, arm)
    first = f"| {arm} | {len(found)} | {mean(returns):.1f} ({low:.1f} to {high:.1f}) "
    first += f"| {'–' if share is None else f'{share:.1%}'} "
    seconds = f"{mean([cell['train_seconds'] for cell in found]):.1f} s |"
    if ARMS[arm] is None:
        return f"{first}| – | – | – | – | {seconds}"
    pairs = [cell["policy_value"] for cell in found]
    bytes_, whole = pairs[0]["policy_size_bytes"], pairs[0]["value_size_bytes"]
    return (
        f"{first}| {mean([pair['value_return_mean'] for pair in pairs]):.1f} "
        f"| {mean([pair['agreement'] for pair in pairs]):.1%} | {bytes_:,} B | ×{whole / bytes_:.0f} | {seconds}"
    )


def missed(record: Record) -> list[str]:
    """Of the best arm of each task, and of collection."""
    found = []
    for task in TASKS:
        shares = {arm: paired_share(record, task, arm) for arm in ARMS if ARMS[arm] is not None}
        known = {arm: share for arm, share in shares.items() if share is not None}
        if known:
            best = max(known, key=lambda arm: known[arm])
            pair = of(record, task, best)[0]["policy_value"]
            if known[best] < RETURN:
                found.append(f"{task}: {best} has {known[best]:.1%} of the return, owed {RETURN:.0%}")
            if pair["value_size_bytes"] < BYTES * pair["policy_size_bytes"]:
                found.append(
                    f"{task}: the policy is ×{pair['value_size_bytes'] / pair['policy_size_bytes']:.0f} smaller"
                )
        speeds = f"{task}-speed"
        if record.finished(speeds) and even_ratio(record.cells[speeds]) < SPEED:
            found.append(f"{task}: collection ×{even_ratio(record.cells[speeds]):.2f}, owed ×{SPEED:g}")
    return found


CASE = Case("policy_value", cells, table, seeds=tuple(range(10)), missed=missed)
