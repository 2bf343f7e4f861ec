"""Every public name does what it is for: a policy's whole way, through ``nimbleq`` alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nimbleq
from nimbleq.rundir import RunDir
from nimbleq.types import Array, Episodes, ObsSpec, Policy


def play(policy: Policy, seeds: Sequence[int], *, epsilon: float = 0.0, keep_obs: int = 0) -> Episodes:
    """One decision an episode: 1 for the side on which the observation lies, 0 for the other."""
    rngs = [np.random.default_rng(seed) for seed in seeds]
    obs = np.array([rng.normal(size=2) for rng in rngs], np.float32)
    random = np.array([rng.random() < epsilon for rng in rngs])
    action = np.where(random, [rng.integers(2) for rng in rngs], policy(obs))
    returns = (action == (obs[:, 0] > 0)).astype(float)
    return Episodes(np.asarray(seeds), returns, np.ones(len(seeds), np.int64), obs[:keep_obs] if keep_obs else None)


def test_every_public_name(tmp_path: Path) -> None:
    used: set[str] = set()

    def name(which: str) -> Any:
        used.add(which)
        return getattr(nimbleq, which)

    module = torch.nn.Linear(2, 2)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
        module.bias.zero_()
    graph = name("to_graph")(module, ObsSpec((2,)))
    assert isinstance(graph, name("Graph"))
    obs = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    right: Array = (obs[:, 0] > 0).astype(int)
    assert (name("interpret")(graph, obs)["action"] == right).all()

    name("save_artefact")(tmp_path / "a", graph, obs, {})
    assert (name("interpret")(name("load_artefact")(tmp_path / "a").graph, obs)["action"] == right).all()
    assert set(name("emit_c")(graph)) == {"policy.c", "policy.h"}
    assert [name("Runtime")(graph, "numpy").act(one) for one in obs] == right.tolist()

    proved = name("certify")(graph, graph, play, 0.9, return_range=(0.0, 1.0))
    assert proved.certified
    from nimbleq.compress.passes.fold import Fold
    from nimbleq.compress.search.config import CompressConfig

    small = name("compress_policy")(graph, play, CompressConfig(keep=0.9, recipe=(Fold(),), select_episodes=100))
    assert small.certificate.certified

    config = name("preset")("CartPole-v1")
    assert isinstance(config, name("TrainConfig"))
    assert config.env == name("EnvConfig")("CartPole-v1")
    from nimbleq.config import with_changes

    short = with_changes(config, {"steps": 200, "learn_start": 100, "evaluation.final_episodes": 2})
    assert name("train")(short, RunDir(tmp_path / "run")).steps >= 200
    with pytest.raises(name("NimbleqError")):
        name("preset")("CartPole-v1", "no such preset")
    assert name("__version__")
    assert used == set(nimbleq.__all__)


def test_names_do_not_change_when_their_rooms_are_loaded() -> None:
    """A subpackage of a public function's name would take its place once it is imported."""
    code = """
import importlib, pkgutil, nimbleq
for name in nimbleq.__all__:
    first = getattr(nimbleq, name)
    for room in pkgutil.iter_modules(nimbleq.__path__):
        if room.name == name:
            raise SystemExit(f"nimbleq.{name} is a public name and a module")
import nimbleq.compress.certify, nimbleq.compress.search.search
from nimbleq import certify, compress_policy
assert callable(certify) and callable(compress_policy)
from nimbleq.compress.certify import noninferior
assert callable(noninferior)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
