"""``nimbleq certify``: certify on fresh seeds that an artefact keeps its share of the teacher's return, or refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from nimbleq.config import EnvConfig
from nimbleq.console import Console
from nimbleq.deploy.on_target import OnTarget, on_target
from nimbleq.errors import ConfigError, FileError
from nimbleq.files import exclusive_lock
from nimbleq.graph.artefact import attach_certificate, digest, load_artefact, read_certificate
from nimbleq.graph.artefact_files import certificate_file
from nimbleq.rundir import RunDir
from nimbleq.types import Policy
from nimbleq.verbs.certify_cells import Cell, cells_of, certify_cells
from nimbleq.verbs.certify_limit import asked_limit, certify_limit_of
from nimbleq.verbs.common import (
    Output,
    artefact_of_run,
    keep_result,
    load_teacher,
    run_env,
    say_unread_masks,
    teacher_words,
)
from nimbleq.verbs.policies import playing

if TYPE_CHECKING:
    from nimbleq.compress.certify import Certificate, ReturnRange

MAX_EPISODES = 4_000


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """Play teacher, artefact and random play on the same new seeds and certify the artefact, or not (exit 1).

    An unfinished test plays on where it stopped; certificate.json holds every return. A target that rounds by itself
    (executorch, litert, onnx-qdq) is only certified if its own runtime plays: --target.

    Attributes:
        artefact: artefact folder, or a run directory with one compressed artefact.
        keep: share of the teacher's return (above random play) to keep (default: what it was compressed for).
        return_range: low,high: the range of the returns (default: by the rules of the environment, else wider than the
            returns seen before).
        fresh: an independent test on unpredictable seeds; the certificate keeps both.
        max_episodes: play at most this many more episodes.
        workers: processes that play episodes.
        target: play the student with the runtime of this target; its certificate lies in certificate-TARGET.json.
        measure: certify this quantity of the environment in place of the return: info:NAME is the largest info[NAME]
            of an episode (info:NAME:mean, info:NAME:last), which has to be in [0, 1]; no teacher is needed.
        at_most: the mean of the measure is at most this.
        at_least: the mean of the measure is at least this.
        vary: certify in variations of the environment, NAME=LOW:HIGH (the middles of five equal parts), NAME=LOW:HIGH:N
            or NAME=a,b,c for an argument of it; several make a grid. All of them have to be certified.
    """

    artefact: Annotated[Path, tyro.conf.Positional]
    keep: float | None = None
    return_range: str | None = None
    fresh: bool = False
    max_episodes: int = MAX_EPISODES
    workers: int = 2
    target: str | None = None
    measure: str | None = None
    at_most: float | None = None
    at_least: float | None = None
    vary: tuple[str, ...] = ()


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """Play on, or start."""
    from nimbleq.compress.certify import ALPHA

    limit = asked_limit(args.measure, args.at_most, args.at_least)
    if limit is not None and (args.keep is not None or args.return_range is not None):
        raise ConfigError("--measure needs no --keep and no --return-range: it is about the policy alone, in [0, 1]")
    if args.target is not None and (limit is not None or args.vary):
        raise ConfigError("--target cannot be combined with --measure or --vary")
    path, run = artefact_of_run(args.artefact, "there is no teacher and no environment to compare it in")
    with exclusive_lock(run.path, read_only=True):
        say_unread_masks(run_env(run), console)
        asked = (args.keep, args.max_episodes, args.workers, args.return_range)

        def judged(cell: Cell | None) -> dict[str, Any]:
            if limit is None:
                return certify_run(path, run, console, *asked, fresh=args.fresh, cell=cell)
            budget = (args.max_episodes, args.workers)
            return certify_limit_of(path, run, console, limit, *budget, fresh=args.fresh, cell=cell)

        if args.vary:
            result, certified = certify_cells(cells_of(args.vary, ALPHA), judged, console)
            keep_result(run, "certify-vary", result, console)
            return result, certified
        if limit is not None:
            result = judged(None)
            keep_result(run, "certify-measure", result, console)
        elif args.target is not None:
            with on_target(load_artefact(path), args.target) as policy:
                result = certify_run(path, run, console, *asked, fresh=args.fresh, target=(args.target, policy))
        else:
            result = judged(None)
            keep_result(run, "certify", result, console)
    return result, bool(result["certified"])


def certify_run(
    artefact: Path,
    run: RunDir,
    console: Console,
    keep: float | None = None,
    max_episodes: int = MAX_EPISODES,
    workers: int = 2,
    return_range: str | None = None,
    *,
    fresh: bool = False,
    target: tuple[str, OnTarget] | None = None,
    cell: Cell | None = None,
) -> dict[str, Any]:
    """Certify one artefact of ``run`` and save every return in it; returns the verb's JSON object.

    Args:
        target: what plays in place of the graph, and the target's name.
        cell: a variation of the environment to play in.
    """
    from nimbleq.compress.certify import ALPHA, Attempts, certify, check_keep, record
    from nimbleq.compress.certify.stream import graph_hash
    from nimbleq.rl.envs.engines import useful_workers
    from nimbleq.rl.training.evaluate import Evaluator

    student, teacher = load_artefact(artefact), load_teacher(run)
    if student.graph.obs_type != teacher.graph.obs_type or student.graph.actions != teacher.graph.actions:
        raise FileError(f"{artefact} and {run.teacher} are not policies for the same environment")
    name = cell.file if cell is not None else "" if target is None else target[0]
    known = read_certificate(artefact, name) if name else student.certificate
    own = graph_hash(student.graph)
    stand_in: tuple[Policy, str] | None = None
    if cell is not None:
        policy, hashed = playing(student)
        stand_in = policy, cell.student(hashed)
    elif target is not None:
        if student.guard is not None:
            raise ConfigError(
                f"{artefact} has a guard, which --target {name} does not run: certify it without --target"
            )
        stand_in = target[1], target[1].hash(own)
    elif student.guard is not None:
        stand_in = playing(student)
    student_hash = own if stand_in is None else stand_in[1]
    earlier = [
        one
        for one in _attempts(artefact / certificate_file(name), known, console)
        if target is None or one.claim.student == student_hash
    ]
    asked = keep if keep is not None else (known or student.certificate or {}).get("keep", 0.99)
    check_keep(asked)
    env = run_env(run) if cell is None else cell.env(run_env(run))
    teacher_digest = digest(run.teacher)
    who = teacher_words(run)
    if who:
        console.say(who)

    attempts, unwritten = Attempts(run.attempts), list[FileError]()
    spent = attempts.last(student_hash)

    def start(begun: Certificate) -> None:
        say_start(begun, console)
        if begun.claim.attempt > spent:
            written(lambda: attempts.note(begun.claim.sequence, begun.claim.attempt))

    def save(made: Certificate) -> None:
        others = [one for one in earlier if one.claim.attempt != made.claim.attempt]
        content = record([*others, made]) | {"teacher_digest": teacher_digest, "guarded": student.guard is not None}
        content |= {"teacher": who} if who else {}
        content |= {} if cell is None else {"vary": str(cell)}
        if target is not None:
            content |= {"target": {"name": name, "run": target[1].label, "files": list(target[1].files)}}
        written(lambda: attach_certificate(artefact, content, name))

    def written(write: Callable[[], object]) -> None:
        try:
            write()
        except FileError as error:  # the verdict is shown even if it cannot be saved
            if not unwritten:
                console.say(f"{error}; the verdict is shown but not saved")
            unwritten.append(error)

    several = useful_workers(env, workers) if target is None else 1
    with Evaluator(env, workers=several) as evaluate, console.progress("certify") as tick:
        made = certify(
            teacher.graph,
            student.graph,
            evaluate,
            asked,
            return_range=range_of(return_range, env),
            earlier=earlier,
            spent=spent,
            fresh=fresh,
            alpha=ALPHA if cell is None else cell.alpha,
            max_episodes=max_episodes,
            stand_in=stand_in,
            on_start=start,
            on_batch=save,
            tick=tick,
        )
    player = "" if target is None else f"{target[1].label}: "
    player += "" if student.guard is None else "behind its guard: "
    console.say(player + made.reason)
    return {
        "artefact": str(artefact),
        "artefact_digest": student.digest,
        **summary(made),
        "teacher_digest": teacher_digest,
        "stored": not unwritten,
        **({"teacher": who} if who else {}),
        "guarded": student.guard is not None,
        **({} if target is None else {"target": name}),
    }


def range_of(stated: str | None, env: EnvConfig) -> ReturnRange | None:
    """The range that the user stated, else the one from the rules of the environment, else None."""
    from nimbleq.compress.certify import ReturnRange, stated_range
    from nimbleq.rl.envs.return_range import known_range

    if stated is not None:
        return stated_range(stated)
    known = known_range(env)
    return None if known is None else ReturnRange(*known)


def summary(made: Certificate) -> dict[str, Any]:
    """The certificate without the returns behind it and their curve, which are in certificate.json."""
    return {name: value for name, value in made.to_dict().items() if name not in ("returns", "wealth_curve")}


def say_start(begun: Certificate, console: Console, of: str = "") -> None:
    """Before the first episode: print what is known, the assumed range, and about how many episodes it takes."""
    claim, played = begun.claim, len(begun.returns)
    low, high = claim.return_range.ends
    console.say(f"{of}assumed range of returns: {low:.6g} … {high:.6g}: {claim.return_range.source}")
    needed = [
        f"{row['episodes']:,} at keep = {row['keep']:g}" if row["episodes"] else f"no number at keep = {row['keep']:g}"
        for row in begun.forecast
    ]
    if needed:
        console.say(f"a student without loss needs about {', '.join(needed)} (attempt {claim.attempt})")
    if played:
        done = "already certified" if begun.certified else "the test plays on from there"
        console.say(f"{played:,} episodes of this test have been played; {done} (--fresh: an independent test)")


def _attempts(file: Path, stored: dict[str, Any] | None, console: Console) -> list[Certificate]:
    """The attempts so far; a certificate of the older kind does not count."""
    from nimbleq.compress.certify import attempts_of, verify_certificate

    if stored is not None and "returns" not in stored:
        console.say(
            f"{file.parent}: its certificate is of an older kind, whose error was larger than stated: "
            "it is certified again"
        )
        return []
    try:
        if stored is not None:
            verify_certificate(stored)
        return attempts_of(stored)
    except FileError as error:
        raise FileError(f"{file}: {error}") from None
