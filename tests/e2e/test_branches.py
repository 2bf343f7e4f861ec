"""Actions of several dimensions on the command line: trained, compressed, certified, exported and verified."""

from __future__ import annotations

from pathlib import Path

import pytest

from nimbleq.deploy.runtime import Runtime
from tests.e2e.conftest import Cli
from tests.e2e.support import one_line

ENV = ("--env", "tests.rl.own_envs:Levers")
SHORT = (
    "--steps", "2000", "--envs", "4", "--learn-start", "200", "--network.hidden", "16", "--learner.gamma", "0",
    "--learner.lr", "0.01", "--learner.lr-end", "0.001", "--learner.lr-updates", "400", "--replay.n-step", "1",
    "--explore.updates", "200", "--evaluation.every", "150", "--evaluation.final-episodes", "20",
)  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("masked", [False, True])
def test_the_whole_line(inline: Cli, tmp_path: Path, masked: bool) -> None:
    run, kwargs = tmp_path / "run", ("--env-kwargs", "masks=True", "first=5") if masked else ()
    trained = inline("train", *ENV, *kwargs, *SHORT, "--out", run, "--json")
    assert trained.code == 0, trained.err
    assert trained.json["return_mean"] > 4.5  # by luck: 2.9, or 3.6 with masks
    passes = ("student=8", "distill", "fold", "int8")
    brief = ("--distill.rounds", "1", "--distill.updates", "200", "--distill.last-updates", "200")
    options = ("--keep", "0.3", "--passes", *passes, *brief, "--select-episodes", "20", "--max-episodes", "200")
    small = inline("compress", run, *options, "--no-scratch", "--json")
    assert small.code == 0, small.err
    assert small.json["certified"]
    artefact = run / "artefacts" / "small"
    build = tmp_path / "build"
    assert inline("export", artefact, "--to", "c", "onnx", "--out", build).code == 0
    checked = inline("verify", build, "--observations", "500", "--json").json
    assert checked["mismatches"] == 0
    assert checked["checked"] > 1500
    assert "void policy_choices(int index, int32_t *choices);" in (build / "policy.h").read_text()
    policy = Runtime(artefact)
    flags = ([1] * 9,) if masked else ()
    assert policy.act(graph_obs := [0.5, -0.5], *flags).shape == (3,), graph_obs
    refused = inline("export", artefact, "--to", "litert", "--out", tmp_path / "other")
    assert "BranchArgMax" in one_line(refused) or "needs" in one_line(refused)


def test_a_head_of_one_dimension_is_refused(inline: Cli, tmp_path: Path) -> None:
    done = inline("train", *ENV, "--preset", "rainbow", "--out", tmp_path / "run")
    assert "the setting network.head must be branching, not c51" in one_line(done)
