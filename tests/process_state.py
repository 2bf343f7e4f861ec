"""A program: call every public function once in a fresh process, and print as JSON what each changed process-wide.

With ``--reversed`` in the other order: what a first call does to the process is done by another function then.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import nimbleq
from nimbleq.config import NetworkConfig, with_changes

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE)


def process_state() -> dict[str, str]:
    """Everything that other code in the process would notice, as text."""
    tiny = np.float32(1e-40) * np.array([0.5], np.float32)  # zero where denormals are flushed
    return {
        "torch threads": str(torch.get_num_threads()),
        "torch generator": str(hash(torch.random.get_rng_state().numpy().tobytes())),
        "torch gradients": f"{torch.is_grad_enabled()}, inference {torch.is_inference_mode_enabled()}",
        "torch defaults": f"{torch.get_default_dtype()}, {torch.get_float32_matmul_precision()}",
        "torch determinism": str(torch.are_deterministic_algorithms_enabled()),
        "numpy generator": str(hash(str(np.random.get_state()))),
        "numpy errors": str(np.geterr()),
        "python generator": str(hash(random.getstate())),
        "warnings": str(warnings.filters),
        "signals": str([signal.getsignal(number) for number in SIGNALS]),
        "environment": str(sorted(os.environ.items())),
        "folder": str(Path.cwd()),
        "denormals": f"numpy {tiny[0] > 0}, torch {bool(torch.tensor([1e-40]).mul(0.5)[0] > 0)}",
    }


def calls(folder: Path) -> dict[str, Callable[[], Any]]:
    """Each public function (a class: making one) on something small."""
    from nimbleq.compress.passes.settings import DistillConfig
    from nimbleq.compress.search.config import CompressConfig
    from nimbleq.compress.search.search import compress_policy as search
    from nimbleq.rl.envs.engines import spec_of
    from nimbleq.rl.nets.network import initial_network
    from nimbleq.rl.training.evaluate import Evaluator
    from nimbleq.rundir import RunDir

    small = {
        "learn_start": 100, "envs": 4, "steps": 600, "env.max_episode_steps": 30, "evaluation.every": 20,
        "evaluation.episodes": 2, "evaluation.final_episodes": 2, "evaluation.stop_return": None,
    }  # fmt: skip

    def train() -> None:
        config = with_changes(nimbleq.preset("CartPole-v1"), small)
        for engine, changes in {
            "native": {},
            "torch": {"network.noisy": True, "learner.engine": "torch"},
            "device": {"env.workers": 2},
        }.items():
            each = with_changes(config, {"learner.engine": engine, **changes})
            nimbleq.train(each, RunDir(folder / engine))

    spec = spec_of(nimbleq.EnvConfig())
    network = initial_network(spec, NetworkConfig())

    def graph() -> Any:
        return nimbleq.to_graph(network, spec.obs)

    policy = graph()

    def compress() -> None:
        distill = DistillConfig(rounds=1, updates=5, last_updates=5, episodes=2, states=50)
        config = CompressConfig(0.1, hidden=((4,),), select_episodes=4, max_episodes=8, distill=distill)
        with Evaluator(nimbleq.EnvConfig(max_episode_steps=30)) as evaluate:
            search(policy, evaluate, config)

    def certify() -> None:
        with Evaluator(nimbleq.EnvConfig(max_episode_steps=30)) as evaluate:
            nimbleq.certify(policy, policy, evaluate, 0.1, max_episodes=8)

    obs = np.zeros((2, 4), np.float32)
    nimbleq.save_artefact(folder / "artefact", policy, obs, {})
    return {
        "EnvConfig": nimbleq.EnvConfig,
        "TrainConfig": nimbleq.TrainConfig,
        "NimbleqError": nimbleq.NimbleqError,
        "preset": lambda: nimbleq.preset("CartPole-v1"),
        "train": train,
        "to_graph": graph,
        "Graph": lambda: replace(policy),
        "interpret": lambda: nimbleq.interpret(policy, obs),
        "save_artefact": lambda: nimbleq.save_artefact(folder / "another", policy, obs, {}),
        "load_artefact": lambda: nimbleq.load_artefact(folder / "artefact"),
        "emit_c": lambda: nimbleq.emit_c(policy, "policy"),
        "Runtime": lambda: nimbleq.Runtime(policy).act(obs[0]),
        next(name for name in nimbleq.__all__ if name.startswith("compress")): compress,
        "certify": certify,
    }


def main() -> None:
    torch.set_num_threads(3)
    changed = {}
    with tempfile.TemporaryDirectory() as folder:
        todo = list(calls(Path(folder)).items())
        for name, call in reversed(todo) if "--reversed" in sys.argv else todo:
            before = process_state()
            call()
            after = process_state()
            changed[name] = {what: [before[what], after[what]] for what in before if before[what] != after[what]}
    json.dump(changed, sys.stdout)


if __name__ == "__main__":
    main()
