"""What the engine ``device`` does on a GPU. Without one it says so; ``--smoke`` runs every part on the CPU, tiny.

    python -m benchmarks.gpu check [--env ALE/Pong-v5]     # graph, then speed
    python -m benchmarks.gpu graph                         # recorded graphs against eager: do the weights agree?
    python -m benchmarks.gpu speed [--env ALE/Pong-v5]     # samples/s and train ÷ random steps, beside CleanRL's recipe
    python -m benchmarks.gpu learn [--env ALE/Pong-v5] [--stop 18] [--minutes 8]   # and again until it says "solved"
    python -m benchmarks.gpu zoo [--env ALE/Pong-v5]       # the best network so far → runs/gpu/pong/artefacts/teacher

Needs ``pip install 'nimbleq[train,atari]'``. Each command ends within ten minutes; ``learn`` goes on where it stopped,
and ends with ``zoo`` whether it has solved the game or not: the best network so far is never lost.
Results go to ``benchmarks/results/gpu-*.json``, runs to ``runs/gpu``.
``python -m benchmarks.run gpu`` measures the same parts as cells of one table.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.peers.cleanrl_atari import measure
from benchmarks.record import ROOT, stamp
from nimbleq.bridge.torch_module import to_module
from nimbleq.compress.quantize.weight_only import stored_as
from nimbleq.config import TrainConfig, to_dict, with_changes
from nimbleq.errors import NimbleqError
from nimbleq.files import read_json, write_json
from nimbleq.graph.cost import cost
from nimbleq.graph.formats import BF16
from nimbleq.rl.envs.vector import VectorEnv
from nimbleq.rl.learners.device.learner import DeviceLearner
from nimbleq.rl.learners.device.replay import DeviceReplay
from nimbleq.rl.nets.graph import network_graph
from nimbleq.rl.nets.network import greedy_policy
from nimbleq.rl.presets import preset
from nimbleq.rl.replay.ring import part
from nimbleq.rl.spec import EnvSpec
from nimbleq.rl.training.checkpoint import load_checkpoint
from nimbleq.rl.training.evaluate import Evaluator, interval95
from nimbleq.rl.training.train import train
from nimbleq.rundir import RunDir
from nimbleq.seeds import episode_seeds
from nimbleq.types import ObsSpec, Step
from nimbleq.verbs.common import RUN_FORMAT, save_teacher
from nimbleq.version import VERSION

SPEED_SECONDS = 45.0
"""Of training for its rate: filling the replay and compiling come first, then two rates are measured."""
SAY_SECONDS = 5.0
"""Between two lines of progress of ``learn``."""
STOP = {"ALE/Pong-v5": 18.0}
"""Game → mean return at which ``learn`` ends when nobody says."""
SMOKE: dict[str, Any] = {
    "learner.device": "cpu",
    "learner.compile": False,
    "learner.batch_size": 4,
    "network.hidden": (16,),
    "replay.capacity": 400,
    "evaluation.episodes": 1,
    "evaluation.final_episodes": 2,
    "env.max_episode_steps": 20,
    "envs": 4,
    "learn_start": 100,
    "steps": 400,
}


@dataclasses.dataclass(frozen=True)
class Job:
    """What was asked for: see the options. ``config`` is the preset ``gpu``, for the smoke run made tiny."""

    config: TrainConfig
    smoke: bool
    out: Path
    stop: float | None
    minutes: float

    @property
    def run(self) -> RunDir:
        return RunDir(self.out / "runs" / "gpu" / name_of(self.config))

    def keep(self, what: str, result: dict[str, Any]) -> dict[str, Any]:
        """Write a result and print it."""
        machine = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU (smoke)"
        result = {"machine": machine, "torch": torch.__version__, "env": self.config.env.id, **result, "stamp": stamp()}
        write_json(self.out / "benchmarks" / "results" / f"gpu-{what}.json", result)
        print(json.dumps(result))
        return result


def name_of(config: TrainConfig) -> str:
    """``ALE/Pong-v5`` → ``pong``."""
    return config.env.id.split("/")[-1].split("-")[0].lower()


def images(config: TrainConfig, steps: int, device: torch.device) -> tuple[EnvSpec, DeviceReplay]:
    """A replay with ``steps`` steps of noise: what it shows does not matter, how much of it does."""
    spec, rng = EnvSpec(ObsSpec((4, 84, 84), "uint8"), 6), np.random.default_rng(0)
    replay = DeviceReplay(config.replay, config.learner.gamma, config.envs, spec.obs, 0, device)
    obs = rng.integers(0, 256, (config.envs, 4, 84, 84)).astype(np.uint8)
    for _ in range(steps):
        following = np.concatenate([obs[:, 1:], rng.integers(0, 256, (config.envs, 1, 84, 84)).astype(np.uint8)], 1)
        reward = rng.normal(size=config.envs).astype(np.float32)
        never = np.zeros(config.envs, bool)
        replay.add(Step(obs, rng.integers(6, size=config.envs), reward, never, never, following))
        obs = following
    replay.settle()
    return spec, replay


def graph(job: Job) -> bool:
    """The same draws, recorded and eager: the largest difference between any two weights, for every head."""
    rows, settings = [], {"learner.compile": False, "replay.capacity": 4_000 if not job.smoke else 400}
    for head in ("q", "c51", "qr", "iqn"):
        for precision in ("float32", "bf16"):
            changes = settings | {"network.head": head, "learner.precision": precision}
            config = with_changes(job.config, changes)
            learners, weights = [], []
            for recorded in (True, False):
                device = torch.device("cpu" if job.smoke else "cuda")
                spec, replay = images(config, 30, device)
                learner = DeviceLearner(config, spec, 0)
                for _ in range(3 if job.smoke else 100):
                    (learner.learn if recorded else learner.learn_from)(replay)
                learners.append(learner)
                weights.append(learner.weights())
            apart = max(float(np.abs(weights[0][name] - weights[1][name]).max()) for name in weights[0])
            moved = float(np.abs(weights[0]["body.0.weight"]).max())
            rows.append({"head": head, "precision": precision, "largest_difference": apart, "largest_weight": moved})
    tolerance = 1e-3
    agrees = all(float(row["largest_difference"]) < tolerance for row in rows if row["precision"] == "float32")
    job.keep("graph", {"updates": 3 if job.smoke else 100, "tolerance": tolerance, "agrees": agrees, "rows": rows})
    return agrees


def learner_rate(config: TrainConfig, device: torch.device, updates: int) -> float:
    """Samples per second of the learner alone."""
    spec, replay = images(config, 20, device)
    learner = DeviceLearner(config, spec, 0)
    began = 0.0
    for update in range(10 + updates):
        if update == 10:
            learner.measures()  # waits for the device
            began = time.perf_counter()
        learner.learn(replay)
    learner.measures()
    return updates * config.learner.batch_size / (time.perf_counter() - began)


def random_rate(config: TrainConfig, steps: int) -> float:
    """Steps per second of the environments under random play."""
    envs, rng = VectorEnv(config.env, config.envs, 0), np.random.default_rng(0)
    began = time.perf_counter()
    for _ in range(steps):
        envs.step(rng.integers(envs.spec.actions, size=config.envs))
    rate = steps * config.envs / (time.perf_counter() - began)
    envs.close()
    return rate


def train_rate(config: TrainConfig, run: RunDir, seconds: float | None) -> float:
    """Steps per second of the whole loop over the last third of ``seconds`` (None: of all steps).

    By then the replay holds enough to learn from and everything is compiled.
    """
    marks: list[tuple[float, float]] = []
    began = time.perf_counter()

    def tick(done: float, total: float, note: str = "") -> None:
        now = time.perf_counter()
        if done > config.learn_start and (seconds is None or now - began >= seconds * 2 / 3):
            marks.append((now, done))

    never = {"evaluation.every": 1 << 30, "evaluation.final_episodes": 1, "checkpoint_seconds": 1e9}
    limit = {"env.max_episode_steps": 20 if seconds is None else 1_000}
    train(with_changes(config, never | limit), run, tick, seconds=seconds)
    return (marks[-1][1] - marks[0][1]) / (marks[-1][0] - marks[0][0])


def speed(job: Job) -> bool:
    """Ours and the peer's, on the same machine, one after the other."""
    device = torch.device("cpu" if job.smoke else "cuda")
    config = job.config if job.smoke else with_changes(job.config, {"learn_start": 20_000})
    rows: dict[str, Any] = {"learner_samples_per_s": learner_rate(config, device, 5 if job.smoke else 1_000)}
    rows["random_steps_per_s"] = random_rate(config, 20 if job.smoke else 300)
    run = RunDir(job.run.path.with_name(f"speed-{time.time_ns()}"))
    rows["train_steps_per_s"] = train_rate(config, run, None if job.smoke else SPEED_SECONDS)
    rows["ratio"] = rows["train_steps_per_s"] / rows["random_steps_per_s"]
    per_step = config.updates_per_step * config.learner.batch_size / config.envs
    rows["samples_per_s"] = rows["train_steps_per_s"] * per_step
    peer = measure(config.env.id, device, *((60, 40) if job.smoke else (1_000, 3_000)))
    times = {name: rows[name] / peer[name] for name in ("train_steps_per_s", "samples_per_s")}
    job.keep("speed", {"nimbleq": rows, "cleanrl_recipe": peer, "times_the_peer": times})
    return True


def learn(job: Job) -> bool:
    """Train for so many minutes, or go on; True once the return is reached (without one: when the steps are done).

    The best network that was checked is left as the run's teacher, whatever the answer.
    """
    config = with_changes(job.config, {"evaluation.stop_return": job.stop, "checkpoint_seconds": 300.0})
    began = said = time.monotonic()

    def tick(done: float, total: float, note: str = "") -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= SAY_SECONDS:
            said = now
            print(f"{now - began:.0f} s: {done:,.0f} steps{note and '; ' + note}", flush=True)
        if now - began > 60 * job.minutes:
            raise KeyboardInterrupt

    try:
        trained = train(config, job.run, tick, resume=True)
    except KeyboardInterrupt:
        arrays, values = load_checkpoint(job.run.checkpoint)
        job.keep(f"learn-{name_of(config)}", {"solved": False, "finished": False, "counters": values["counters"]})
        if part(arrays, "best"):
            zoo(job)
        return False
    job.keep(f"learn-{name_of(config)}", {"finished": True, **trained.summary()})
    small_enough = zoo(job)
    return small_enough and (trained.solved or job.stop is None)


def check(job: Job) -> bool:
    """What has to hold on a GPU, and how fast it is."""
    return graph(job) and speed(job)


def zoo(job: Job) -> bool:
    """The best checked network of ``learn`` as its run's teacher, with weights stored as bf16, played on fresh seeds.

    Compressed and certified it belongs into the zoo: see ``zoo/README.md``.
    """
    arrays, values = load_checkpoint(job.run.checkpoint)
    config = job.config
    with Evaluator(config.env) as evaluate:
        graph = stored_as(network_graph(evaluate.spec, config.network, part(arrays, "best")), BF16)
        teacher = save_teacher(job.run, config, graph, None, evaluate)
        seeds = episode_seeds("final", config.seed, config.evaluation.final_episodes, start=1 << 20)
        returns = evaluate(greedy_policy(to_module(graph)), seeds.tolist()).returns
    counters = values["counters"]
    learnt = read_json(job.out / "benchmarks/results" / f"gpu-learn-{name_of(config)}.json")
    facts = {
        "return_mean": float(returns.mean()),
        "return_ci95": list(interval95(returns)),
        "episodes": len(returns),
        "steps": counters["best_steps"],
        "updates": counters["best_updates"],
        "train_seconds": counters["seconds"],
        "solved": bool(learnt.get("solved")),
        "learner": "device",
    }
    write_json(job.run.config, {"format": RUN_FORMAT, "nimbleq": VERSION, "train": to_dict(config)})
    named = {"run": str(job.run.path), "env": config.env.id, "teacher_digest": teacher.digest}
    job.run.save_result("train", named | facts | {"machine": learnt["machine"]})
    size = cost(teacher.graph).size_bytes
    job.keep(
        f"zoo-{name_of(config)}", {"run": job.run.path.name, "size_bytes": size, "return_mean": facts["return_mean"]}
    )
    return size <= 4_000_000


def main(words: list[str]) -> int:
    """Exit status: 0 done, 1 what was asked does not hold (yet), 2 cannot be asked here."""
    parts = {"check": check, "graph": graph, "speed": speed, "learn": learn, "zoo": zoo}
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=list(parts))
    parser.add_argument("--env", default="ALE/Pong-v5")
    parser.add_argument("--stop", type=float, default=None, help="mean return at which learning ends")
    parser.add_argument("--minutes", type=float, default=8.0, help="of learning in one command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="on the CPU, tiny: only that it runs")
    parser.add_argument("--out", type=Path, default=ROOT, help="where results and runs lie")
    options = parser.parse_args(words)
    if not options.smoke and not torch.cuda.is_available():
        print(
            f"there is no CUDA device here (PyTorch {torch.__version__}); --smoke runs it on the CPU", file=sys.stderr
        )
        return 2
    try:
        config = with_changes(preset(options.env, "gpu"), {"seed": options.seed} | (SMOKE if options.smoke else {}))
        stop = STOP.get(options.env) if options.stop is None else options.stop
        job = Job(config, options.smoke, options.out, stop, options.minutes)
        return 0 if parts[options.part](job) else 1
    except NimbleqError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
