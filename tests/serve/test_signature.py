"""What a policy takes and gives over the wire, without a server."""

from pathlib import Path

import numpy as np
import pytest

from nimbleq.deploy.runtime import Runtime
from nimbleq.serve.policy import Served
from nimbleq.serve.refusal import RefusedError, Why
from tests.serve.support import OBS, masked, nested, plain


def test_the_tensors_are_those_of_the_interface(tmp_path: Path) -> None:
    described = [tensor.described() for tensor in Served.load("n", nested(tmp_path / "n")).signature.inputs]
    assert described == [
        {"name": "position", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "gear", "datatype": "INT64", "shape": [-1]},
        {"name": "action_mask", "datatype": "INT8", "shape": [-1, 2]},
    ]
    outputs = [tensor.described() for tensor in Served.load("n", tmp_path / "n").signature.outputs]
    assert outputs[0] == {"name": "action", "datatype": "FP64", "shape": [-1, 2]}
    assert Served.load("m", masked(tmp_path / "m")).signature.inputs[-1].name == "mask"


def test_a_decision_is_the_runtime_s(tmp_path: Path) -> None:
    path = nested(tmp_path / "n")
    served, runtime = Served.load("n", path), Runtime(path)
    rng = np.random.default_rng(3)
    position, gear = rng.normal(size=(50, 2)), rng.integers(1, 4, 50)
    mask = rng.integers(0, 2, (50, 2))
    mask[:, 0] |= mask.sum(1) == 0
    answers = served.decide({"position": position, "gear": gear, "action_mask": mask})
    for index in range(50):
        obs = {"position": position[index], "gear": gear[index], "action_mask": mask[index]}
        assert np.array_equal(answers["action"][index], runtime.act(obs))
        assert np.array_equal(answers["q"][index], runtime.q_values(obs))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "the input 'obs' is missing"),
        ({"obs": OBS, "speed": OBS}, "there is no input 'speed': it takes obs"),
        ({"obs": OBS[:3]}, "obs has the shape [3]: it must be [4], or [N, 4]"),
        ({"obs": np.zeros((0, 4))}, "obs has the shape [0, 4]"),
        ({"obs": OBS[None, None]}, "obs has the shape [1, 1, 4]"),
        ({"obs": OBS * np.nan}, "NaN or infinity"),
    ],
)
def test_bad_inputs_are_refused_in_one_line(given: dict[str, np.ndarray], text: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=text.replace("[", r"\[").replace("]", r"\]")) as caught:
        Served.load("p", plain(tmp_path / "p")).decide(given)
    assert caught.value.why is Why.INVALID
    assert "\n" not in str(caught.value)


def test_a_masked_policy_needs_the_mask_and_keeps_to_it(tmp_path: Path) -> None:
    served = Served.load("m", masked(tmp_path / "m"))
    with pytest.raises(RefusedError, match="needs the mask"):
        served.decide({"obs": OBS})
    with pytest.raises(RefusedError, match="allows no action"):
        served.decide({"obs": OBS, "mask": np.zeros(3, bool)})
    for only in range(3):
        assert served.decide({"obs": OBS, "mask": np.eye(3, dtype=bool)[only]})["action"] == [only]


def test_the_counts_of_the_inputs_agree(tmp_path: Path) -> None:
    served = Served.load("m", masked(tmp_path / "m"))
    with pytest.raises(RefusedError, match="the inputs hold 2, 3 observations"):
        served.decide({"obs": np.zeros((2, 4)), "mask": np.ones((3, 3), bool)})


def test_a_successor_is_for_the_same_clients(tmp_path: Path) -> None:
    served = Served.load("p", plain(tmp_path / "p"))
    plain(tmp_path / "p", seed=1)
    assert served.successor().digest != served.digest
    masked(tmp_path / "p")
    with pytest.raises(RefusedError, match="takes other observations or gives other actions"):
        served.successor()
