"""``nimbleq export --c.learn``: the C learns on as the run learnt, or the command is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

from nimbleq.deploy.targets.c.learn import LearnOptions, emit_learn
from nimbleq.graph.artefact import load_artefact
from tests.e2e.conftest import Cli
from tests.e2e.support import one_line

TRAIN = (
    "train", "--env", "CartPole-v1", "--preset", "stream", "--network.hidden", "8", "--steps", "300",
    "--learner.gamma", "0.9", "--stream.overshoot", "3.5", "--evaluation.final-episodes", "2",
)  # fmt: skip


def test_the_settings_are_those_of_the_run(inline: Cli, tmp_path: Path) -> None:
    run, build = tmp_path / "run", tmp_path / "build"
    trained = inline(*TRAIN, "--out", run, "--json")
    assert trained.code == 0, trained.err
    teacher = run / "artefacts" / "teacher"
    learn = ("export", "--to", "c", "--c.learn", "--out", build)

    def written(*words: object) -> str:
        done = inline(*learn, *words)
        assert done.code == 0, done.err
        return (build / "policy_learn.c").read_text()

    def expected(bound: float) -> str:
        return emit_learn(load_artefact(teacher).graph, "policy", LearnOptions(0.9, 0.8, 1.0, bound))["policy_learn.c"]

    assert written(teacher) == expected(3.5)
    assert written(teacher, "--c.learning.bound", "2") == expected(2.0) != expected(3.5)
    alone = tmp_path / "alone"
    shutil.copytree(teacher, alone)
    assert "give --c.learning.gamma, too" in one_line(inline(*learn, alone))
