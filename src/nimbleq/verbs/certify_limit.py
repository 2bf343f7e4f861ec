"""``nimbleq certify --measure info:NAME --at-most Q``: a bound on what people fear, for the policy alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nimbleq.console import Console
from nimbleq.errors import ConfigError
from nimbleq.graph.artefact import attach_certificate, load_artefact, read_certificate
from nimbleq.rundir import RunDir
from nimbleq.verbs.certify_cells import Cell
from nimbleq.verbs.common import run_env
from nimbleq.verbs.policies import playing

if TYPE_CHECKING:
    from nimbleq.compress.certify.limit import Limit, LimitCertificate
    from nimbleq.rl.envs.measured import Measure


def asked_limit(measure: str | None, at_most: float | None, at_least: float | None) -> tuple[Measure, Limit] | None:
    """The claim of these options; None where none of them is given.

    Raises:
        ConfigError: they do not make one.
    """
    from nimbleq.compress.certify.limit import Limit
    from nimbleq.rl.envs.measured import Measure

    if measure is None:
        if at_most is not None or at_least is not None:
            raise ConfigError("--at-most and --at-least bound a quantity: name it with --measure info:NAME")
        return None
    if (at_most is None) == (at_least is None):
        raise ConfigError("--measure needs either --at-most or --at-least")
    parsed = Measure.parse(measure)
    bound = at_most if at_most is not None else at_least
    assert bound is not None
    return parsed, Limit(str(parsed), bound, at_most is not None)


def certify_limit_of(
    artefact: Path,
    run: RunDir,
    console: Console,
    asked: tuple[Measure, Limit],
    max_episodes: int,
    workers: int,
    *,
    fresh: bool = False,
    cell: Cell | None = None,
) -> dict[str, Any]:
    """Certify the bound and save every value of it beside the artefact; returns the verb's JSON object."""
    from nimbleq.compress.certify import ALPHA, Attempts
    from nimbleq.compress.certify.limit import certify_limit, forecast, limits_of, record_limits
    from nimbleq.compress.certify.stream import Player
    from nimbleq.rl.envs.measured import MeasuredEnv
    from nimbleq.rl.training.evaluate import Evaluator

    measure, limit = asked
    student = load_artefact(artefact)
    policy, own = playing(student)
    known = own if cell is None else cell.student(own)
    env = run_env(run) if cell is None else cell.env(run_env(run))
    name = re.sub(r"[^A-Za-z0-9.]+", "-", limit.measure) + ("" if cell is None else f"-{cell.file}")
    name += "" if limit.at_most else "-at-least"
    earlier = limits_of(read_certificate(artefact, name))
    attempts = Attempts(run.attempts)
    spent = attempts.last(limit.student(known))

    def start(begun: LimitCertificate) -> None:
        needed = forecast(limit, begun.claim.alpha)
        console.say(
            f"{limit.words}: a policy that never loses any needs about {needed:,} episodes "
            f"(attempt {begun.claim.attempt})"
        )
        if begun.claim.attempt > spent:
            attempts.note(begun.claim.sequence, begun.claim.attempt)

    def save(made: LimitCertificate) -> None:
        others = [one for one in earlier if one.claim.attempt != made.claim.attempt]
        attach_certificate(artefact, record_limits([*others, made]), name)

    with Evaluator(MeasuredEnv.of(env, measure), workers=workers) as evaluate, console.progress("certify") as tick:
        made = certify_limit(
            limit, known, Player(policy, evaluate, limit.worst), earlier=earlier, spent=spent, fresh=fresh,
            alpha=ALPHA if cell is None else cell.alpha, max_episodes=max_episodes, on_start=start, on_batch=save,
            tick=tick,
        )  # fmt: skip
    console.say(made.reason)
    facts = {key: value for key, value in made.to_dict().items() if key != "values"}
    return {"artefact": str(artefact), "artefact_digest": student.digest, **facts}
