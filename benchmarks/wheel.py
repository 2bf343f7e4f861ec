"""A wheel beside the native build: ``python -m benchmarks.wheel nimbleq-….whl``, in processes that take turns.

One TD step of 4-64-64-2 (batch 64, native learner), and one decision of it from Python (prebuilt engine), float32 and
int8. Each process gives the minimum of many repetitions; the table the medians of those, and of their ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

from benchmarks.networks import int_mlp, mlp
from benchmarks.statistics import PAIRS

REPEATS = 150
CALLS = 64


def measured() -> dict[str, float]:
    """µs of each, with the nimbleq that this process imports."""
    from benchmarks.cases.td_step import SETUPS, STACKED, batches
    from nimbleq.deploy.runtime import Runtime
    from nimbleq.rl.learners.native import NativeLearner
    from nimbleq.rl.spec import EnvSpec
    from nimbleq.types import ObsSpec

    setup = SETUPS[0]
    learner = NativeLearner(setup.config(), EnvSpec(ObsSpec((setup.obs,)), setup.actions), 0)
    stacked = batches(setup)
    times: list[float] = []
    for _ in range(REPEATS):
        start = perf_counter()
        learner.update_many(stacked)
        times.append(perf_counter() - start)
    found = {"TD step": min(times) / STACKED * 1e6}
    for name, graph in (("decision", mlp(4, 64, 64, 2)), ("int8 decision", int_mlp(4, 64, 64, 2))):
        act, times = Runtime(graph, "prebuilt").act, []
        singles = list(np.random.default_rng(0).normal(size=(CALLS, 4)).astype(np.float32))
        for _ in range(20 * REPEATS):
            start = perf_counter()
            for obs in singles:
                act(obs)
            times.append(perf_counter() - start)
        found[name] = min(times) / CALLS * 1e6
    return found


def main() -> None:
    """Install the wheel into a temporary folder and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--rounds", type=int, default=PAIRS)
    args = parser.parse_args()
    here = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, str(args.wheel)]
        subprocess.run(pip, check=True)
        results: dict[str, list[dict[str, float]]] = {folder: [], str(here / "src"): []}
        for _ in range(args.rounds):
            for place, times in results.items():
                path = {**os.environ, "PYTHONPATH": f"{place}{os.pathsep}{here}"}
                code = "import json, benchmarks.wheel as w; print(json.dumps(w.measured()))"
                done = subprocess.run(
                    [sys.executable, "-c", code], env=path, capture_output=True, text=True, check=True
                )
                times.append(json.loads(done.stdout))
        wheel, native = results.values()
    for name in wheel[0]:
        a, b = (np.array([times[name] for times in part]) for part in (wheel, native))
        print(f"{name}: wheel {np.median(a):.3f} µs, native {np.median(b):.3f} µs, ratio {np.median(a / b):.2f}")


if __name__ == "__main__":
    main()
