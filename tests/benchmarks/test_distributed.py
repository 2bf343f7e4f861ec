"""The sleep protocol: the meter, the fit, and the floors."""

from itertools import count
from pathlib import Path

import pytest

from benchmarks.cases.distributed import KILLED, efficiency, fit, fitted, missed
from benchmarks.meter import FinishedError, Meter
from benchmarks.record import Record
from benchmarks.sleeping import LENGTH, Sleeping


def law(actors: int, sigma: float, kappa: float) -> float:
    return 90 * actors / (1 + sigma * (actors - 1) + kappa * actors * (actors - 1))


@pytest.mark.parametrize(("sigma", "kappa"), [(0.01, 0.0005), (0.2, 0.0), (0.0, 0.003), (0.0, 0.0)])
def test_the_fit_finds_the_law(sigma: float, kappa: float) -> None:
    rates = {actors: law(actors, sigma, kappa) for actors in (1, 2, 4, 8, 16, 32)}
    assert fit(rates) == pytest.approx((sigma, kappa), abs=1e-9)


def test_an_interval_holds_what_it_is_of() -> None:
    windows = {n: [law(n, 0.05, 0) * noise for noise in (0.98, 0.99, 1, 1.01, 1.02)] for n in (1, 2, 4, 8)}
    value, low, high = fitted(windows)[0]
    assert low <= value <= high
    assert high > low


def test_the_meter_counts_what_arrives(tmp_path: Path) -> None:
    meter, env = Meter(tmp_path, 1, [0.5, 2.0], 0.1, 2), Sleeping(str(tmp_path))
    env.reset(seed=1)

    def play() -> None:
        for steps in count(16, 16):
            for _ in range(16):
                env.step(0)
            meter(steps)

    with pytest.raises(FinishedError):
        play()
    rates = meter.result()["steps_per_s"]
    assert [len(values) for values in rates.values()] == [2, 2]
    assert 0 < max(rates["2"]) <= 500, "two milliseconds a step"
    assert max(rates["0.5"]) <= 2_000


def test_an_episode_is_numbered(tmp_path: Path) -> None:
    (tmp_path / "delay_ms").write_text("0")
    env = Sleeping(str(tmp_path))
    obs, _ = env.reset(seed=(3 << 16) + 7)
    assert obs[:3].tolist() == [3, 7, 0]
    ends = [env.step(0)[2] for _ in range(LENGTH)]
    assert ends == [False] * (LENGTH - 1) + [True]


def test_floors_that_are_missed_are_named(tmp_path: Path) -> None:
    record = Record(tmp_path / "distributed.json")
    for actors, rate in ((1, 90.0), (16, 1_000.0)):
        record.cells[f"nimbleq, {actors} actors"] = {"steps_per_s": {"10": [rate] * 5}, "actor_mb": 100.0}
    record.cells[KILLED] = {"lost": 1, "doubled": 0}
    assert efficiency(record, "nimbleq", 16, "10") == pytest.approx(1_000 / 1_440)
    assert len(missed(record)) == 2
    record.cells["nimbleq, 16 actors"]["steps_per_s"]["10"] = [1_300.0]
    record.cells[KILLED]["lost"] = 0
    assert missed(record) == []
