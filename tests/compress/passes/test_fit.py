from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from nimbleq.compress.passes.chain import as_chain
from nimbleq.compress.passes.fit import fit
from nimbleq.compress.passes.fit_native import extension, native_fit, why_not_native
from nimbleq.compress.passes.fit_torch import torch_fit
from nimbleq.compress.passes.labelled import Labelled
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.passes.targets import draws, make_targets
from nimbleq.compress.states import States, q_values
from nimbleq.compress.students.mlp import mlp_student
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.tensor import UINT8, TensorType

CONFIG = DistillConfig(batch_size=64)


def parts_of(teacher, obs, masked=False, split=200):
    """Two parts, labelled by ``teacher``; half of the actions are illegal."""
    rng = np.random.default_rng(1)
    q = q_values(teacher, obs)
    mask = rng.random(q.shape) < 0.5
    mask[np.arange(len(q)), rng.integers(0, q.shape[1], len(q))] = True
    rows = slice(None, split), slice(split, None)
    return [Labelled(States(obs[part], mask[part] if masked else None), q[part]) for part in rows]


def largest_difference(one, other):
    return max(float(np.abs(one.weights[name] - other.weights[name]).max()) for name in one.weights)


@pytest.mark.parametrize(
    ("hidden", "masked", "change", "kind"),
    [
        pytest.param((24, 24), False, {}, "float32", marks=pytest.mark.long),
        ((13,), True, {"max_grad_norm": 0.3}, "float32"),
        ((9, 5, 17), True, {"advantage_weight": 1.0}, "float32"),
        pytest.param((), False, {}, "float32", marks=pytest.mark.long),
        ((12,), False, {}, "uint8"),
    ],
)
def test_a_thousand_updates_in_c_are_those_of_torch(mlp, hidden, masked, change, kind):
    """Of three runs one: where rounding switches a ReLU, which is rare, two runs go apart whoever computes them."""
    if kind == "uint8":
        rng = np.random.default_rng(0)
        obs = rng.integers(0, 256, (800, 3, 4, 2)).astype(np.uint8)
        obs_type = TensorType((3, 4, 2), UINT8)
        teacher, student = (mlp_student(obs_type, widths, 5, obs, rng) for widths in ((16,), hidden))
    else:
        teacher, obs = mlp(0, 6, (16, 16), 5)
        student, _ = mlp(1, 6, hidden, 5)
    config = replace(CONFIG, **change)
    targets = make_targets(parts_of(teacher, obs, masked), config)

    def agree(seed):
        native, torch = (each(student, targets, config, 1000, 1e-3, seed) for each in (native_fit, torch_fit))
        assert largest_difference(native, student) > 0.01
        return largest_difference(native, torch) < 1e-5

    assert any(map(agree, range(3)))


@pytest.mark.parametrize("engine", [native_fit, torch_fit])
def test_illegal_actions_are_no_part_of_the_loss(mlp, engine):
    teacher, obs = mlp(0, 6, (16,), 5)
    student, _ = mlp(1, 6, (16,), 5)
    parts = parts_of(teacher, obs, masked=True)
    never = [
        Labelled(States(part.obs, part.states.mask & (np.arange(5) != 3) | (np.arange(5) == 0)), part.q)
        for part in parts
    ]
    wrong = [Labelled(part.states, np.where(part.states.mask, part.q, 1e4).astype(np.float32)) for part in never]
    right, blind = (engine(student, make_targets(each, CONFIG), CONFIG, 100, 1e-3, 0) for each in (never, wrong))
    assert largest_difference(right, blind) == 0, "the teacher's values there do not count"
    for name in ("w1", "b1"):
        changed = np.abs(right.weights[name] - student.weights[name]).reshape(5, -1).max(axis=1)
        assert changed[3] == 0
        assert (changed[[0, 1, 2, 4]] > 0.01).all()


def test_batches_draw_equally_from_the_parts():
    picks = draws((10, 300), 32, 5, 0, 200)
    assert picks.shape == (200, 64)
    assert picks[:, :32].max() == 9
    assert (picks[:, 32:].min(), picks[:, 32:].max()) == (10, 309)
    np.testing.assert_array_equal(draws((10, 300), 32, 5, 60, 3), picks[60:63])
    counts = np.bincount(picks[:, :32].ravel(), minlength=10)
    assert ((counts - 640) ** 2 / 640).sum() < 27.9, "χ² of nine degrees of freedom, 0.1 %"
    assert (draws((10, 300), 32, 6, 0, 1) != picks[:1]).any()


def test_threads_train_as_one_after_the_other(mlp):
    teacher, obs = mlp(0, 6, (16, 16), 3)
    targets = make_targets(parts_of(teacher, obs), CONFIG)
    students = [mlp(2, 6, (width,), 3)[0] for width in (4, 8, 16)]

    def train(student):
        return native_fit(student, targets, CONFIG, 300, 1e-2, 0)

    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(train, students))
    for one, other in zip(together, map(train, students), strict=True):
        assert largest_difference(one, other) == 0


def test_progress_lets_a_fit_be_stopped(mlp):
    teacher, obs = mlp(0, 6, (16,), 3)
    seen = []

    def tick(done: float, total: float, note: str = "") -> None:
        seen.append((done, total))
        if done > 0.006 * total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(teacher, parts_of(teacher, obs), CONFIG, 100_000, 1e-3, 0, tick)
    assert seen == [(0, 1), (0.005, 1), (0.01, 1)], "every 500 updates, in shares of the only student"


def relu_less(graph: Graph) -> Graph:
    nodes = tuple(
        Node(ops.Activation("leaky_relu", slope=0.1), node.inputs, node.output)
        if isinstance(node.op, ops.Activation)
        else node
        for node in graph.nodes
    )
    return replace(graph, nodes=nodes)


def test_what_torch_has_to_train_is_said(mlp, cnn):
    graph, obs = mlp(0, 4, (8,), 2)
    assert why_not_native(graph) is None
    assert as_chain(graph).widths(graph) == (4, 8, 2)
    assert why_not_native(relu_less(graph)) == "it has the activation leaky_relu"
    pictures, images = cnn(0)
    assert why_not_native(pictures) == "it has Conv2d"
    for student, seen in ((relu_less(graph), obs), (pictures, images)):
        parts = parts_of(student, seen, split=30)
        assert largest_difference(fit(student, parts, CONFIG, 2, 1e-3, 0), student) > 0


def test_without_a_compiler_torch_trains(mlp, monkeypatch):
    parts = parts_of(*mlp(0, 4, (8,), 2))
    graph, _ = mlp(1, 4, (8,), 2)
    native = fit(graph, parts, CONFIG, 20, 1e-3, 0)
    monkeypatch.setitem(sys.modules, "nimbleq.native._distill", None)
    assert why_not_native(graph) == "the native engine was not compiled"
    assert 0 < largest_difference(fit(graph, parts, CONFIG, 20, 1e-3, 0), native) < 1e-5


def test_the_native_engine_needs_no_torch():
    code = (
        "import sys, numpy as np\n"
        "from nimbleq.compress.passes.fit import fit\n"
        "from nimbleq.compress.passes.labelled import Labelled\n"
        "from nimbleq.compress.passes.settings import DistillConfig\n"
        "from nimbleq.compress.states import States\n"
        "from nimbleq.compress.students.mlp import mlp_student\n"
        "from nimbleq.graph.tensor import TensorType\n"
        "rng = np.random.default_rng(0)\n"
        "obs = rng.standard_normal((50, 3)).astype(np.float32)\n"
        "student = mlp_student(TensorType((3,)), (4,), 2, obs, rng)\n"
        "fit(student, [Labelled(States(obs), obs[:, :2].copy())], DistillConfig(), 5, 1e-3, 0)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_c_refuses_what_does_not_fit():
    module = extension()
    lanes = module.LANES
    student = module.Student((3, 4, 2), 1e-8, 0.0)
    settings = {
        "seed": 0, "share": 4, "total": 9, "frozen_from": 9, "lr": 1e-3, "temperature": 1.0, "advantage_weight": 0.1,
    }  # fmt: skip
    obs, targets = np.zeros((10, lanes), np.float32), np.zeros((10, 4 + -4 % lanes), np.float32)
    student.train(obs, targets, (4, 6), 2, **settings)
    assert student.updates == 2
    bad = [
        (obs[:, :3], targets, (10,)),
        (obs.astype(np.float64), targets, (10,)),
        (obs[::2], targets, (5,)),
        (np.zeros((10, 4), np.uint8), targets, (10,)),
        (obs, targets[:9], (10,)),
        (obs, targets, (4, 5)),
        (obs, targets, ()),
        (obs, targets, (10, 0)),
        (obs, targets, (11,)),
    ]
    for arguments in bad:
        with pytest.raises(ValueError, match=r"obs|targets|parts"):
            student.train(*arguments, 1, **settings)
    with pytest.raises(ValueError, match="temperature"):
        student.train(obs, targets, (10,), 1, **settings | {"temperature": 0.0})
    with pytest.raises(OverflowError):
        student.train(obs, targets, (10, -1), 1, **settings)
    assert student.updates == 2
    for widths in ((3,), (3, 0), (3,) * 66):
        with pytest.raises(ValueError, match=r"widths|layers"):
            module.Student(widths, 1e-8, 0.0)
    with pytest.raises(TypeError, match="low, high"):
        module.Student((3, 2), 1e-8, 0.0, quantized=True)
