"""Every target's guard against the reference's, period by period of control loops with faults."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nimbleq.deploy.periods import Periods
from nimbleq.deploy.target import GuardRun, Source
from nimbleq.types import Array

PERIODS = 10_000
"""Of a verification."""


def guard_mismatches(
    source: Source, near: Array, runs: Mapping[str, GuardRun], periods: int = PERIODS,
    most: Mapping[str, int] | None = None,
) -> dict[str, tuple[int, int]]:  # fmt: skip
    """Run → periods, and those of them with another standby action, action or fault than the reference's.

    Args:
        source: of a policy with a guard.
        near: ``[K, *O]`` observations of the policy.
        runs: how to run the guard.
        most: periods that one of ``runs`` takes; all where it is not named.
    """
    assert source.guard is not None
    made = Periods.of(np.random.default_rng(periods), source.graph, source.guard, near, periods)
    found = {}
    for name, run in runs.items():
        given = made.part(min(periods, (most or {}).get(name, periods)))
        standby, action, faults = run(given)
        wrong = (standby != given.standby) | (action != given.action) | (faults != given.faults)
        found[name] = len(wrong), int(wrong.sum())
    return found
