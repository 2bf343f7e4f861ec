"""``nimbleq report``: run directory → one HTML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from nimbleq.console import Console
from nimbleq.rundir import open_run
from nimbleq.verbs.common import Output


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """Write one self-contained HTML file about a run.

    Attributes:
        run: run directory.
    """

    run: Annotated[Path, tyro.conf.Positional]


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """Write it and say where."""
    from nimbleq.report import write_report

    path = write_report(open_run(args.run))
    console.say(f"report: {path}")
    return {"run": str(args.run), "report": str(path)}, True
