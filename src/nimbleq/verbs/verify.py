"""``nimbleq verify``: an export against the reference interpreter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from nimbleq.console import Console
from nimbleq.errors import ConfigError
from nimbleq.graph.artefact import digest
from nimbleq.graph.artefact_files import MODEL
from nimbleq.rundir import RunDir
from nimbleq.verbs.common import Output, keep_result


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """Compile and run what export wrote, on the golden and on random observations; exit 1 on any mismatch.

    Attributes:
        build: folder that nimbleq export wrote.
        observations: random observations, in addition to the golden ones.
    """

    build: Annotated[Path, tyro.conf.Positional]
    observations: int = 100_000


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """Verify every target of the build."""
    result = verify_folder(args.build, console, args.observations)
    if not result["targets"]:
        raise ConfigError(f"nothing of {args.build} can be run here: {'; '.join(result['skipped'].values())}")
    keep_result(run_of_build(args.build), "verify", result, console)
    return result, not result["mismatches"]


def run_of_build(build: Path) -> RunDir | None:
    """The run that a build is inside."""
    run = RunDir(build.parent)
    return run if run.config.exists() else None


def verify_folder(build: Path, console: Console, observations: int = 100_000) -> dict[str, Any]:
    """Verify one build; returns the verb's JSON object."""
    from nimbleq.deploy.export import MANIFEST, load_build
    from nimbleq.deploy.verify import verify_build

    if not (build / MANIFEST).exists() and (build / MODEL).exists():
        raise ConfigError(f"{build} is an artefact: export it first with nimbleq export {build}, then verify the build")
    with console.progress("verify") as tick:
        result = verify_build(build, observations, tick).to_dict()
    rows = [
        [row["target"], f"{row['observations']:,}", str(row["mismatches"]), f"{row['max_q_error']:.2g}"]
        for row in result["targets"]
    ]
    console.table(f"{build} against the interpreter", ("target", "observations", "mismatches", "largest |Δq|"), rows)
    for row in result["targets"]:
        differing = row["mismatches"] + row["differences"]
        if row["rounds"] and differing:
            said = "it was certified so" if row["differences"] else "nimbleq certify --target plays and judges it"
            console.say(f"{row['target']} rounds by itself: {differing:,} other actions; {said}")
    for target, why in result["skipped"].items():
        console.say(f"{target} was not verified: {why}")
    about: dict[str, Any] = {"build": str(build), "artefact_digest": load_build(build)[1].digest}
    run = run_of_build(build)
    return about | (_artefact_with(run, about["artefact_digest"]) if run is not None else {}) | result


def _artefact_with(run: RunDir, wanted: str) -> dict[str, str]:
    """Name of the run's artefact that was exported; empty if it is gone."""
    names = [name for name in run.artefacts() if digest(run.artefact(name)) == wanted]
    return {"artefact": str(run.artefact(names[0]))} if names else {}
