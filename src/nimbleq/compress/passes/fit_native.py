"""Distillation in C: all updates of a fit in a few calls that draw their batches themselves.

On students this small a framework spends nearly all of an update between its operations.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import numpy as np

from nimbleq.compress.passes.chain import Chain, as_chain
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.passes.targets import Targets, share_of
from nimbleq.graph.graph import Graph
from nimbleq.graph.tensor import Float32
from nimbleq.types import Array, Tick, no_tick

ADAM_EPS = 1e-8
_UPDATES = 500
"""Updates of one call: a few hundredths of a second, between which Ctrl-C and progress get their turn."""
_MOST_LAYERS = 64


def extension() -> ModuleType | None:
    """The compiled engine; None where it was not built."""
    try:
        return importlib.import_module("nimbleq.native._distill")
    except ModuleNotFoundError:
        return None


def why_not_native(student: Graph) -> str | None:
    """Why the native engine cannot train this student, in words for a person; None when it can."""
    chain = as_chain(student)
    if isinstance(chain, str):
        return chain
    if len(chain.layers) > _MOST_LAYERS:
        return f"it has more than {_MOST_LAYERS} layers"
    return "the native engine was not compiled" if extension() is None else None


def native_fit(
    student: Graph, targets: Targets, config: DistillConfig, updates: int, lr: float, seed: int, tick: Tick = no_tick
) -> Graph:
    """See `nimbleq.compress.passes.fit.fit`; other threads run meanwhile."""
    chain, core = as_chain(student), extension()
    assert isinstance(chain, Chain)
    assert core is not None
    net = NativeStudent(core, student, chain, config.max_grad_norm)
    train(net, targets, config, updates, lr, seed, tick)
    return net.graph()


class NativeStudent:
    """A student in the memory of native/distill.

    Args:
        student: a graph that is ``chain``.
        rounding: keyword arguments of `_distill.Student` for quantization-aware training.
    """

    def __init__(self, core: ModuleType, student: Graph, chain: Chain, max_grad_norm: float, **rounding: Any) -> None:
        self.student, self.chain, self.lanes = student, chain, core.LANES
        widths = chain.widths(student)
        self.core = core.Student(widths, ADAM_EPS, max_grad_norm, **rounding)
        self.state = np.frombuffer(self.core, np.float32)
        scale, shift, layers = self.core.places()
        self.state[scale : scale + widths[0]] = chain.scale
        self.state[shift : shift + widths[0]] = chain.shift
        self.weights: dict[str, Array] = {}
        self.gains: list[Array] = []
        self.weight_steps: list[Array] = []
        self.input_steps: list[Array] = []
        for (weight, bias), into, out, place in zip(chain.weight_names(), widths[:-1], widths[1:], layers, strict=True):
            stride, at, bias_at, step_at, input_at, gain_at = place
            self.weights[weight] = self.state[at : at + out * stride].reshape(out, stride)[:, :into]
            self.weights[bias] = self.state[bias_at : bias_at + out]
            self.gains.append(self.state[gain_at : gain_at + stride])
            self.weight_steps.append(self.state[step_at : step_at + out])
            self.input_steps.append(self.state[input_at : input_at + 1])
            self.gains[-1][:] = 1
        for name, view in self.weights.items():
            view[:] = student.weights[name]

    def inputs(self, obs: Array) -> Array:
        """What the engine takes for ``obs [K, *O]``: bytes as they are, or padded inputs of the first layer."""
        flat = obs.reshape(len(obs), -1)
        if not isinstance(self.student.obs_type.qtype, Float32):
            return np.ascontiguousarray(flat, np.uint8)
        return self.padded(np.asarray(flat, np.float32) * self.chain.scale + self.chain.shift)

    def padded(self, rows: Array) -> Array:
        """``float32[K, n]`` with zeros up to whole vectors."""
        return np.pad(rows.astype(np.float32), ((0, 0), (0, -rows.shape[1] % self.lanes)))

    def targets(self, targets: Targets) -> Array:
        """Rows of the engine: probabilities, −1 where illegal, then advantages."""
        legal = True if targets.legal is None else targets.legal
        probability = np.where(legal, targets.probability, np.float32(-1))
        return self.padded(np.concatenate([probability, targets.advantage], axis=1))

    def graph(self) -> Graph:
        """The student with the weights that it has now."""
        return self.student.with_weights({name: view.copy() for name, view in self.weights.items()})


def train(
    net: NativeStudent,
    targets: Targets,
    config: DistillConfig,
    updates: int,
    lr: float,
    seed: int,
    tick: Tick = no_tick,
    inputs: Array | None = None,
    frozen_from: int | None = None,
) -> None:
    """``updates`` gradient steps.

    Args:
        inputs: of the first layer, where they are not `NativeStudent.inputs`.
        frozen_from: the update from which on the steps of quantization stay as they are (None: never).
    """
    obs = net.inputs(targets.obs) if inputs is None else inputs
    rows = net.targets(targets)
    settings: dict[str, Any] = {
        "seed": seed, "share": share_of(targets.sizes, config), "total": updates,
        "frozen_from": updates if frozen_from is None else frozen_from, "lr": lr,
        "temperature": targets.temperature, "advantage_weight": config.advantage_weight,
    }  # fmt: skip
    for first in range(0, updates, _UPDATES):
        tick(first, updates, "")
        net.core.train(obs, rows, targets.sizes, min(_UPDATES, updates - first), **settings)
