"""Shared memory from end to end: a server process and clients in this one."""

import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("iceoryx2")

from nimbleq.deploy.runtime import Runtime
from nimbleq.errors import ConfigError, NimbleqError, ObservationError
from nimbleq.serve.client import Server, ServerGoneError, connect
from nimbleq.serve.policy import Served
from nimbleq.serve.refusal import RefusedError
from nimbleq.serve.worker import SharedMemory
from tests.serve.support import OBS, masked, nested, plain


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policies")
    for make in (plain, masked, nested):
        make(folder / make.__name__)
    return folder


def policies(place: Path) -> dict[str, Served]:
    return {name: Served.load(name, place / name) for name in ("plain", "masked", "nested")}


@pytest.fixture(scope="module")
def name() -> str:
    return f"test-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def memory(place: Path, name: str) -> Iterator[SharedMemory]:
    with SharedMemory(name, policies(place)) as worker:
        yield worker


@pytest.fixture
def server(memory: SharedMemory, name: str) -> Iterator[Server]:
    with connect(name) as opened:
        yield opened


def test_it_decides_as_the_runtime_does(server: Server, place: Path) -> None:
    assert server.policies == ("plain", "masked", "nested")
    rng, policy, runtime = np.random.default_rng(0), server.policy("plain"), Runtime(place / "plain")
    for obs in rng.normal(size=(200, 4)).astype(np.float32):
        assert policy.act(obs) == runtime.act(obs)
        assert np.array_equal(policy.decide(obs).q, runtime.q_values(obs))
    policy, runtime = server.policy("nested"), Runtime(place / "nested")
    for position in rng.normal(size=(50, 2)):
        obs = {"position": position, "gear": int(rng.integers(1, 4)), "action_mask": [1, 1]}
        assert np.array_equal(policy.act(obs), runtime.act(obs))


def test_masks(server: Server) -> None:
    policy = server.policy("masked")
    assert [policy.act(OBS, mask) for mask in np.eye(3)] == [0, 1, 2]
    with pytest.raises(ObservationError, match="needs the mask"):
        policy.act(OBS)
    with pytest.raises(ObservationError, match="allows no action"):
        policy.act(OBS, [0, 0, 0])
    with pytest.raises(ObservationError, match="takes no mask"):
        server.policy("plain").act(OBS, [1, 1])


def test_what_does_not_fit_is_refused(server: Server) -> None:
    policy = server.policy("plain")
    with pytest.raises(ObservationError, match="NaN"):
        policy.act(OBS * np.nan)
    with pytest.raises(ObservationError, match=r"has the shape \(3,\)"):
        policy.act(OBS[:3])
    with pytest.raises(ObservationError, match="no entry 'position'"):
        server.policy("nested").act({"gear": 1})
    with pytest.raises(ObservationError, match="int64 cannot hold"):
        server.policy("nested").act({"position": [0, 0], "gear": 1.5, "action_mask": [1, 1]})
    with pytest.raises(ObservationError, match="its space goes from 1 to 3"):
        server.policy("nested").act({"position": [0, 0], "gear": 7, "action_mask": [1, 1]})
    assert policy.act(OBS) in (0, 1), "a refusal leaves no trace"
    with pytest.raises(NimbleqError, match="serves no policy 'other'"):
        server.policy("other")


def test_expired_work_is_refused_and_not_computed(server: Server, memory: SharedMemory) -> None:
    policy, before = server.policy("plain"), memory.counts()["plain", "answered"]
    with pytest.raises(RefusedError, match="deadline"):
        policy.act(OBS, timeout_us=0.01)
    for _ in range(100):
        if memory.counts()["plain", "expired"]:
            break
        time.sleep(0.01)
    assert memory.counts()["plain", "expired"] == 1
    assert memory.counts()["plain", "answered"] == before
    assert policy.act(OBS, timeout_us=5e6) in (0, 1)


def test_one_server_of_a_name(memory: SharedMemory, place: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="another process serves shared memory"), SharedMemory(name, policies(place)):
        pass


def test_a_swap_loses_nothing(place: Path, tmp_path: Path) -> None:
    path, name = plain(tmp_path / "plain"), f"swap-{uuid.uuid4().hex[:8]}"
    old = Served.load("plain", path)
    rng = np.random.default_rng(5)
    many = rng.normal(size=(300, 4)).astype(np.float32)
    before = np.array([old.runtime.q_values(obs) for obs in many])
    with SharedMemory(name, {"plain": old}) as worker, connect(name) as server:
        plain(path, seed=1)
        new = old.successor()
        after = np.array([new.runtime.q_values(obs) for obs in many])
        assert (before != after).all(axis=1).all()
        policy, seen = server.policy("plain"), []
        for index, obs in enumerate(many):
            if index == 20:
                worker.swap(new)
            q = policy.decide(obs).q
            seen.append(bool(np.array_equal(q, after[index])))
            assert seen[-1] or np.array_equal(q, before[index])
            time.sleep(0.001)
        assert not any(seen[:20])
        assert seen[-1]
        assert seen == sorted(seen), "once the new one decides, the old one never does"


def test_a_client_learns_that_the_server_is_gone(place: Path) -> None:
    name = f"gone-{uuid.uuid4().hex[:8]}"
    with SharedMemory(name, policies(place)) as worker, connect(name) as server:
        policy = server.policy("plain")
        assert policy.act(OBS) in (0, 1)
        os.kill(worker._process.pid or 0, 9)
        worker._process.join()
        with pytest.raises(NimbleqError):
            policy.act(OBS, timeout_us=3e5)
    with pytest.raises(ServerGoneError, match="nobody"):
        connect(name, wait_seconds=0.1)
    with SharedMemory(name, policies(place)), connect(name) as server:  # what the dead one left is cleared away
        assert server.policy("plain").act(OBS) in (0, 1)
