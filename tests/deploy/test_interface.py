"""What the environment gives is what `Runtime.act` takes, and what it answers is what the environment takes."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import sys
import threading
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from nimbleq.deploy.export import export
from nimbleq.deploy.runtime import Runtime
from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.toolchain import find_compiler
from nimbleq.deploy.verify import verify_build
from nimbleq.errors import ConfigError, FileError, ObservationError
from nimbleq.graph import ops
from nimbleq.graph.artefact import load_artefact, save_artefact
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.interface import Interface, network_input
from nimbleq.graph.interpret import GraphPolicy, interpret
from nimbleq.graph.rewrites.mask import with_mask, without_mask
from nimbleq.graph.tensor import UINT8, TensorType
from nimbleq.rl.envs.observe import space_of
from tests.deploy.nets import int_mlp, mlp

ENGINES = [pytest.param("c", marks=pytest.mark.skipif(find_compiler() is None, reason="needs a C compiler")), "numpy"]
OBS = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
MASKS = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 0], [0, 0, 1]] * 10, bool)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


class Grid(gymnasium.Env[Any, Any]):
    """A bool picture, channels last: which of two planes holds the block? Twenty steps, one point each."""

    action_space = spaces.Discrete(2)

    def __init__(self, planes: int) -> None:
        self.observation_space = spaces.Box(0, 1, (10, 10, planes), np.bool_)

    def _look(self) -> np.ndarray:
        obs = np.zeros(self.observation_space.shape, bool)  # type: ignore[arg-type]
        self.which = int(self.np_random.integers(2))
        row, column = self.np_random.integers(0, 6, 2)
        obs[row : row + 4, column : column + 4, self.which] = True
        return obs

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._look(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        good = int(action) == self.which
        self.steps += 1
        return self._look(), float(good), False, self.steps >= 20, {}


def counting(planes: int) -> Graph:
    """The right policy of `Grid`: the pixels of each of the first two planes, which are 0 or 255, added up."""
    weight = np.zeros((2, planes * 100), np.float32)
    weight[0, :100] = weight[1, 100:200] = 1
    weight -= np.float32(0.01)  # so that the sums of all the others matter, too
    nodes = (
        Node(ops.Flatten(), ("obs",), "flat"),
        Node(ops.Linear("w"), ("flat",), Q),
        Node(ops.ArgMax(), (Q,), ACTION),
    )
    return Graph({"obs": TensorType((planes, 10, 10), UINT8)}, nodes, (Q, ACTION), {"w": weight})


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("planes", [10, 4])
def test_raw_pictures_are_played_to_the_full_return(engine: Any, planes: int, tmp_path: Path) -> None:
    env = Grid(planes)
    interface = Interface(space_of(env.observation_space), 2)
    golden = network_input(interface, env.observation_space.sample())[None]
    save_artefact(tmp_path / "grid", counting(planes), golden, {}, interface=interface)
    policy = Runtime(tmp_path / "grid", engine)
    total = 0.0
    for seed in range(3):
        obs, _ = env.reset(seed=seed)
        over = False
        while not over:
            obs, reward, _, over, _ = env.step(policy.act(obs))
            total += reward
    assert total == 60.0
    raw = env.observation_space.sample()
    assert policy.act(raw.astype(np.uint8)) == policy.act(raw.tolist()) == policy.act(raw)
    for wrong in (raw.transpose(2, 0, 1) if planes != 10 else raw[:9], raw[0], raw * 2.0, np.full(raw.shape, 255), "x"):
        with pytest.raises(ObservationError) as caught:
            policy.act(wrong)
        assert "\n" not in str(caught.value)
    # What the network reads goes to the engine itself.
    assert policy.decider.act(network_input(interface, raw)) == policy.act(raw)


@pytest.mark.parametrize("engine", ENGINES)
def test_dicts_and_numbered_actions(engine: Any) -> None:
    space = spaces.Dict({"speed": spaces.Box(-9, 9, (2,), np.float64), "gear": spaces.Discrete(3, start=-1)})
    interface = Interface(space_of(space), 3, action_start=-1)
    graph = mlp(interface.obs.shape[0], 8, 3)
    policy = Runtime(graph, engine, interface=interface, fallback_action=0)
    raw = {"speed": [0.5, -2.0], "gear": 1}
    ready = network_input(interface, raw)
    want = interpret(graph, ready[None])
    assert policy.act(raw) == int(want[ACTION][0]) - 1
    np.testing.assert_allclose(policy.q_values(raw), want[Q][0], atol=1e-5)
    assert policy.act({"speed": np.array([np.nan, 0.0]), "gear": 0}) == -1  # index 0
    assert policy.status.refused == 1
    for wrong in ({"speed": [0.5, -2.0]}, {"speed": [0.5, -2.0], "gear": 5}, [0.0] * 5):
        with pytest.raises(ObservationError):
            policy.act(wrong)


def test_commands_of_discretized_actions() -> None:
    commands = np.array([[-1.0, 0.0], [0.0, 0.5], [1.0, 1.0]], np.float32)
    interface = Interface(space_of(spaces.Box(-1, 1, (4,))), 3, commands=commands)
    graph = mlp(4, 8, 3)
    policy = Runtime(graph, "numpy", interface=interface)
    index = int(interpret(graph, OBS[:1])[ACTION][0])
    answer = policy.act(OBS[0])
    np.testing.assert_array_equal(answer, commands[index])
    answer[:] = 9  # the caller's own
    np.testing.assert_array_equal(policy.act(OBS[0]), commands[index])


@pytest.mark.parametrize("engine", [*ENGINES, "onnxruntime"])
@pytest.mark.parametrize("graph", [mlp(4, 16, 3), int_mlp(4, 16, 3)], ids=["float", "int"])
def test_masked_policies_need_their_mask(engine: Any, graph: Graph) -> None:
    if engine == "onnxruntime":
        pytest.importorskip("onnxruntime")
    policy = Runtime(with_mask(graph), engine, fallback_action=2)
    q = interpret(graph, OBS)[Q]
    want = np.where(MASKS, q, -np.inf).argmax(axis=1)
    assert [policy.act(obs, mask) for obs, mask in zip(OBS, MASKS, strict=True)] == want.tolist()
    assert policy.act(OBS[0], mask=MASKS[0]) == policy.act(OBS[0], MASKS[0].tolist()) == want[0]
    assert policy.act(OBS[0], MASKS[0].astype(np.int64)) == want[0]
    assert policy.act(OBS[0].tolist(), MASKS[0]) == want[0]
    np.testing.assert_allclose(policy.q_values(OBS[0]), q[0], atol=1e-5)
    with pytest.raises(ObservationError, match="needs the mask"):
        policy.act(OBS[0])
    with pytest.raises(ObservationError, match="allows no action"):
        policy.act(OBS[0], np.zeros(3, bool))
    for wrong in (np.ones(2, bool), np.full(3, 7), "abc", [0.5, 1, 1]):
        with pytest.raises(ObservationError):
            policy.act(OBS[0], wrong)
    assert policy.status.refused == 0
    bad = np.full(4, np.nan, np.float32)
    assert policy.act(bad, np.array([0, 1, 1], bool)) == 2
    with pytest.raises(ObservationError, match="fallback action is not legal"):
        policy.act(bad, np.array([1, 1, 0], bool))
    with pytest.raises(ObservationError, match="takes no mask"):
        Runtime(graph, engine).act(OBS[0], MASKS[0])


def test_masks_come_from_the_observation_or_as_lists() -> None:
    graph = with_mask(mlp(2, 8, 3))
    seen = spaces.Dict({"x": spaces.Box(-1, 1, (2,)), "action_mask": spaces.MultiBinary(3)})
    policy = Runtime(graph, "numpy", interface=Interface(space_of(seen), 3, mask="obs:action_mask"))
    assert policy.act({"x": [0.1, 0.2], "action_mask": [0, 0, 1]}) == 2
    listed = Interface(space_of(spaces.Box(-1, 1, (2,))), 3, action_start=5, mask="info:admissible_actions")
    assert Runtime(graph, "numpy", interface=listed).act([0.1, 0.2], [6]) == 6
    with pytest.raises(ConfigError, match="takes none"):
        Runtime(mlp(2, 8, 3), "numpy", interface=listed)


def test_the_mask_is_part_of_the_graph() -> None:
    graph = mlp(4, 16, 3)
    masked = with_mask(graph)
    assert with_mask(masked) is masked
    with pytest.raises(Exception, match="needs the mask"):
        interpret(masked, OBS)
    with pytest.raises(Exception, match="takes no mask"):
        interpret(graph, OBS, MASKS)
    with pytest.raises(Exception, match="allows no action"):
        interpret(masked, OBS, np.zeros((40, 3), bool))
    want = interpret(masked, OBS, MASKS)[ACTION]
    for policy in (GraphPolicy(graph), GraphPolicy(masked)):
        np.testing.assert_array_equal(policy(OBS, MASKS), want)
    np.testing.assert_array_equal(interpret(without_mask(masked), OBS)[ACTION], interpret(graph, OBS)[ACTION])
    assert MASKS[np.arange(40), want].all()


@pytest.mark.parametrize("graph", [mlp(4, 16, 3), int_mlp(4, 16, 3)], ids=["float", "int"])
def test_masked_artefacts_keep_masks_and_verify(graph: Graph, tmp_path: Path) -> None:
    made = save_artefact(tmp_path / "a", with_mask(graph), OBS, {"q_meaning": "the reward to come"})
    assert made.graph.masked
    assert made.golden.mask is not None
    assert made.golden.mask.any(axis=1).all()
    again = save_artefact(tmp_path / "b", with_mask(graph), OBS, {}, golden_mask=MASKS)
    np.testing.assert_array_equal(again.golden.mask, MASKS)
    targets = ("c", "onnx") if find_compiler() else ("onnx",)
    pytest.importorskip("onnxruntime")
    export(tmp_path / "a", targets, tmp_path / "build", "valve")
    result = verify_build(tmp_path / "build", observations=500)
    assert result.mismatches == 0
    if "c" in targets:
        assert "the reward to come" in (tmp_path / "build" / "valve.h").read_text()
        assert "valve_act_masked" in (tmp_path / "build" / "example.c").read_text()


def test_an_interface_of_another_network_is_refused(tmp_path: Path) -> None:
    for graph, interface in (
        (mlp(4, 8, 3), Interface(space_of(spaces.Box(-1, 1, (5,))), 3)),
        (mlp(4, 8, 3), Interface(space_of(spaces.Box(-1, 1, (4,))), 2)),
        (mlp(4, 8, 3), Interface(space_of(spaces.Box(-1, 1, (4,))), 3, mask="info:action_mask")),
    ):
        with pytest.raises(ConfigError):
            Runtime(graph, "numpy", interface=interface)
        with pytest.raises(FileError):
            save_artefact(tmp_path / "a", graph, OBS, {}, interface=interface)
        assert not (tmp_path / "a").exists()


def test_the_interface_is_stored_and_drawn(tmp_path: Path) -> None:
    interface = Interface(space_of(spaces.Box(-1, 1, (4,), np.float64)), 3, action_start=7)
    made = save_artefact(tmp_path / "a", mlp(4, 8, 3), OBS, {}, interface=interface)
    assert made.interface == load_artefact(tmp_path / "a").interface == interface
    export(tmp_path / "a", ("c",), tmp_path / "build")
    text = (tmp_path / "build" / "policy.h").read_text()
    assert "the environment's action is action + (7)" in text
    assert "compression may have moved all of" in text
    # An artefact without one is read by its network.
    bare = save_artefact(tmp_path / "b", mlp(4, 8, 3), OBS, {})
    assert bare.interface.plain
    assert bare.interface.actions == 3


def _act(policy: Runtime, obs: np.ndarray) -> int:
    return int(policy.act(obs))


@pytest.mark.parametrize("engine", [*ENGINES, "onnxruntime"])
def test_runtimes_pickle_and_copy(engine: Any) -> None:
    if engine == "onnxruntime":
        pytest.importorskip("onnxruntime")
    interface = Interface(space_of(spaces.Box(-1, 1, (4,))), 3, action_start=1)
    policy = Runtime(mlp(4, 16, 3), engine, fallback_action=2, interface=interface)
    for twin in (pickle.loads(pickle.dumps(policy)), copy.deepcopy(policy), copy.copy(policy)):
        assert [twin.act(obs) for obs in OBS] == [policy.act(obs) for obs in OBS]
        assert twin.act(np.full(4, np.nan)) == 3
        assert twin.status.engine == engine


def test_runtimes_go_to_other_processes() -> None:
    policy = Runtime(mlp(4, 16, 3))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.starmap(_act, [(policy, obs) for obs in OBS[:3]]) == [policy.act(obs) for obs in OBS[:3]]


@pytest.mark.parametrize("extension", [True, pytest.param(False, marks=pytest.mark.long)])
@pytest.mark.skipif(find_compiler() is None, reason="needs a C compiler")
def test_threads_may_share_one_runtime(extension: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not extension:
        monkeypatch.setitem(sys.modules, "nimbleq.native._runtime", None)
        monkeypatch.delattr("nimbleq.native._runtime", raising=False)
    graph = mlp(6, 5000, 3)  # its arena is too large for the stack
    policy = Runtime(graph, "c")
    assert "static union" in emit_c(graph)["policy.c"]
    obs = np.random.default_rng(1).normal(size=(300, 6)).astype(np.float32)
    want = [policy.act(one) for one in obs]
    wrong: list[int] = []

    def work() -> None:
        wrong.append(sum(policy.act(one) != action for one, action in zip(obs, want, strict=True)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [0] * 4
