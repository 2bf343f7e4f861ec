"""``nimbleq report``: run directory → one HTML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from nimbleq.console import Console
from nimbleq.report.read import main_artefact
from nimbleq.rundir import open_run
from nimbleq.verbs.common import Output


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """Write one self-contained HTML file about a run; where it has several compressed artefacts, one about each.

    Attributes:
        run: run directory.
    """

    run: Annotated[Path, tyro.conf.Positional]


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """Write it and say where."""
    from nimbleq.report import write_report

    run = open_run(args.run)
    pages = [str(write_report(run))]
    main_one = main_artefact(run)
    pages += [str(write_report(run, name)) for name in run.artefacts() if name != main_one]
    for page in pages:
        console.say(f"report: {page}")
    return {"run": str(args.run), "report": pages[0], "pages": pages}, True
