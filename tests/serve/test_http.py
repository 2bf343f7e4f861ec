"""The server from end to end over HTTP and gRPC, in a process of its own."""

import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nimbleq.deploy.runtime import Runtime
from tests.serve.support import OBS, Running, free_port, masked, nested, plain, request, serving, values

pytestmark = pytest.mark.skipif(find_spec("kserve") is None, reason="needs nimbleq[serve]")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policies")
    for make in (plain, masked, nested):
        make(folder / make.__name__)
    return folder


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Running]:
    with serving(f"other={place / 'plain'}", place / "masked", place / "nested") as running:
        yield running


def test_health_and_metadata(server: Running) -> None:
    assert server.get("/v2/health/live") == {"live": True}
    assert server.get("/v2/health/ready") == {"ready": True}
    assert server.get("/v2/models/other/ready") == {"name": "other", "ready": True}
    assert server.get("/v2/models")["models"] == ["other", "masked", "nested"]
    about = server.get("/v2/models/masked")
    assert about["inputs"] == [
        {"name": "obs", "datatype": "FP32", "shape": [-1, 4]},
        {"name": "mask", "datatype": "BOOL", "shape": [-1, 3]},
    ]


def test_decisions_are_the_runtime_s(server: Running, place: Path) -> None:
    runtime, many = Runtime(place / "plain"), np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    found = values(server.infer("other", {"obs": many}))
    assert found["action"].tolist() == [runtime.act(obs) for obs in many]
    assert np.array_equal(found["q"].astype(np.float32), [runtime.q_values(obs) for obs in many])
    one = server.infer("other", {"obs": OBS}, outputs=("action",))
    assert [output["name"] for output in one["outputs"]] == ["action"]
    obs = {"position": np.array([0.5, -2.0]), "gear": np.int64(2), "action_mask": np.array([0, 1])}
    command = values(server.infer("nested", obs))["action"]
    assert command.tolist() == [[2.0, 3.0]]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "malformed"),
        (b"[1, 2]", "malformed"),
        ({"inputs": [{"name": "obs"}]}, "malformed"),
        (request({}), "the input 'obs' is missing"),
        (request({"obs": OBS[:2]}), r"it must be [4], or [N, 4]"),
        (request({"obs": OBS}, outputs=("speed",)), "there is no output 'speed'"),
        (request({"obs": OBS}, timeout=-5), "positive number of microseconds"),
        (request({"obs": OBS * np.nan}), "NaN or infinity"),
        ({"inputs": [{"name": "obs", "datatype": "FP32", "shape": [4], "data": [1, 2, "x", 4]}]}, "not FP32"),
        ({"inputs": [{"name": "obs", "datatype": "BYTES", "shape": [4], "data": ["a", "b", "c", "d"]}]}, "BYTES"),
        ({"inputs": [{"name": "obs", "datatype": "FP32", "shape": [-4], "data": [1, 2, 3, 4]}]}, "positive numbers"),
    ],
)
def test_bad_input_is_one_line(body: Any, text: str, server: Running) -> None:
    refused = server.post("/v2/models/other/infer", body)
    assert refused["status"] == 400
    assert text in refused["error"]
    assert "\n" not in refused["error"]


def test_bad_binary_input_is_one_line(server: Running) -> None:
    body = json.dumps({"inputs": [{"name": "obs", "shape": [4], "datatype": "FP32"}]}).encode() + OBS.tobytes()[:7]
    for length in ("abc", str(len(body) - 7), "3", "-1"):
        refused = server.post(
            "/v2/models/other/infer", body, content_type="application/octet-stream",
            Inference_Header_Content_Length=length,
        )  # fmt: skip
        assert refused["status"] == 400, length
        assert "\n" not in refused["error"]


def test_a_masked_policy_needs_the_mask(server: Running) -> None:
    refused = server.infer("masked", {"obs": OBS})
    assert refused == {
        "status": 400, "error": "this policy needs the mask of the legal actions: add the input 'mask', BOOL [3]"
    }  # fmt: skip
    for only in range(3):
        allowed = np.eye(3, dtype=bool)[only]
        assert values(server.infer("masked", {"obs": OBS, "mask": allowed}))["action"] == [only]


def test_expired_work_is_refused(server: Running) -> None:
    for refused in (
        server.infer("other", {"obs": OBS}, timeout=1),
        server.infer("other", {"obs": OBS}, deadline=int(time.time() * 1e6) - 5),
        server.post("/v2/models/other/infer", request({"obs": OBS}), x_timeout_us="0.1"),
    ):
        assert refused["status"] == 504
        assert "the decision was not computed" in refused["error"]
    assert "outputs" in server.infer("other", {"obs": OBS}, timeout=20_000_000)
    metrics = server.get("/metrics")
    assert 'nimbleq_refused_total{model="other",transport="http",why="expired"} 3.0' in metrics
    assert "nimbleq_queue_depth 0.0" in metrics
    assert 'nimbleq_request_seconds_bucket{le="0.25",model="other",transport="http"}' in metrics


def test_a_refusal_does_not_wait_for_the_body(server: Running) -> None:
    lines = ("POST /v2/models/masked/infer HTTP/1.1", "host: here", "x-deadline-us: 1", "content-length: 300000")
    with socket.create_connection(("localhost", server.port), timeout=20) as line:
        for _ in range(2):
            line.sendall("\r\n".join([*lines, "", ""]).encode())
            assert line.recv(65536).startswith(b"HTTP/1.1 504 ")
            line.sendall(b" " * 300_000)
    assert 'nimbleq_refused_total{model="masked",transport="http",why="expired"} 2.0' in server.get("/metrics")


def test_unknown_models_and_the_older_protocol(server: Running) -> None:
    assert server.infer("nobody", {"obs": OBS})["status"] == 404
    assert server.post("/v2/repository/models/nobody/load")["status"] == 404
    old = server.post("/v1/models/other:predict", {"instances": [[0, 0, 0, 0]]})
    assert old == {"status": 400, "error": "this server speaks version 2: POST /v2/models/other/infer"}


def test_grpc(server: Running, place: Path) -> None:
    client = pytest.importorskip("tritonclient.grpc")
    triton = client.InferenceServerClient(f"localhost:{server.grpc_port}")
    assert triton.is_server_ready()
    given = client.InferInput("obs", [4], "FP32")
    given.set_data_from_numpy(OBS)
    runtime = Runtime(place / "plain")
    answer = triton.infer("other", [given])
    assert answer.as_numpy("action").tolist() == [runtime.act(OBS)]
    assert np.array_equal(answer.as_numpy("q"), [runtime.q_values(OBS)])
    with pytest.raises(Exception, match="DEADLINE_EXCEEDED"):
        triton.infer("other", [given], timeout=1)
    with pytest.raises(Exception, match=r"INVALID_ARGUMENT.*needs the mask"):
        triton.infer("masked", [given])
    listed = client.InferInput("obs", [4], "FP32")  # numbers in the message itself, not bytes beside it
    listed._raw_content = None
    listed._input.contents.fp32_contents.extend(OBS.tolist())
    assert triton.infer("other", [listed]).get_response().outputs[0].contents.int64_contents == [runtime.act(OBS)]


def test_tritonclient_over_http(server: Running, place: Path) -> None:
    client = pytest.importorskip("tritonclient.http")
    triton = client.InferenceServerClient(f"localhost:{server.port}")
    given = client.InferInput("obs", [4], "FP32")
    runtime = Runtime(place / "plain")
    for binary in (True, False):
        given.set_data_from_numpy(OBS, binary_data=binary)
        wanted = client.InferRequestedOutput("q", binary_data=binary)
        assert np.array_equal(triton.infer("other", [given], outputs=[wanted]).as_numpy("q"), [runtime.q_values(OBS)])
    with pytest.raises(Exception, match="the decision was not computed"):
        triton.infer("other", [given], timeout=1)
    triton.load_model("masked")


def test_a_swap_by_the_folder_loses_no_request(tmp_path: Path) -> None:
    path = plain(tmp_path / "policy")
    digests: list[str] = []
    with serving(path) as running:
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                digests.append(running.infer("policy", {"obs": OBS}).get("model_version", "lost"))

        askers = [threading.Thread(target=ask) for _ in range(3)]
        for asker in askers:
            asker.start()
        plain(path, seed=1)
        for _ in range(200):
            if len(set(digests)) > 1:
                break
            time.sleep(0.05)
        masked(path)  # for other clients: not taken up
        assert running.post("/v2/repository/models/policy/load")["status"] == 409
        shutil.rmtree(path)
        assert running.post("/v2/repository/models/policy/load")["status"] == 409
        stop.set()
        for asker in askers:
            asker.join()
        assert len(set(digests)) == 2
        assert "lost" not in digests
        assert digests[-1] != digests[0]


def test_a_stop_answers_what_was_let_in(tmp_path: Path) -> None:
    with serving(plain(tmp_path / "policy"), "--json") as running:
        outcomes: list[Any] = []

        def ask() -> None:
            while True:
                try:
                    answer = running.infer("policy", {"obs": np.tile(OBS, (200, 1))})
                except OSError as error:
                    outcomes.append(error)
                    return
                outcomes.append(answer.get("status", 200))

        askers = [threading.Thread(target=ask) for _ in range(4)]
        for asker in askers:
            asker.start()
        time.sleep(0.5)
        assert running.stop() == 0
        for asker in askers:
            asker.join()
        errors = [one for one in outcomes if isinstance(one, OSError)]
        assert len(errors) == 4
        gone = ("refused", "reset", "Broken pipe")  # before the connection, or before it was accepted
        assert all(any(word in str(error) for word in gone) for error in errors), errors
        assert set(outcomes) - set(errors) <= {200, 503}
        assert outcomes.count(200) >= 4


def test_a_taken_port_is_one_line(tmp_path: Path, server: Running) -> None:
    from nimbleq.cli import main

    words = ["serve", str(plain(tmp_path / "policy")), "--port", str(server.port), "--grpc-port", str(free_port())]
    assert main(words) == 2
