"""Every example runs as its docstring says, and what it prints is true."""

import json
import subprocess
import sys
import uuid
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.serve.support import plain, serving

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, *words: Path | str) -> str:
    place = ["-m", f"examples.{name.removesuffix('.py')}"] if name == "robot.py" else [str(EXAMPLES / name)]
    command = [sys.executable, *place, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_example_is_tested() -> None:
    named = Path(__file__).read_text()
    assert [path.name for path in EXAMPLES.glob("*.py") if f'"{path.name}"' not in named] == []


@pytest.mark.long
def test_own_torch_network(tmp_path: Path) -> None:
    assert "same action as torch on 1000 of 1000" in run("own_torch_network.py", tmp_path)
    assert (tmp_path / "policy.c").exists()
    assert (tmp_path / "artefact" / "model.json").exists()


def test_own_environment(tmp_path: Path) -> None:
    printed = run("own_environment.py", tmp_path / "run")
    assert "room at 15.0 °C, outside 2 °C: heater high" in printed
    assert "room at 23.0 °C, outside 2 °C: heater off" in printed


def test_sb3_to_c(tmp_path: Path) -> None:
    stable_baselines3 = pytest.importorskip("stable_baselines3")
    pytest.importorskip("onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stable_baselines3.DQN("MlpPolicy", "CartPole-v1", device="cpu", buffer_size=10).save(tmp_path / "model.zip")
    printed = run("sb3_to_c.py", tmp_path / "model.zip", tmp_path / "out")
    assert "MlpPolicy, observations (4,) float32, 2 actions" in printed
    assert {file.name for file in (tmp_path / "out").iterdir()} >= {"policy.c", "policy.h", "policy.onnx"}


BRIEFLY = ("--recipe", "linear", "--no-scratch", "--select-episodes", "60", "--workers", "1")
"""Options of ``nimbleq compress``."""


@pytest.mark.long
def test_order_book(tmp_path: Path) -> None:
    printed = run("order_book.py", tmp_path / "run", "2000", *BRIEFLY)
    earned = [float(line.split("earn ")[1].split()[0]) for line in printed.splitlines() if "µs earn" in line]
    assert earned[0] > earned[-1], "what comes late earns less"
    assert (tmp_path / "run" / "build" / "racer.c").exists()


@pytest.mark.skipif(find_spec("arch") is None, reason="needs nimbleq[trading]")
def test_trading(tmp_path: Path) -> None:
    printed = run("trading.py", tmp_path / "run", "15000", *BRIEFLY)
    assert "12-month momentum" in printed
    assert "[+0.00, +0.00] over buy and hold" in printed


@pytest.mark.skipif(find_spec("highway_env") is None or find_spec("envpool") is None, reason="needs nimbleq[driving]")
def test_driving(tmp_path: Path) -> None:
    printed = run("driving.py", tmp_path / "run", "merge-v0", "2", "3000")
    assert [line.split(":")[0].strip() for line in printed.splitlines()[-3:]] == [
        "small policy",
        "by rule",
        "at random",
    ]


@pytest.mark.long
@pytest.mark.skipif(find_spec("pyspiel") is None, reason="needs nimbleq[games]")
def test_connect_four(tmp_path: Path) -> None:
    printed = run("connect_four.py", tmp_path / "run", "300", "3000", "1")
    assert "network alone, against 100 simulations: " in printed
    assert "network in a search of 100, against 400: " in printed
    assert (tmp_path / "run" / "build" / "connect_four.c").exists()


@pytest.mark.long
@pytest.mark.skipif(find_spec("rlcard") is None, reason="needs nimbleq[games]")
def test_doudizhu(tmp_path: Path) -> None:
    printed = run("doudizhu.py", tmp_path / "run", "2", "2")
    assert "against the rule player, both seats: " in printed
    assert (tmp_path / "run" / "build" / "doudizhu.c").exists()


@pytest.mark.long
@pytest.mark.skipif(find_spec("minatar") is None, reason="needs nimbleq[minatar]")
def test_minatar(tmp_path: Path) -> None:
    printed = run("minatar.py", tmp_path / "run", "Breakout", "10000", "2")
    assert [line.partition(":")[0] for line in printed.splitlines()[-2:]] == [
        "Breakout, small policy",
        "Breakout, chance",
    ]


@pytest.mark.skipif(find_spec("crazyflow") is None, reason="needs nimbleq[robot], see the Makefile")
def test_robot(tmp_path: Path) -> None:
    """On the drone of "crazyflie.py"."""
    printed = run("robot.py", tmp_path / "run", "FigureOfEight", "60000", "2")
    pilots = [line.split(":")[0].strip() for line in printed.splitlines()[-4:]]
    assert pilots == ["small policy", "level, no control", "built-in controller", "holding still"]
    assert (tmp_path / "run" / "build" / "cortex-m4" / "selftest.elf").exists()


@pytest.mark.skipif(find_spec("sklearn") is None, reason="needs nimbleq[medicine]")
def test_diagnosis(tmp_path: Path) -> None:
    printed = run("diagnosis.py", tmp_path / "run", "4000", *BRIEFLY)
    assert "of 114 unseen patients right" in printed


@pytest.mark.skipif(find_spec("icu_sepsis") is None, reason="needs nimbleq[medicine]")
def test_medicine(tmp_path: Path) -> None:
    run("medicine.py", tmp_path / "run", "20000", "100")
    exact = json.loads((tmp_path / "run" / "exact.json").read_text())
    assert exact["returns"]["uniform"] < exact["returns"]["small"] < exact["returns"]["optimum"]
    assert exact["kept"] > 0.9


@pytest.mark.skipif(find_spec("kserve") is None, reason="needs nimbleq[serve]")
def test_serve(tmp_path: Path) -> None:
    name, more = f"example-{uuid.uuid4().hex[:8]}", find_spec("iceoryx2") is not None
    with serving(plain(tmp_path / "small"), *(("--shm", name) if more else ())) as server:
        assert run("serve_http.py", f"http://localhost:{server.port}").startswith("small (")
        if find_spec("tritonclient") is not None:
            printed = run("serve_triton.py", str(server.port), str(server.grpc_port))
            assert [line.split(":")[0] for line in printed.splitlines()] == ["http", "grpc"]
        if more:
            assert "1000 round trips" in run("serve_shm.py", name)
