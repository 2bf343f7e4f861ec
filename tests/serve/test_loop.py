"""The real-time loop: one action in each period, late decisions replaced, in Python and in C."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.networks import mlp
from nimbleq.deploy.runtime import Runtime
from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.targets.c.guard import emit_guard
from nimbleq.deploy.targets.c.loop import emit_loop
from nimbleq.deploy.toolchain import find_compiler
from nimbleq.errors import ConfigError
from nimbleq.graph.guard import Guard
from nimbleq.graph.rewrites.mask import with_mask
from nimbleq.serve.loop import Settings, Tally, machine_of, run_loop
from nimbleq.serve.loop.energy import Meter
from nimbleq.serve.loop.histogram import Histogram

COMPILER = find_compiler()
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wundef", "-Wfloat-equal", "-Wshadow", "-Werror")
BLOCKED = 20
"""The period in which the sensor waits for six periods."""


class Sensor:
    """Gives numbers; in one period it waits."""

    def __init__(self, wait_s: float = 0.0) -> None:
        self.wait_s, self.reads = wait_s, 0
        self.done: list[Any] = []

    def read(self) -> int:
        self.reads += 1
        if self.reads == BLOCKED + 1 and self.wait_s:
            time.sleep(self.wait_s)
        return self.reads - 1

    def write(self, action: Any) -> None:
        self.done.append(action)

    def finished(self) -> float | None:
        return 1.5 if self.reads % 10 == 0 else None


class Numbers:
    """Answers what it is asked; its standby action is −1, later −2."""

    def __init__(self) -> None:
        self.resets = self.lates = self.missing = 0

    def reset(self) -> None:
        self.resets += 1

    def act(self, obs: Any, mask: Any = None) -> Any:
        self.missing += obs is None
        return obs

    def standby(self, held: bool = True) -> int:
        return -1 if held else -2

    def late(self) -> None:
        self.lates += 1


def test_every_period_gets_its_decision() -> None:
    sensor, numbers, returns = Sensor(), Numbers(), list[float]()
    tally = run_loop(numbers, sensor, Settings(400, periods=60), Tally(), ended=returns.append)
    assert len(sensor.done) + tally.skipped >= 60 - tally.skipped
    decided = [action for action in sensor.done if action >= 0]
    assert decided == sorted(set(decided)), "no decision twice, none out of order"
    assert len(decided) == tally.periods - tally.misses
    assert tally.periods == 60
    assert returns == [1.5] * ((60 - tally.skipped) // 10)
    assert numbers.resets == 1 + len(returns)
    found = tally.to_dict()
    assert 0 < found["fps"] <= 420
    assert sum(found["histograms"]["decision"]["counts"]) == found["decisions"]


def test_a_decision_that_is_late_is_replaced_within_its_period() -> None:
    sensor, numbers = Sensor(wait_s=6.2 / 100), Numbers()
    tally = run_loop(numbers, sensor, Settings(100, periods=40), Tally())
    assert BLOCKED not in sensor.done, "it came after its deadline"
    assert tally.replaced >= 1
    assert tally.skipped >= 5
    assert numbers.lates == tally.replaced
    assert numbers.missing == tally.skipped, "the guard knows of the periods without an observation"
    at = sensor.done.index(-1) if sensor.done[-1] != -1 else len(sensor.done) - 1
    assert sensor.done.count(-2) >= 4, f"the watchdog acts in the periods after it, too: {sensor.done[at:]}"
    assert len(sensor.done) <= 40


def test_it_ends_when_it_is_stopped() -> None:
    sensor = Sensor()
    tally = run_loop(Numbers(), sensor, Settings(500), Tally(), stopped=lambda: sensor.reads >= 7)
    assert 7 <= tally.periods - tally.skipped <= 8


def test_a_machine_that_fails_ends_it() -> None:
    class Broken(Sensor):
        def write(self, action: Any) -> None:
            raise OSError("no motor")

    with pytest.raises(OSError, match="no motor"):
        run_loop(Numbers(), Broken(), Settings(200, periods=20), Tally())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(0), "--hz"),
        (Settings(100, deadline_us=20_000), "at most the period"),
        (Settings(100, core=4_000), "--core 4000 cannot be had"),
        (Settings(100, priority=200), "--priority must be 1"),
    ],
)
def test_what_cannot_be_kept_is_refused(settings: Settings, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        run_loop(Numbers(), Sensor(), settings, Tally())


def test_a_factory_is_found_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_robot_of_test.py").write_text(
        "class Robot:\n    def read(self): ...\n    def write(self, action): ...\n\ndef half():\n    return object()\n"
    )
    monkeypatch.chdir(tmp_path)
    assert callable(machine_of("my_robot_of_test:Robot").read)
    for factory, words in (
        ("my_robot_of_test", "package.module:factory"), ("nowhere_at_all:x", "no module"),
        ("my_robot_of_test:Absent", "Absent"), ("my_robot_of_test:half", "no method read"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            machine_of(factory)


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=200), st.sampled_from([0.5, 0.99, 0.999]))
def test_percentiles_are_those_of_the_durations(durations: list[int], share: float) -> None:
    histogram = Histogram()
    for ns in durations:
        histogram.add(ns)
    exact = float(np.percentile(durations, 100 * share, method="inverted_cdf"))
    assert exact <= histogram.percentile(share) <= exact * (1 + 1 / 32) + 1
    assert histogram.worst == max(durations)


def test_energy_counts_over_the_end_of_a_counter(tmp_path: Path) -> None:
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "max_energy_range_uj").write_text("1000000\n")
    (zone / "energy_uj").write_text("999000\n")
    meter = Meter.here(tmp_path)
    before = meter.read()
    (zone / "energy_uj").write_text("2000\n")
    assert meter.joules(before, meter.read()) == pytest.approx(0.003001)
    assert "no RAPL" in Meter.here(tmp_path / "none").why_not


MAIN = """#define _GNU_SOURCE
#include "policy_loop.h"
#include <stdio.h>
#include <time.h>

static int reads, acts;
static int actions[4096];

static int sense(void *own, float *obs@PARAMETER)
{
    struct timespec wait = {0, 62000000};
    (void)own;
    @ALL
    for (int i = 0; i < 4; ++i) obs[i] = (float)reads * 0.1f;
    if (reads++ == 20) nanosleep(&wait, 0);
    return reads % 7 != 0;
}

static void act(void *own, int action)
{
    (void)own;
    if (acts < 4096) actions[acts++] = action;
}

int main(void)
{
    static policy_guard guard;
    static policy_loop_report report;
    policy_machine machine = {sense, act, 0};
    policy_loop_settings settings = {10000000, 5000000, 60, 0, -1, 0};
    policy_guard_init(&guard);
    settings.core = 100000;
    if (policy_loop(&guard, &machine, &settings, &report) != POLICY_LOOP_NO_CORE) return 2;
    settings.core = -1;
    if (policy_loop(&guard, &machine, &settings, &report) != POLICY_LOOP_OK) return 1;
    printf("%d %d %d %d %d %d %d\\n", acts, (int)report.periods, (int)report.replaced, (int)report.skipped,
           (int)guard.counts[POLICY_GUARD_LATE], (int)guard.counts[POLICY_GUARD_MISSING],
           policy_percentile(&report.decision, 0.5) > 0);
    return 0;
}
"""


@pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")
@pytest.mark.parametrize("masked", [False, True])
def test_the_loop_in_c(masked: bool, tmp_path: Path) -> None:
    """Compiled without a warning; the watchdog acts in the periods in which the sensor waits."""
    graph, guard = mlp(4, 8, 3), Guard(1, hold=1)
    graph = with_mask(graph) if masked else graph
    main = MAIN.replace("@PARAMETER", ", uint8_t *mask" if masked else "")
    main = main.replace("@ALL", "for (int a = 0; a < 3; ++a) mask[a] = 1;" if masked else "")
    texts = emit_c(graph, "policy") | emit_guard(graph, "policy", guard) | emit_loop(graph, "policy") | {"main.c": main}
    for file, text in texts.items():
        (tmp_path / file).write_text(text)
    sources = [file for file in texts if file.endswith(".c")]
    assert COMPILER is not None
    command = [COMPILER, "-std=c99", "-O1", *WARNINGS, *sources, "-lpthread", "-o", "loop"]
    subprocess.run(command, cwd=tmp_path, check=True)
    words = subprocess.run([tmp_path / "loop"], capture_output=True, text=True, check=True, timeout=60).stdout.split()
    acts, periods, replaced, skipped, late, missing, timed = map(int, words)
    assert periods == 60
    assert late == replaced >= 1
    assert skipped >= 5
    assert missing == (60 - skipped) // 7 + skipped
    assert 55 <= acts <= 60
    assert timed


BUSY = """#define _GNU_SOURCE
#include "policy_loop.h"
#include <stdio.h>
#include <time.h>

static int reads;
static int64_t last, longest;

static int64_t now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (int64_t)at.tv_sec * 1000000000 + at.tv_nsec;
}

static int sense(void *own, float *obs)
{
    (void)own;
    for (int i = 0; i < 4; ++i) obs[i] = 0.1f;
    if (++reads == 5)
        for (const int64_t until = now() + 400000000; now() < until;) {}
    return 1;
}

static void act(void *own, int action)
{
    const int64_t at = now();
    (void)own;
    (void)action;
    if (last > 0 && at - last > longest) longest = at - last;
    last = at;
}

int main(void)
{
    static policy_guard guard;
    static policy_loop_report report;
    policy_machine machine = {sense, act, 0};
    policy_loop_settings settings = {40000000, 20000000, 20, 10, CORE, 0};
    policy_guard_init(&guard);
    if (policy_loop(&guard, &machine, &settings, &report) == POLICY_LOOP_NO_PRIORITY) return 3;
    printf("%d\\n", (int)(longest / 1000000));
    return 0;
}
"""


@pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")
def test_the_watchdog_interrupts_what_computes_on_its_core(tmp_path: Path) -> None:
    texts = (
        emit_c(mlp(4, 8, 3), "policy")
        | emit_guard(mlp(4, 8, 3), "policy", Guard(1))
        | emit_loop(mlp(4, 8, 3), "policy")
    )
    core = str(min(os.sched_getaffinity(0)))
    for file, text in (texts | {"main.c": BUSY.replace("CORE", core)}).items():
        (tmp_path / file).write_text(text)
    sources = [*(file for file in texts if file.endswith(".c")), "main.c"]
    assert COMPILER is not None
    subprocess.run(
        [COMPILER, "-std=c99", "-O1", *WARNINGS, *sources, "-lpthread", "-o", "loop"], cwd=tmp_path, check=True
    )
    done = subprocess.run([tmp_path / "loop"], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode == 3:
        pytest.skip("needs the right to SCHED_FIFO")
    assert done.returncode == 0
    assert int(done.stdout) < 200  # without, the 400 ms in which nobody acts


def test_a_guarded_runtime_is_what_a_loop_takes() -> None:
    runtime, sensor = Runtime(mlp(4, 8, 3), "numpy", guard=Guard(2)), Sensor()
    sensor.read = lambda: np.zeros(4, np.float32)  # type: ignore[method-assign,assignment,return-value]
    tally = run_loop(runtime.stream(), sensor, Settings(100, periods=10), Tally())
    want = int(Runtime(mlp(4, 8, 3), "numpy").act(np.zeros(4, np.float32)))
    assert sensor.done.count(want) >= tally.periods - tally.misses
