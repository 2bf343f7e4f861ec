"""``nimbleq verify``: an export against the reference interpreter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from nimbleq.console import Console
from nimbleq.rundir import RunDir
from nimbleq.verbs.common import Output


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """Compile and run what export wrote, on the golden and on random observations; exit 1 on any mismatch.

    Attributes:
        build: folder that nimbleq export wrote.
        observations: random observations beside the golden ones.
    """

    build: Annotated[Path, tyro.conf.Positional]
    observations: int = 100_000


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """Verify every target of the build."""
    result = verify_folder(args.build, console, args.observations)
    run = RunDir(args.build.parent)
    if run.config.exists():  # the build of a run: its report tells of it
        run.save_result("verify", result)
    return result, not result["mismatches"]


def verify_folder(build: Path, console: Console, observations: int = 100_000) -> dict[str, Any]:
    """Verify one build; returns the verb's JSON object."""
    from nimbleq.deploy.verify import verify_build

    with console.progress("verify") as tick:
        result = verify_build(build, observations, tick).to_dict()
    rows = [
        [row["target"], f"{row['observations']:,}", str(row["mismatches"]), f"{row['max_q_error']:.2g}"]
        for row in result["targets"]
    ]
    console.table(f"{build} against the interpreter", ("target", "observations", "mismatches", "largest |Δq|"), rows)
    return {"build": str(build), **result}
