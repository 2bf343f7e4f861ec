"""What Prometheus reads at ``/metrics``, beside KServe's own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from nimbleq.serve.policy import Served
from nimbleq.serve.refusal import Why
from nimbleq.serve.returns import Watching

_BUCKETS = (1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1, 2.5)
_LABELS = ("model", "transport")

ANSWERED = Counter("nimbleq_answered", "Requests answered with a decision", _LABELS)
REFUSED = Counter("nimbleq_refused", "Requests refused: invalid, full, expired or stopping", (*_LABELS, "why"))
SECONDS = Histogram("nimbleq_request_seconds", "From the arrival of a request to its answer", _LABELS, buckets=_BUCKETS)
DEPTH = Gauge("nimbleq_queue_depth", "Requests that were let in and are not answered yet")
SWAPS = Counter("nimbleq_swaps", "New artefacts taken up", ("model",))
LOADED = Gauge("nimbleq_model", "1 for the artefact that is served", ("model", "digest", "certified"))


def answered(model: str, transport: str, arrived: float) -> None:
    """A request that came at ``arrived`` (`time.monotonic`) was answered."""
    ANSWERED.labels(model, transport).inc()
    SECONDS.labels(model, transport).observe(time.monotonic() - arrived)


def refused(model: str, transport: str, why: Why) -> None:
    """A request was refused."""
    REFUSED.labels(model, transport, why.label).inc()


def loaded(new: Served, old: Served | None) -> None:
    """An artefact is served, in place of ``old``."""
    if old is not None:
        LOADED.remove(old.name, old.digest, _certified(old))
        SWAPS.labels(new.name).inc()
    LOADED.labels(new.name, new.digest, _certified(new)).set(1)


def _certified(policy: Served) -> str:
    return {None: "unknown", True: "yes", False: "no"}[policy.certified]


class GuardCounts:
    """What the guards counted, and the field monitors: a collector.

    Args:
        served: the policies by name.
        monitors: theirs; None where there is none.
    """

    def __init__(self, served: Mapping[str, Served], monitors: Mapping[str, Watching | None]) -> None:
        self._served, self._monitors = served, monitors
        REGISTRY.register(self)

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        guard = CounterMetricFamily("nimbleq_guard", "Periods with a fault, a fallback …", labels=["model", "what"])
        for name, policy in self._served.items():
            for what, number in ({} if policy.streams is None else policy.streams.counters()).items():
                guard.add_metric([name, what], number)
        wealth = GaugeMetricFamily("nimbleq_monitor_wealth", "Of the bet against what was certified", labels=["model"])
        alarm = GaugeMetricFamily("nimbleq_monitor_alarm", "1: live returns fell below it", labels=["model"])
        told = CounterMetricFamily("nimbleq_monitor_episodes", "Live returns that were reported", labels=["model"])
        for name, monitor in self._monitors.items():
            if monitor is not None:
                wealth.add_metric([name], monitor.wealth)
                alarm.add_metric([name], float(monitor.alarm is not None))
                told.add_metric([name], monitor.episodes)
        return [guard, wealth, alarm, told]


class SharedMemoryCounts:
    """The counts of the process that serves the shared memory: a collector.

    Args:
        counts: ``(model, outcome) → number``; the outcome is ``answered`` or a label of `Why`.
    """

    def __init__(self, counts: Callable[[], Mapping[tuple[str, str], int]]) -> None:
        self._counts = counts
        REGISTRY.register(self)

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        done = CounterMetricFamily("nimbleq_shm_answered", "Requests answered through shared memory", labels=["model"])
        more = CounterMetricFamily("nimbleq_shm_refused", "Requests refused there", labels=["model", "why"])
        for (model, outcome), number in self._counts().items():
            if outcome == "answered":
                done.add_metric([model], number)
            else:
                more.add_metric([model, outcome], number)
        return [done, more]
