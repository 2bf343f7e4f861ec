"""A policy of an environment with masks takes them itself after compression, and is judged by legal play."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nimbleq.compress.passes import PASSES
from nimbleq.compress.passes.context import Context
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.search.config import CompressConfig
from nimbleq.compress.search.search import compress_policy
from nimbleq.config import EnvConfig
from nimbleq.deploy.runtime import Runtime
from nimbleq.graph.artefact import save_artefact
from nimbleq.graph.cost import cost
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.graph.rewrites.mask import with_mask, without_mask
from nimbleq.rl.training.evaluate import Evaluator
from nimbleq.types import Evaluate
from tests.deploy.nets import mlp

MIXED = EnvConfig("tests.rl.own_envs:Mixed")  # it refuses illegal actions itself


def test_students_take_the_teachers_mask(tmp_path: Path) -> None:
    with Evaluator(MIXED) as evaluate:
        spec = evaluate.spec
        assert spec.masked
        teacher = with_mask(mlp(spec.obs.shape[0], 16, spec.actions, seed=1))
        config = CompressConfig(
            keep=0.5,
            recipe="distill",
            hidden=((),),
            select_episodes=8,
            max_episodes=16,
            distill=DistillConfig(states=200, updates=20),
        )
        found = compress_policy(teacher, evaluate, config)
        assert found.best.graph.masked
        assert all(candidate.graph.masked for candidate in found.candidates)
        assert len(evaluate(GraphPolicy(found.best.graph), [1, 2]).returns) == 2
        made = save_artefact(tmp_path / "small", found.best.graph, found.golden_obs, {}, interface=spec.interface)
        policy = Runtime(made.path, "numpy")
        only = np.arange(spec.actions) == spec.actions - 1
        assert policy.decider.act(made.golden.obs[0], only) == spec.actions - 1


@pytest.mark.parametrize("setting", ["4", "ternary"])
def test_a_mask_leaves_weights_packed_as_they_are(setting: str, balance: Evaluate) -> None:
    teacher = mlp(4, 16, 2, seed=1)
    graph = PASSES["qat"].make(setting)(teacher, Context(teacher, balance, DistillConfig(states=200, last_updates=20)))
    packed, masked = cost(graph).size_bytes, with_mask(graph)
    assert graph.storage, "weights of fewer bits than a byte"
    assert cost(masked).size_bytes == packed
    assert cost(without_mask(masked)).size_bytes == packed
