"""A run with a policy network on the command line: what is compressed, certified, judged and said."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nimbleq.graph.artefact import load_artefact
from nimbleq.graph.interpret import interpret
from tests.e2e.conftest import BRIEF, Cli
from tests.e2e.support import one_line


def test_the_policy_is_compressed_and_the_value_network_judges(inline: Cli, tmp_path: Path) -> None:
    run = tmp_path / "pair"
    words = ("--policy-network", "6", "--policy-format", "int8", "--policy.collects", "policy", "--policy.lr", "0.01")
    trained = inline("train", *BRIEF, "--steps", "1600", *words, "--out", run, "--json").json
    found = trained["policy_value"]
    policy, value = load_artefact(run / "artefacts" / "teacher"), load_artefact(run / "value-network")
    assert policy.provenance["parents"] == {"value network": value.digest}
    assert "logits" in policy.q_meaning
    floats = sum(weight.size for weight in value.graph.weights.values())
    assert found["policy_size_bytes"] < found["value_size_bytes"] == 4 * floats
    assert found["best_value"] - found["policy_value"] == found["regret"] >= 0
    assert 0 <= found["agreement"] <= 1
    assert interpret(policy.graph, np.zeros((1, 4), np.float32)).keys() >= {"q", "action"}

    options = ("--keep", "0.3", "--passes", "fold", "int8", "--select-episodes", "20", "--max-episodes", "60")
    small = inline("compress", run, *options, "--no-scratch", "--json")
    assert small.code in (0, 1), small.err
    assert "policy network, not the value network" in small.err
    again = inline("certify", run / "artefacts" / "small", "--max-episodes", "2", "--json")
    assert again.code in (0, 1), again.err
    assert "policy network, not the value network" in again.json["teacher"]
    assert (
        "policy network, not the value network"
        in (load_artefact(run / "artefacts" / "small").certificate or {})["teacher"]
    )

    page = Path(inline("report", run, "--json").json["report"]).read_text()
    assert "Policy and value network" in page
    assert "The policy network played to learn from" in page


def test_settings_of_a_policy_without_one_are_refused(inline: Cli, tmp_path: Path) -> None:
    done = inline("train", *BRIEF, "--policy-format", "int8", "--out", tmp_path / "run")
    assert "--policy-network" in one_line(done)
    done = inline("train", *BRIEF, "--policy-network", "8", "--learner.engine", "device", "--out", tmp_path / "run")
    assert "learner.engine must be auto or native or torch" in one_line(done)
    assert not (tmp_path / "run").exists()


def test_a_run_starts_from_another_and_says_what_came_of_it(inline: Cli, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert inline("train", *BRIEF, "--out", first).code == 0
    words = ("--from", first, "--transfer", "finetune", "--seed", "5", "--out", second)
    done = inline("train", *BRIEF, *words, "--json")
    found = done.json["transfer"]
    assert found["goes_on"] in ("transfer", "scratch")
    assert found["why"] in done.err
    assert inline("train", "--resume", "--out", second, "--json").json == done.json
    assert "Start from another policy" in Path(inline("report", second, "--json").json["report"]).read_text()
    refused = inline("train", *BRIEF, "--from", tmp_path, "--out", tmp_path / "third")
    assert "neither a run nor an artefact" in one_line(refused)
    assert not (tmp_path / "third").exists()


def test_pqn_and_pictures_have_a_policy_network_too(inline: Cli, tmp_path: Path) -> None:
    short = ("--evaluation.episodes", "2", "--evaluation.final-episodes", "2", "--evaluation.no-beside", "--json")
    pictures = ("--env", "benchmarks.corridor:small_pictures", "--network.torso", "small", "--max-episode-steps", "20")
    runs = {
        "pqn": ("--env", "CartPole-v1", "--preset", "pqn", "--steps", "9000"),
        "pictures": (*pictures, "--steps", "500", "--learn-start", "200", "--envs", "4", "--evaluation.every", "50"),
    }
    for name, words in runs.items():
        done = inline("train", *words, "--policy-network", "8", *short, "--out", tmp_path / name)
        assert done.code == 0, done.err
        found = done.json["policy_value"]
        assert 0 < found["policy_size_bytes"] < found["value_size_bytes"]
        assert load_artefact(tmp_path / name / "artefacts" / "teacher").provenance["parents"]
