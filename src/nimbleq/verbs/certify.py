"""``nimbleq certify``: show on fresh seeds that an artefact keeps its share of the teacher's return, or refuse."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from nimbleq.console import Console
from nimbleq.errors import FileError
from nimbleq.files import exclusive_lock
from nimbleq.graph.artefact import attach_certificate, digest, load_artefact
from nimbleq.rundir import RunDir
from nimbleq.verbs.common import Output, artefact_of_run, keep_result, load_teacher, run_env


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """Play teacher and artefact on the same fresh seeds and certify the artefact, or refuse (exit 1).

    Attributes:
        artefact: artefact folder, or a run directory with one compressed artefact.
        keep: share of the teacher's return (above random play) to keep (default: what it was compressed for).
        max_episodes: refuse rather than play more than this.
        workers: processes that play.
    """

    artefact: Annotated[Path, tyro.conf.Positional]
    keep: float | None = None
    max_episodes: int = 4_000
    workers: int = 2


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """Re-check with a nonce that nobody has seen."""
    path, run = artefact_of_run(args.artefact, "there is no teacher and no environment to compare it in")
    with exclusive_lock(run.path, read_only=True):
        result = certify_run(path, run, console, args.keep, args.max_episodes, args.workers)
        keep_result(run, "certify", result, console)
    return result, bool(result["certified"])


def certify_run(
    artefact: Path,
    run: RunDir,
    console: Console,
    keep: float | None = None,
    max_episodes: int = 4_000,
    workers: int = 2,
) -> dict[str, Any]:
    """Certify one artefact of ``run`` and attach the verdict to it; returns the verb's JSON object."""
    from nimbleq.compress.certify import certify, check_keep
    from nimbleq.rl.evaluate import Evaluator

    student, teacher = load_artefact(artefact), load_teacher(run)
    if student.graph.obs_type != teacher.graph.obs_type or student.graph.actions != teacher.graph.actions:
        raise FileError(f"{artefact} and {run.teacher} are not policies for the same environment")
    asked = keep if keep is not None else (student.certificate or {}).get("keep", 0.99)
    check_keep(asked)
    with Evaluator(run_env(run), workers=workers) as evaluate, console.progress("certify") as tick:
        certificate = certify(
            teacher.graph,
            student.graph,
            evaluate,
            asked,
            purpose="recertify",
            nonce=secrets.randbits(48),
            max_episodes=max_episodes,
            tick=tick,
        ).to_dict()
    certificate["teacher_digest"] = digest(run.teacher)
    console.say(certificate["reason"])
    try:
        attach_certificate(artefact, (student.certificate or {}) | certificate)
    except FileError as error:
        console.say(f"the certificate is not kept: {error}")
    return {"artefact": str(artefact), "artefact_digest": student.digest, **certificate}
