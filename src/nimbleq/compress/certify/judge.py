"""Judging: claims are fixed, episodes are played in the order of their seeds, and a stopped test plays on."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

import numpy as np

from nimbleq.compress.certify.certificate import Certificate, Claim
from nimbleq.compress.certify.forecast import Pilot, forecasts
from nimbleq.compress.certify.ranges import ReturnRange, observed_range
from nimbleq.compress.certify.stream import (
    Player,
    Players,
    graph_hash,
    no_returns,
    random_player,
    stream_nonce,
    stream_seeds,
)
from nimbleq.compress.certify.wealth import ALPHA, attempt_alpha, check_alpha, check_keep
from nimbleq.compress.states import compare_in_play
from nimbleq.errors import ConfigError
from nimbleq.graph.graph import Graph
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.seeds import episode_seeds
from nimbleq.types import Array, Evaluate, Policy, Tick, no_tick

MAX_EPISODES = 4_000
_BATCH = 200
_PILOT_EPISODES = 200
_STATES = 4_096
_STATE_EPISODES = 8

OnBatch = Callable[[Certificate], None]
StandIn = tuple[Policy, str]
"""What plays a student, e.g. the runtime of a target, and a hash of all that decides what it answers."""


def certify(
    teacher: Graph,
    student: Graph,
    evaluate: Evaluate,
    keep: float = 0.99,
    *,
    return_range: ReturnRange | tuple[float, float] | None = None,
    earlier: Sequence[Certificate] = (),
    spent: int = 0,
    fresh: bool = False,
    alpha: float = ALPHA,
    max_episodes: int = MAX_EPISODES,
    stand_in: StandIn | None = None,
    on_start: OnBatch | None = None,
    on_batch: OnBatch | None = None,
    tick: Tick = no_tick,
) -> Certificate:
    """Show that ``student`` keeps the share ``keep`` of the teacher's return over random play, or refuse.

    Asked again with what was stored, it plays on: the same claim on the same stream of seeds. Any other claim is a new
    attempt on new seeds, with its own share of ``alpha`` (`attempt_alpha`).

    Args:
        teacher: the policy to keep up with.
        student: a policy for the same environment.
        evaluate: plays episodes.
        keep: in (0, 1].
        return_range: between which returns lie (None: that of an earlier attempt, else what a pilot of teacher, student
            and random play shows, widened).
        earlier: the attempts about this student that can play on.
        spent: attempts about it so far, also those that were lost.
        fresh: an independent test on seeds that nobody could foresee, which stands beside the certificate.
        alpha: chance of certifying a student that is worse than allowed, all attempts together.
        max_episodes: played at most by this call.
        stand_in: plays in place of the student's graph.
        on_start: receives the certificate, with its forecast, before the first episode of this call.
        on_batch: receives it after every batch: what was played can be saved.
        tick: progress in episodes.

    Raises:
        ConfigError: a setting is out of range, or the range does not hold what the pilot returned.
        EnvError: the environment fails.
    """
    check_keep(keep)
    check_alpha(alpha)
    if max_episodes < 1:
        raise ConfigError(f"max_episodes is at least 1, not {max_episodes}")
    if isinstance(return_range, tuple):
        return_range = ReturnRange(*return_range, "stated by the caller")
    policy, own = stand_in or (GraphPolicy(student), graph_hash(student))
    hashes = graph_hash(teacher), own
    found = None if fresh else _same_claim(earlier, hashes, keep, return_range, alpha)
    if found is None:
        tick(0, 1, "pilot")
        found = _new_attempt(
            teacher, student, policy, evaluate, keep, return_range, earlier, spent, hashes, fresh, alpha
        )
    if on_start is not None:
        on_start(found)
    used = np.concatenate([np.zeros(0, np.int64), *(one.returns.seeds for one in earlier)])
    return play_on(found, _players(teacher, policy, evaluate, found.claim), max_episodes, used, on_batch, tick)


def play_on(
    certificate: Certificate,
    players: Players,
    max_episodes: int,
    used: Array | None = None,
    on_batch: OnBatch | None = None,
    tick: Tick = no_tick,
) -> Certificate:
    """Play at most ``max_episodes`` more of the claim's stream, until the verdict is there or hope is gone.

    Stopping whenever one likes costs no error.

    Args:
        used: seeds of other attempts, which the stream leaves out.
    """
    claim, start = certificate.claim, len(certificate.returns)
    used = np.zeros(0, np.int64) if used is None else used
    expected = certificate.forecast[0]["episodes"] if certificate.forecast else None
    total = min(max_episodes, max(1, (expected or max_episodes) - start))
    while not certificate.over() and len(certificate.returns) - start < max_episodes:
        played = len(certificate.returns)
        tick(played - start, max(total, played - start + 1), "certifying")
        count = min(_BATCH, max_episodes - (played - start))
        seeds = stream_seeds(claim.purpose, claim.nonce, count, np.union1d(used, certificate.returns.seeds))
        certificate = certificate.with_more(players(seeds))
        if on_batch is not None:
            on_batch(certificate)
        if certificate.hopeless() or not certificate.verdict.teacher_above_random:
            break
    return certificate


def _same_claim(
    earlier: Sequence[Certificate],
    hashes: tuple[str, str],
    keep: float,
    return_range: ReturnRange | None,
    alpha: float,
) -> Certificate | None:
    """The attempt that is asked for again: one that already shows the claim (or more), or one that can play on."""
    same = [
        one for one in earlier
        if not one.claim.fresh
        and (one.claim.teacher, one.claim.student, one.claim.total_alpha) == (*hashes, alpha)
        and (return_range is None or return_range.ends == one.claim.return_range.ends)
    ]  # fmt: skip
    shown = [one for one in same if one.certified and one.claim.keep >= keep]
    if shown:
        return max(shown, key=lambda one: one.claim.keep)
    return next((one for one in reversed(same) if one.claim.keep == keep and not one.over()), None)


def _new_attempt(
    teacher: Graph,
    student: Graph,
    policy: Policy,
    evaluate: Evaluate,
    keep: float,
    return_range: ReturnRange | None,
    earlier: Sequence[Certificate],
    spent: int,
    hashes: tuple[str, str],
    fresh: bool,
    alpha: float,
) -> Certificate:
    """Everything that is fixed before the first certifying episode."""
    attempt = 1 + max((spent, *(one.claim.attempt for one in earlier)))
    nonce = stream_nonce([hashes[1]], attempt, secrets.randbits(64) if fresh else 0)
    pilot = play_pilot(teacher, policy, evaluate, nonce)
    extent = return_range or _known_range(earlier, hashes, pilot)
    lowest = min(float(returns.min()) for returns in (pilot.teacher, pilot.student, pilot.random))
    if lowest < extent.low:
        raise ConfigError(
            f"the range of returns {extent.low:g} … {extent.high:g} ({extent.source}) does not hold what episodes "
            f"return: {lowest:g} was seen; state one that does with --return-range low,high"
        )
    claim = Claim(
        keep=keep, return_range=extent, attempt=attempt, total_alpha=alpha,
        purpose="recertify" if fresh else "certify", nonce=nonce, teacher=hashes[0], student=hashes[1], fresh=fresh,
    )  # fmt: skip
    return start_of(claim, pilot, teacher, student, evaluate)


def start_of(claim: Claim, pilot: Pilot, teacher: Graph, student: Graph, evaluate: Evaluate) -> Certificate:
    """The certificate before its first episode: the forecast, and how the two differ on states the student visits."""
    seeds = episode_seeds("pilot", claim.nonce, _STATE_EPISODES)
    compared = compare_in_play(teacher, student, evaluate, seeds, _STATES)
    forecast = forecasts(pilot, claim.keep, claim.return_range.span, attempt_alpha(claim.attempt, claim.total_alpha))
    return Certificate(claim, no_returns(), compared.action_flips, compared.dead_actions, tuple(forecast))


def play_pilot(teacher: Graph, student: Policy, evaluate: Evaluate, nonce: int) -> Pilot:
    """Episodes that certify nothing: the forecast and, where nothing else does, the range come from them."""
    seeds = episode_seeds("pilot", nonce, _PILOT_EPISODES)
    low = float(random_player(evaluate)(seeds[:1])[0])
    players = Player(GraphPolicy(teacher), evaluate, low), Player(student, evaluate, low)
    return Pilot(*(player(seeds) for player in (*players, random_player(evaluate, low))))


def _known_range(earlier: Sequence[Certificate], hashes: tuple[str, str], pilot: Pilot) -> ReturnRange:
    """That of the last attempt about the same two policies, unless it was breached; else what was seen, widened."""
    same = [one for one in earlier if (one.claim.teacher, one.claim.student) == hashes]
    if same and same[-1].verdict.breach is None:
        return same[-1].claim.return_range
    seen = [returns for one in same for returns in (one.returns.teacher, one.returns.student, one.returns.random)]
    episodes = f"{len(pilot.teacher)} episodes each of teacher, student and random play that certify nothing"
    before = " and those of earlier attempts" if seen else ""
    return observed_range(pilot.teacher, pilot.student, pilot.random, *seen, of=episodes + before)


def _players(teacher: Graph, student: Policy, evaluate: Evaluate, claim: Claim) -> Players:
    low = claim.return_range.low
    return Players(
        Player(GraphPolicy(teacher), evaluate, low),
        Player(student, evaluate, low),
        random_player(evaluate, low),
    )
