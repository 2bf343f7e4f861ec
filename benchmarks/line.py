"""The whole line over several seeds: ``python -m benchmarks.line`` → ``results/line.{md,json}`` and the picture.

Every row is one ``nimbleq run --json`` in a process of its own, training included; nothing is retried or left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.readme import into_readme
from benchmarks.record import Record
from nimbleq.files import write_bytes
from nimbleq.report.picture import write_frontier_svg
from nimbleq.rundir import RunDir

RESULTS = Path(__file__).parent / "results"
HEADER = (
    "| environment | seed | training | teacher's return | small: size | smaller | fewer MACs | kept (99 % asked) "
    "| episodes | decision in C | whole line |\n|---|---|---|---|---|---|---|---|---|---|---|\n"
)


def one(env: str, seed: int, out: Path) -> dict[str, Any]:
    """One run; the verb's JSON with the seconds it took."""
    start = time.monotonic()
    words = ["run", "--env", env, "--preset", "wide", "--seed", str(seed), "--out", str(out), "--json"]
    done = subprocess.run([sys.executable, "-m", "nimbleq", *words], stdout=subprocess.PIPE, text=True, check=False)
    result: dict[str, Any] = json.loads(done.stdout)
    result |= {"seed": seed, "exit": done.returncode, "seconds": time.monotonic() - start}
    told: dict[str, Any] = json.loads(json.dumps(slim(result)).replace(f"{out.parents[1]}/", "runs/"))
    return told


def row(_: str, result: dict[str, Any]) -> str:
    """A line of the table."""
    if "error" in result:
        return f"| seed {result['seed']} | {result['error']} |" + " |" * 9
    train, small, certificate = result["train"], result["compress"], result["certify"]
    low = certificate["teacher_return_mean"] - certificate["random_return_mean"]
    kept = 1 + certificate["difference_lower95"] / low
    p50 = next(r["p50_us"] for r in result["bench"]["rows"] if (r["engine"], r["what"]) == ("nimbleq-c", "artefact"))
    cells = [
        train["env"], result["seed"], f"{train['train_seconds']:.1f} s", f"{train['return_mean']:.1f}",
        f"{small['size_bytes']:,} B", f"×{small['teacher_size_bytes'] / small['size_bytes']:.0f}",
        f"×{small['teacher_macs'] / small['macs']:.0f}",
        f"≥ {kept:.2%} {'certified' if certificate['certified'] else 'REFUSED'}", certificate["episodes"],
        f"{p50 * 1000:.0f} ns", f"{result['seconds']:.0f} s",
    ]  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def slim(result: dict[str, Any]) -> dict[str, Any]:
    """Percentiles in place of histograms."""
    if "bench" not in result:
        return result
    rows = [{key: value for key, value in r.items() if key != "histogram"} for r in result["bench"]["rows"]]
    return result | {"bench": result["bench"] | {"rows": rows}}


def table(record: Record, names: list[str]) -> str:
    """Markdown."""
    return HEADER + "\n".join(record.rows(names, row, 11))


def main() -> None:
    """Run all, write the table after each so that a stop loses nothing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--envs", nargs="+", default=["CartPole-v1", "LunarLander-v3"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--runs", type=Path, default=None, help="keep the run directories here")
    parser.add_argument("--fresh", action="store_true", help="measure again what is there")
    args = parser.parse_args()
    record = Record(RESULTS / "line.json", args.fresh)
    planned = {f"{env} seed{seed}": (env, seed) for env in args.envs for seed in args.seeds}
    with tempfile.TemporaryDirectory() as scratch:
        for name, (env, seed) in planned.items():
            out = (args.runs or Path(scratch)) / env / f"seed{seed}"
            print(row(name, record.measure(name, partial(one, env, seed, out))), flush=True)
            text = table(record, list(planned))
            write_bytes(RESULTS / "line.md", f"{text}\n\n{record.footnote()}\n".encode())
            into_readme("line", text)
            if seed == args.seeds[0] and out.exists():
                write_frontier_svg(RunDir(out), RESULTS / f"frontier-{env}.svg")


if __name__ == "__main__":
    main()
