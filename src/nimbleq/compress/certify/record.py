"""``certificate.json``: all attempts about one student, written, read, and recomputed from their returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isclose
from typing import Any

import numpy as np

from nimbleq.compress.certify.certificate import Certificate, Claim
from nimbleq.compress.certify.ranges import ReturnRange
from nimbleq.compress.certify.stream import PairedReturns
from nimbleq.compress.certify.wealth import Verdict
from nimbleq.errors import ConfigError, FileError

_MOST_ATTEMPTS = 400  # the share of α of a later one is no float64 any more
_RETURNS = ("teacher", "student", "random")


def record(attempts: Sequence[Certificate]) -> dict[str, Any]:
    """What ``certificate.json`` says: the attempt that stands, and every other one ``beside`` it."""
    stands = standing(attempts)
    return {**stands.to_dict(), "beside": [one.to_dict() for one in attempts if one is not stands]}


def standing(attempts: Sequence[Certificate]) -> Certificate:
    """The certified attempt of the largest keep, else the last one; independent tests stand beside it."""
    own = [one for one in attempts if not one.claim.fresh] or list(attempts)
    certified = [one for one in own if one.certified]
    return max(certified, key=lambda one: one.claim.keep) if certified else own[-1]


def attempts_of(stored: Mapping[str, Any] | None) -> list[Certificate]:
    """The attempts in a ``certificate.json``, in the order in which they were made.

    Raises:
        FileError: it is not a certificate of this kind: an older nimbleq made it, or somebody changed it.
    """
    if stored is None:
        return []
    if "returns" not in stored:
        raise FileError("the certificate is of an older kind, without the returns behind it: certify again")
    beside = stored.get("beside", [])
    if not isinstance(beside, list):
        raise FileError("the certificate is damaged: 'beside' is no list")
    return sorted((_from_dict(one) for one in (stored, *beside)), key=lambda one: one.claim.attempt)


def verify_certificate(stored: Mapping[str, Any]) -> Verdict:
    """Recompute the verdict of a ``certificate.json`` from the returns in it, for each attempt.

    Returns:
        The verdict of the attempt that stands.

    Raises:
        FileError: the file says something else than its returns show, or lacks them.
    """
    attempts_of(stored)
    for one in (stored, *stored.get("beside", [])):
        made = _from_dict(one)
        verdict = made.verdict
        for name, value in (
            ("certified", verdict.certified),
            ("episodes", verdict.episodes),
            ("wealth", verdict.wealth),
            ("alpha", made.claim.alpha),
        ):
            stated = one.get(name)
            if stated != value and not (isinstance(stated, float) and isclose(stated, value, rel_tol=1e-9)):
                raise FileError(f"the certificate says {name} = {stated}, its returns give {value}")
    return _from_dict(stored).verdict


def _from_dict(stored: Mapping[str, Any]) -> Certificate:
    try:
        low, high = stored["return_range"]
        made = stored["returns"]
        seeds = np.array(made["seeds"], np.int64)
        returns = {name: np.array(made[name], np.float64) for name in _RETURNS}
        if any(values.shape != seeds.shape for values in returns.values()) or len(set(seeds.tolist())) != seeds.size:
            raise ValueError("its seeds and returns do not belong together")
        attempt, purpose, nonce = int(stored["attempt"]), stored["seeds"]["purpose"], int(stored["seeds"]["nonce"])
        if not 1 <= attempt <= _MOST_ATTEMPTS or purpose not in ("certify", "recertify") or nonce < 0:
            raise ValueError(f"there is no attempt {attempt} on the stream {purpose!r} {nonce}")
        claim = Claim(
            keep=float(stored["keep"]),
            return_range=ReturnRange(float(low), float(high), str(stored["return_range_source"])),
            attempt=attempt,
            total_alpha=float(stored["total_alpha"]),
            purpose=purpose,
            nonce=nonce,
            teacher=str(stored["teacher_graph"]),
            student=str(stored["student_graph"]),
            fresh=bool(stored["fresh"]),
        )
        crashed = tuple((str(who), int(seed)) for who, seed in made["crashed"])
        found = Certificate(
            claim, PairedReturns(seeds, **returns, crashed=crashed), float(stored["action_flips"]),
            tuple(int(action) for action in stored["dead_actions"]), tuple(dict(row) for row in stored["forecast"]),
        )  # fmt: skip
        found.verdict  # noqa: B018  (refuses what cannot be judged)
        return found
    except (KeyError, TypeError, ValueError, OverflowError, ConfigError) as error:
        raise FileError(f"the certificate is damaged ({error}): certify again") from None
