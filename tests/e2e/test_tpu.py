"""nimbleq doctor --tpu: the programs of a training, compiled for TPUs that are not there; and every refusal."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

needs_compiler = pytest.mark.skipif(find_spec("libtpu") is None, reason="the TPU compiler is not installed")


def test_without_the_compiler_one_line_says_what_to_install(inline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jax")
    monkeypatch.setattr("nimbleq.rl.learners.xla.ahead.find_spec", lambda name: None)
    done = inline("doctor", "--tpu", "v5e:2x2")
    assert done.code == 2
    assert done.err == "nimbleq: the TPU compiler is not installed: pip install 'nimbleq[tpu]'\n"


def test_what_the_engine_cannot_train_is_refused(inline: Any) -> None:
    done = inline("doctor", "--tpu", "v5e:2x2", "--preset", "qr")
    assert done.code == 2
    assert "no qr head" in done.err
    assert done.err.count("\n") == 1


@pytest.mark.tpu
@needs_compiler
def test_an_unknown_topology_is_refused(inline: Any) -> None:
    done = inline("doctor", "--tpu", "v5e:banana")
    assert done.code == 2
    assert "no TPU topology 'v5e:banana'; for example v5e:1x1, v5e:2x2" in done.err.splitlines()[-1]


@pytest.mark.tpu
@needs_compiler
@pytest.mark.parametrize(("topology", "chips"), [("v5e:2x2", 4), ("v6e:1x1", 1), ("v5p:2x2x1", 4)])
def test_the_programs_of_a_training_compile(inline: Any, topology: str, chips: int) -> None:
    done = inline("doctor", "--json", "--tpu", topology, "--hidden", "256", "256", "--batch", "1024")
    assert done.code == 0
    update, *others = done.json["programs"]
    assert update["fits"]
    assert update["code_bytes"] > 1_000
    parameters = 4 * (4 * 256 + 256 + 256 * 256 + 256 + 256 * 2 + 2)
    assert update["argument_bytes"] >= 3 * parameters, "weights and Adam's two moments"
    assert 0 < update["estimate_us"] < 1_000
    assert update["collectives"] == {}
    shared = [program for program in others if program["chips"] == chips > 1]
    assert len(shared) == (2 if chips > 1 else 0)
    if shared:
        data, model = shared
        assert data["collectives"].get("all-reduce", 0) >= 1, "gradients are added up"
        assert sum(model["collectives"].values()) >= 1
        assert model["argument_bytes"] < 1.3 * update["argument_bytes"]


@pytest.mark.tpu
@needs_compiler
def test_what_does_not_fit_says_so(inline: Any) -> None:
    done = inline("doctor", "--json", "--tpu", "v5e:1x1", "--hidden", "200000", "30000", "--preset", "dqn")
    assert done.code == 1
    assert not done.json["programs"][0]["fits"]
    assert done.json["programs"][0]["refusal"]
