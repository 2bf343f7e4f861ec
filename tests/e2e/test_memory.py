"""A policy that remembers, on the command line: each verb keeps its memory, or refuses in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from nimbleq.deploy.runtime import Runtime
from nimbleq.seeds import episode_seeds
from tests.e2e.conftest import Cli
from tests.e2e.support import one_line
from tests.rl.own_envs import Corridor

ENV = ("--env", "tests.rl.own_envs:Corridor")
SHORT = (
    "--network.memory", "6", "--network.hidden", "8", "--steps", "1200", "--envs", "4", "--learn-start", "100",
    "--replay.capacity", "4000", "--replay.burn-in", "2", "--replay.sequence", "4", "--learner.batch-size", "32",
    "--evaluation.every", "100", "--evaluation.episodes", "8", "--evaluation.final-episodes", "20",
)  # fmt: skip
BRIEF = ("--keep", "0.3", "--select-episodes", "20", "--max-episodes", "200", "--no-scratch", "--name", "other")
OTHERS = ("verilog", "wasm", "executorch", "litert", "cortex-m4", "rust", "onnx-qdq")
REFUSED = {
    "students": (("compress", "RUN", "--passes", "student=8", "distill", "int8", *BRIEF), "this policy remembers"),
    "int8": (("compress", "RUN", "--recipe", "int8", *BRIEF), "has nothing for a teacher like this one"),
    "robust": (("robust", "SMALL"), "remembers observations, and what is proven here is of single ones"),
    "bench": (("bench", "SMALL"), "remembers observations, and single decisions are timed here"),
    "serve": (("serve", "SMALL", "--port", "0"), "remembers observations, and a server's requests are not one episode"),
    "guard": (("guard", "SMALL", "--fallback", "0"), "this policy remembers"),
    "transfer": (("train", *ENV, "--from", "RUN", "--out", "NEW"), "remembers observations"),
    **{
        target: (("export", "SMALL", "--to", target, "--out", "NEW"), f"which {target} cannot: give --to c onnx")
        for target in OTHERS
    },
}


def played(small: Path, episodes: int) -> list[float]:
    """Returns with the runtime's own memory, in Gymnasium's environment as it is."""
    policy, env, returns = Runtime(small), Corridor(), []
    for seed in episode_seeds("watch", 0, episodes).tolist():
        policy.reset()
        obs, over, total = env.reset(seed=seed)[0], False, 0.0
        while not over:
            obs, reward, over, _, _ = env.step(policy.act(obs))
            total += reward
        returns.append(total)
    return returns


@pytest.mark.long
def test_the_whole_line(inline: Cli, tmp_path: Path) -> None:
    run, build = tmp_path / "run", tmp_path / "build"
    small = run / "artefacts" / "small"
    trained = inline("train", *ENV, *SHORT, "--out", run, "--json")
    assert trained.code == 0, trained.err
    made = inline("compress", run, *BRIEF[:-2], "--json")
    assert made.code == 0, made.err
    assert made.json["certified"]
    assert made.json["baselines"] == {"linear": None, "scratch": None}, "neither would remember"
    again = inline("certify", small, "--fresh", "--max-episodes", "400", "--json")
    assert again.code == 0, again.err
    assert inline("export", small, "--to", "c", "onnx", "--out", build).code == 0
    checked = inline("verify", build, "--observations", "300", "--json").json
    assert (checked["mismatches"], checked["checked"] > 900) == (0, True)
    watched = inline("watch", small, "--episodes", "6", "--json").json["returns"]
    assert watched == played(small, 6)
    assert inline("report", run).code == 0
    words = {"RUN": str(run), "SMALL": str(small), "NEW": str(tmp_path / "new")}
    for name, (command, says) in REFUSED.items():
        line = one_line(inline(*(words.get(word, word) for word in command)))
        assert says in line, (name, line)
        assert not (tmp_path / "new").exists(), name
