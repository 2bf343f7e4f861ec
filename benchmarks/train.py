"""Training beside peers: ``make bench-train`` or ``python -m benchmarks.train`` → ``results/train.{md,json}``.

Wants a quiet machine and the extra ``peers``. Parts (``--only``): `cartpole` and `lunarlander`, time to score beside
Stable-Baselines3 and sbx with the zoo's tuned settings; `balance`, CartPole with episodes of 10,000 steps; `recipe`,
CleanRL's dqn.py beside the same recipe in nimbleq; `pieces`, TD step, prioritised sampling and replay memory;
`breakout`, MinAtar's return against time. Each run is a process of its own, one at a time, peers and nimbleq in turns.

A finished run is kept under ``--runs`` and not repeated when the benchmark is started again, unless its command has
changed or ``--fresh`` is given; the tables hold all that is finished, whatever ``--only`` says. A run that failed is
said to have failed, and is tried again next time.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.cleanrl_recipe import STEPS
from benchmarks.readme import into_readme
from benchmarks.train_cells import ROOT, Runner, time_text
from benchmarks.train_curves import write_svg
from benchmarks.train_plan import PARTS, Plan
from benchmarks.train_tables import Results, of, sections, short_table, summaries
from nimbleq.files import write_bytes, write_json

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("nimbleq", "torch", "gymnasium", "stable-baselines3", "sbx-rl", "jax", "tianshou", "ale-py", "minatar")
NOTE = """\
Times are training wall-clock. nimbleq's is `train_seconds` of `nimbleq train --env …` with the environment's default
preset: its greedy checks and their confirmation count, and the score has to hold in 100 more episodes on fresh seeds.
Peers run with the settings of rl-baselines3-zoo, with one thread or two, whichever was faster; their checks (100 greedy
episodes, every 1,000 steps on CartPole and every 2,500 on LunarLander) are not counted, nor are imports and JAX's
compiling, and a check that passes is enough. A peer that spends the zoo's budget without the score is "not in N steps"
and counts as infinite in medians. Intervals are 95 % percentile bootstrap over seeds; ratios are medians of pairs run
one after the other.
"""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--seeds", type=int, default=None, help="of each trainer (5; the curve has 3)")
    parser.add_argument("--steps", type=int, default=None, help=f"of CleanRL's recipe ({STEPS:,})")
    parser.add_argument("--breakout-steps", type=int, default=None, help="of each MinAtar run (1,000,000)")
    parser.add_argument("--cap", type=int, default=0, help="peers without the score train on to so many steps")
    parser.add_argument("--fresh", action="store_true", help="repeat what is finished")
    parser.add_argument(
        "--quick", action="store_true", help="one short seed, to see that it works; tables under --runs"
    )
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "bench-train", help="where finished runs lie")
    return parser.parse_args()


def facts() -> dict[str, Any]:
    """Machine and versions, without its name."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    processors = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    load = round(os.getloadavg()[0], 1)
    return {"machine": platform.machine(), "processors": processors, "load": load, "versions": versions}


def write(results: Results, out: Path, about: dict[str, Any]) -> None:
    """All tables so far."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    machine = f"{about['machine']}, {about['processors']} processors, load {about['load']} at the start"
    head = f"# Training beside peers\n\n{NOTE}\n{machine}; {versions}.\n"
    write_bytes(out / "train.md", "\n".join([head, *sections(results, out)]).encode())
    cells = {label: {k: v for k, v in cell.items() if k != "curve"} for label, cell in results.items()}
    write_json(out / "train.json", {"about": about, "summary": summaries(results), "runs": cells})
    curves = [cell["curve"] for cell in of(results, "breakout", "nimbleq") if len(cell.get("curve", ())) > 1]
    if curves:
        write_json(out / "breakout.json", {"columns": ["steps", "seconds", "return"], "seeds": curves})
        write_svg(curves, "MinAtar Breakout: mean return of greedy checks", out / "breakout.svg")


def main() -> None:
    args = arguments()
    plan = Plan(
        seeds=args.seeds or (1 if args.quick else 5),
        recipe_steps=args.steps or (12_000 if args.quick else STEPS),
        breakout_steps=args.breakout_steps or (20_000 if args.quick else 1_000_000),
        cap=args.cap,
        quick=args.quick,
    )
    folder = args.runs / "quick" if args.quick else args.runs
    out = folder if args.quick else RESULTS
    began, about = time.monotonic(), facts()
    runner = Runner(folder, args.fresh)
    runner.run(plan.speed_cells(), args.only)
    runner.run(plan.cells(runner.results, out), args.only, lambda: write(runner.results, out, about))
    write(runner.results, out, about)
    if not args.quick:
        into_readme("train", short_table(runner.results))
    failed = [label for label, result in runner.results.items() if "error" in result]
    print(
        f"{len(runner.results)} runs, {len(failed)} failed, {time_text(time.monotonic() - began)} → {out / 'train.md'}"
    )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
