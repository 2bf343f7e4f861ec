"""Ray on two nodes, and kill −9 of actors, learners and the process that trains, again and again: ``make test-ray``."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nimbleq.config import TrainConfig, to_dict
from nimbleq.files import write_json
from nimbleq.rl.distributed.ledger import Ledger
from nimbleq.rl.training.state import load_state
from nimbleq.rundir import RunDir
from tests.rl.distributed.numbered import check_every_transition_once, settings

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[3]
KILLS = 3


def training(config: TrainConfig, folder: Path, log: Any, **environment: str) -> subprocess.Popen[bytes]:
    """``nimbleq train`` from where it was, in a process of its own."""
    settings_file = folder / "config.json"
    if not settings_file.exists():
        write_json(settings_file, {"train": to_dict(config)})
    words = [sys.executable, "-m", "nimbleq", "train", "--config", str(settings_file), "--out", str(folder / "run")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), **environment}
    return subprocess.Popen([*words, "--resume", "--json"], cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT)


def counted(config: TrainConfig, run: RunDir) -> tuple[int, list[int]]:
    """Steps, and chunks of each actor, of a checkpoint; every transition of these is in its replay, once."""
    state = load_state(config, run.checkpoint)
    assert isinstance(state.envs, Ledger)
    assert state.replay is not None
    chunks = state.envs.counted.tolist()
    check_every_transition_once(state.replay.settled(), state.counters.steps, sum(chunks), config)
    return state.counters.steps, chunks


def playing(pids: Path) -> list[int]:
    """The processes that have environments and still run."""
    return [int(path.name) for path in pids.iterdir() if Path("/proc", path.name).exists()]


def test_kills_of_actors_and_of_the_training_process(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    config, run, rng = settings(pids, 6_000, wait_ms=4.0), RunDir(tmp_path / "run"), random.Random(0)
    before, written = 0, 0.0
    for _ in range(KILLS):
        with (tmp_path / "log").open("ab") as log:
            process = training(config, tmp_path, log, RAY_worker_niceness="0")
            chosen = set(playing(pids))
            deadline = time.monotonic() + 300
            while time.monotonic() < deadline and process.poll() is None:
                fresh = [pid for pid in playing(pids) if pid not in chosen and pid != process.pid]
                if len(fresh) >= 2 and state_of(run) > written:
                    os.kill(rng.choice(fresh), signal.SIGKILL)
                    break
                time.sleep(0.05)
            time.sleep(rng.uniform(0.5, 4.0))
            if process.poll() is None:
                process.kill()
            process.wait()
        steps, _ = counted(config, run)
        assert steps > before, (tmp_path / "log").read_text()
        before, written = steps, state_of(run)
    with (tmp_path / "last").open("wb") as log:
        last = training(config, tmp_path, log)
        assert last.wait(timeout=240) == 0, (tmp_path / "last").read_text()
    steps, chunks = counted(config, run)
    assert steps >= config.steps
    assert min(chunks) > 0
    assert json.loads((tmp_path / "last").read_text().splitlines()[-1])["steps"] == steps


def state_of(run: RunDir) -> float:
    """When the checkpoint was written; 0: there is none."""
    path = run.checkpoint / "state.safetensors"
    return path.stat().st_mtime if path.exists() else 0


def test_a_learner_is_killed_and_all_start_again_from_the_checkpoint(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    changes = {"distributed.learners": 2, "distributed.actors": 1, "learner.engine": "parallel"}
    config, run = settings(pids, 4_000, wait_ms=2.0, **changes), RunDir(tmp_path / "run")
    with (tmp_path / "log").open("wb") as log:
        process = training(config, tmp_path, log, RAY_worker_niceness="0")
        killed = 0
        while process.poll() is None:
            ranks = descendants(process.pid, "ray::Rank")
            if not killed and ranks and run.metrics.exists() and run.metrics.read_text().count('"loss"') >= 2:
                killed = ranks[0]
                os.kill(killed, signal.SIGKILL)
            time.sleep(0.1)
    printed = (tmp_path / "log").read_text()
    assert killed, printed
    assert process.returncode == 0, printed
    assert "all went on from step" in printed or counted(config, run)[0] >= config.steps
    assert counted(config, run)[0] >= config.steps


def descendants(parent: int, name: str) -> list[int]:
    """Processes below ``parent`` whose title begins with ``name``."""
    parents: dict[int, int] = {}
    titles: dict[int, str] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                titles[int(path.name)] = (path / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue

    def below(pid: int) -> bool:
        return pid == parent or (pid in parents and parents[pid] > 1 and below(parents[pid]))

    return [pid for pid, title in titles.items() if title.startswith(name) and below(pid)]


def test_two_nodes(tmp_path: Path) -> None:
    """Actors are spread over both; when the second node goes, with what is on it, the run ends as it should."""
    utils = pytest.importorskip("ray.cluster_utils")
    pids = tmp_path / "pids"
    pids.mkdir()
    cluster = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        second = cluster.add_node(num_cpus=2)
        cluster.wait_for_nodes()
        config = settings(pids, 3_000, wait_ms=4.0, **{"distributed.ray": cluster.address})
        with (tmp_path / "log").open("wb") as log:
            process = training(config, tmp_path, log)
            while process.poll() is None and not state_of(RunDir(tmp_path / "run")):
                time.sleep(0.1)
            assert process.poll() is None, (tmp_path / "log").read_text()
            playing_now = playing(pids)
            cluster.remove_node(second, allow_graceful=False)
            assert process.wait(timeout=240) == 0, (tmp_path / "log").read_text()
        assert len(playing_now) >= 2
    finally:
        cluster.shutdown()
    assert counted(config, RunDir(tmp_path / "run"))[0] >= config.steps
