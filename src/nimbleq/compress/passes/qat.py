"""Quantization-aware training: a float student learns with the rounding that its integer form will have.

LSQ [1902.08153] with the loss of distillation: the steps of weights and activations are learnt together with the
weights, from the float student's, and freeze late. It trains with the plan that lowering emits, so the integer policy
answers as the trained one does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.compress.passes.base import PassRow
from nimbleq.compress.passes.context import Context
from nimbleq.compress.passes.labelled import label
from nimbleq.compress.passes.qat_native import native_qat, why_not_native_qat
from nimbleq.compress.passes.qat_start import Rounded, finish, in_units, start
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.passes.targets import Targets, make_targets
from nimbleq.compress.passes.units import with_biases
from nimbleq.compress.quantize.lower import lower, lower_with_inputs
from nimbleq.compress.quantize.plan import make_plan
from nimbleq.compress.quantize.weights import weight_format
from nimbleq.errors import ConfigError
from nimbleq.graph.graph import Graph
from nimbleq.types import Tick, no_tick

_ROUNDS = 2
_LR = 0.5  # of the peak of distillation
_FROZEN = 0.2
_SEED = 1_000
_POWERS = "pow2"
_SPREAD_STATES = 256
"""States that tell by how much bytes vary."""


def learn(
    graph: Graph,
    net: Rounded,
    integer: Graph,
    targets: Targets,
    config: DistillConfig,
    updates: int,
    lr: float,
    seed: int,
    powers_of_two: bool = False,
    tick: Tick = no_tick,
) -> Rounded:
    """``updates`` steps of Adam on weights, biases and steps; the step size falls from ``lr`` to zero.

    Args:
        graph: float, the layers have biases.
        net: how it is rounded, from `start`.
        integer: its lowered form, which says how the observation is rounded.
        powers_of_two: steps are powers of two, learnt straight through (TQT [1903.08066]): requantize is a shift.
    """
    frozen_from = updates - int(_FROZEN * updates)
    engine = native_qat
    if why_not_native_qat(graph, net) is not None:
        from nimbleq.compress.passes.qat_torch import torch_qat  # torch, which the native engine does without

        engine = torch_qat
    some = targets.obs[:: max(1, len(targets.obs) // _SPREAD_STATES)]
    spread = max(float(np.std(some, axis=0, dtype=np.float64).max()), 1.0)
    learnt = engine(
        graph, in_units(net, spread), integer, targets, config, updates, lr, seed, frozen_from, powers_of_two, tick
    )  # fmt: skip
    return in_units(learnt, 1 / spread)


@dataclass(frozen=True)
class Qat:
    """Integer arithmetic, trained with its rounding.

    Attributes:
        weights: their format, see `weight_format`.
        powers_of_two: all steps are powers of two.
    """

    weights: str
    powers_of_two: bool = False

    def __call__(self, graph: Graph, context: Context) -> Graph:
        config = context.distill
        graph = with_biases(graph)
        states = context.visited(graph)
        visited = label(context.teacher, states)
        plan = make_plan(graph, states.obs, weights=self.weights)
        lowered = lower_with_inputs(graph, plan)
        net = start(graph, plan, lowered)
        made = lowered.graph
        slow = why_not_native_qat(graph, net)
        doing = "training with rounding" + (f" in PyTorch: {slow}" if slow else "")
        for turn in range(_ROUNDS):
            visited = visited.join(label(context.teacher, context.visited(made)))

            def within(done: float, total: float, note: str = "", *, turn: int = turn) -> None:
                context.tick(turn + done / total, _ROUNDS, doing)

            targets = make_targets([context.from_teacher(), visited], config)
            net = learn(
                graph, net, lowered.graph, targets, config, config.last_updates // 2, _LR * config.lr / (1 + turn),
                context.seed + _SEED + turn, self.powers_of_two, within,
            )  # fmt: skip
            made = lower(*finish(graph, plan, net))
        return made

    def __str__(self) -> str:
        return f"qat {self.weights}{' ' + _POWERS if self.powers_of_two else ''}"


def _parse(setting: str) -> Qat:
    """``4``, ``ternary``; ``4:pow2`` with powers of two."""
    name, _, option = setting.partition(":")
    if option not in ("", _POWERS) or setting.endswith(":"):
        raise ConfigError(f"qat takes bits, or ternary, perhaps with :{_POWERS}, not {setting!r}")
    weights = f"int{name}" if name.isdecimal() else name
    if not weight_format(weights).uniform:
        raise ConfigError(f"qat trains weights with equal steps, not {weights}: give bits, or ternary")
    return Qat(weights, option == _POWERS)


ROW = PassRow(_parse, "integer arithmetic, trained with its rounding: weights of this many bits", "4")
