"""A guarded policy behind the server: a stream for each sequence, faults in the answer, the monitor of live returns."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from nimbleq.deploy.runtime import Runtime
from nimbleq.serve.policy import Served
from nimbleq.serve.refusal import RefusedError
from nimbleq.serve.streams import MOST_STREAMS, Sequence, Streams
from tests.serve.support import OBS, Running, guarded, plain, serving, values

needs_kserve = pytest.mark.skipif(find_spec("kserve") is None, reason="needs nimbleq[serve]")
JUMP = np.array([0.9, 0.2, 0.3, 0.4], np.float32)
MISSING, RATE, STUCK = 1, 8, 16


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("guarded")
    with serving(guarded(folder / "guarded"), plain(folder / "plain")) as running:
        yield running


def test_a_sequence_is_a_control_loop(tmp_path: Path) -> None:
    served = Served.load("g", guarded(tmp_path / "g"))
    one, other = Sequence("1"), Sequence("2")

    def faults(obs: np.ndarray, sequence: Sequence) -> list[int]:
        found: list[int] = served.decide({"obs": obs}, ("faults",), sequence)["faults"].tolist()
        return found

    assert faults(OBS, one) == [0]
    assert faults(JUMP, other) == [0], "another client's"
    assert faults(JUMP, one) == [RATE]
    assert faults(JUMP, Sequence()) == faults(OBS, Sequence()) == [0], "each stands alone"
    assert faults(np.stack([OBS, OBS, OBS, OBS]), Sequence("3")) == [0, 0, 0, STUCK], "three times the same"
    assert faults(JUMP, Sequence("1", start=True)) == [0], "an episode begins"
    assert faults(JUMP, Sequence("2", end=True)) == [0]
    assert faults(OBS, other) == [0], "it had ended"
    assert served.streams is not None
    assert served.streams.counters()["rate"] == 1
    again = pickle.loads(pickle.dumps(served))
    assert again.streams.counters()["decisions"] == 0


def test_behind_a_guard_there_is_always_an_action(tmp_path: Path) -> None:
    served = Served.load("g", guarded(tmp_path / "g"))
    answer = served.decide({"obs": OBS * np.nan})
    assert answer["action"].tolist() == [1]
    assert np.isnan(answer["q"]).all()


def test_a_request_of_a_sequence_without_inputs_is_a_period_without_an_observation(tmp_path: Path) -> None:
    served, loop = Served.load("g", guarded(tmp_path / "g")), Sequence("1")
    wanted = ("action", "q", "faults")
    assert served.decide({"obs": OBS}, wanted, loop)["faults"].tolist() == [0]
    none = served.decide({}, wanted, loop)
    assert (none["action"].tolist(), none["faults"].tolist()) == ([1], [MISSING])
    assert np.isnan(none["q"]).all()
    far = OBS + np.float32(0.3)  # more than the rate of one period, less than that of two
    assert served.decide({"obs": far}, wanted, loop)["faults"].tolist() == [0]
    with pytest.raises(RefusedError, match="'obs' is missing"):
        served.decide({})


def test_old_streams_are_forgotten_not_their_counts(tmp_path: Path) -> None:
    streams = Streams(Runtime(guarded(tmp_path / "g"), "numpy"))
    for index in range(MOST_STREAMS + 5):
        streams.of(Sequence(str(index))).act(OBS)
    assert streams.counters()["decisions"] == MOST_STREAMS + 5
    assert streams.of(Sequence("0")).counters["decisions"] == 0


@needs_kserve
def test_over_http(server: Running) -> None:
    assert [one["name"] for one in server.get("/v2/models/guarded")["outputs"]] == ["action", "q", "faults"]
    assert values(server.infer("guarded", {"obs": OBS}, sequence_id=7, sequence_start=True))["faults"] == [0]
    late = values(server.infer("guarded", {"obs": JUMP}, sequence_id=7))
    assert (late["action"].tolist(), late["faults"].tolist()) == ([1], [RATE])
    none = values(server.infer("guarded", {}, sequence_id=7))
    assert (none["action"].tolist(), none["faults"].tolist()) == ([1], [MISSING])
    assert server.infer("guarded", {"obs": JUMP}, sequence_id=[1])["status"] == 400
    assert 'nimbleq_guard_total{model="guarded",what="rate"} 1.0' in server.get("/metrics")


@needs_kserve
def test_live_returns_are_watched(server: Running) -> None:
    good = server.post("/v2/models/guarded/returns", {"returns": [110.0, 95.0]})
    assert (good["alarm"], good["episodes"], good["floor"]) == (None, 2, 100.0)
    bad = server.post("/v2/models/guarded/returns", {"returns": [5.0] * 40})
    assert bad["alarm"]
    text = server.get("/metrics")
    assert 'nimbleq_monitor_alarm{model="guarded"} 1.0' in text
    assert 'nimbleq_monitor_episodes_total{model="guarded"} 42.0' in text
    for name, body, status in (
        ("guarded", {"returns": "x"}, 400), ("guarded", {}, 400), ("plain", {"returns": [1]}, 409),
        ("nobody", {"returns": [1]}, 404),
    ):  # fmt: skip
        assert server.post(f"/v2/models/{name}/returns", body)["status"] == status
