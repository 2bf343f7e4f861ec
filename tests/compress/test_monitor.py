"""The field monitor: false alarms at the boundary are rare for ever, and a fall is noticed."""

from __future__ import annotations

import numpy as np
import pytest

from nimbleq.compress.certify.monitor import Monitor, Promise
from nimbleq.errors import ConfigError

PROMISE = Promise(100.0, 200.0, "a test")
DRAWS = {
    "two values": lambda rng, n, mean: np.where(rng.random(n) < mean / 200, 200.0, 0.0),
    "narrow": lambda rng, n, mean: rng.uniform(mean - 20, mean + 20, n),
    "rare crashes": lambda rng, n, mean: mean + 8 - 800 * (rng.random(n) < 0.01),
}


def alarm(returns: np.ndarray) -> int | None:
    monitor = Monitor(PROMISE)
    for total in returns:
        if monitor.add(float(total)):
            return monitor.alarm
    return None


@pytest.mark.parametrize("draw", DRAWS)
def test_false_alarms_at_the_boundary_are_at_most_five_percent(draw: str) -> None:
    """The mean is exactly what was certified, the worst that is still as promised. 200 monitors, 300 episodes each."""
    rng = np.random.default_rng(3)
    false = sum(alarm(DRAWS[draw](rng, 300, 100.0)) is not None for _ in range(200))
    assert false <= 16, "of 200; at 5 % more than 16 come once in thirty"


def test_a_fall_is_noticed_also_after_a_long_good_time() -> None:
    rng = np.random.default_rng(4)
    delays = [alarm(np.concatenate([rng.uniform(90, 130, good), rng.uniform(40, 80, 200)])) for good in (0, 50, 2_000)]
    assert all(delays)
    waited = [found - good for found, good in zip(delays, (0, 50, 2_000), strict=True) if found]
    assert 0 < waited[0] <= 15
    assert waited[0] < waited[2] <= 60, "logarithmically longer"


def test_the_wealth_is_a_martingale_at_the_boundary() -> None:
    """Two returns with mean 100, equally likely: the mean of the two wealths is the wealth before."""
    before = Monitor(PROMISE)
    for total in (120.0, 70.0, 110.0):
        before.add(total)
    after = []
    for total in (60.0, 140.0):
        monitor = Monitor(PROMISE)
        for past in (120.0, 70.0, 110.0, total):
            monitor.add(past)
        after.append(monitor.wealth)
    assert np.mean(after) == pytest.approx(before.wealth, rel=1e-12)


def test_a_return_above_the_range_switches_it_off() -> None:
    monitor = Monitor(PROMISE)
    monitor.add(250.0)
    assert not any(monitor.add(0.0) for _ in range(50))
    assert monitor.breach == 1
    assert "off since episode 1" in monitor.line()


def test_the_promise_is_the_certificate_s() -> None:
    shown = {
        "certified": True, "keep": 0.9, "teacher_return_mean": 200.0, "random_return_mean": 20.0,
        "return_range": [0.0, 300.0],
    }  # fmt: skip
    promise = Promise.of(shown)
    assert (promise.floor, promise.high) == (pytest.approx(182.0), 300.0)
    for broken, words in (({}, "not certified"), ({"certified": True}, "older kind")):
        with pytest.raises(ConfigError, match=words):
            Promise.of(broken)
    with pytest.raises(ConfigError, match="below the highest"):
        Promise(1.0, 1.0, "")
    with pytest.raises(ConfigError, match="finite"):
        Monitor(PROMISE).add(float("nan"))
