"""A student climbs a return whose gradient is known, where a model tells what every action leads to.

Nothing is imitated or sampled then. The policy that climbs is stochastic, softmax(Q · scale); the gradient of its
return is the visits of each state times the advantage of each action [Sutton et al., NeurIPS 1999, theorem 1]. First
the float network climbs, then its integer form, with the rounding that it will have; the greedy policy that returned
most on the way is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from nimbleq.bridge.torch_module import from_module, to_module
from nimbleq.compress.passes.context import Context
from nimbleq.compress.passes.qat_start import finish, start
from nimbleq.compress.passes.qat_torch import FakeQuantized
from nimbleq.compress.passes.units import with_biases
from nimbleq.compress.quantize.lower import lower, lower_with_inputs
from nimbleq.compress.quantize.plan import make_plan
from nimbleq.errors import ConfigError
from nimbleq.graph.graph import Graph
from nimbleq.types import Array

_LR, _ROUNDED_LR = 3e-3, 1e-3
_EVERY = 20
"""Steps between two looks at the greedy policy."""


class Model(Protocol):
    """All states of an environment, and what a policy returns there.

    Attributes:
        obs: ``[S, *O]`` of every state.
        mask: ``bool[S, A]`` its legal actions, at least one each.
    """

    obs: Array
    mask: Array

    def returned(self, choice: Array) -> float:
        """Of a policy, ``choice: float64[S, A]`` probabilities of its actions."""
        ...

    def gradient(self, choice: Array) -> Array:
        """``float64[S, A]`` visits of each state times advantage of each action, under that policy."""
        ...


@dataclass(frozen=True)
class Climb:
    """A pass: integer arithmetic, weights of the format ``weights`` (``int5``; see `weight_format`).

    Attributes:
        model: what it climbs on.
        weights: number format of the integers.
        steps: of Adam, of the float network and again of its integer form.

    Raises:
        ConfigError: the policy chooses in several dimensions, or remembers.
        UnsupportedOpError: it is a tree, or made of integers.
    """

    model: Model
    weights: str = "int8"
    steps: int = 800

    def __call__(self, graph: Graph, context: Context) -> Graph:
        if graph.branches or graph.units:
            raise ConfigError("climb takes a policy that makes a single choice and remembers nothing")
        graph = with_biases(graph)
        module = to_module(graph)
        scale = self._scale(module)
        self._climb(module, scale, _LR)
        graph = from_module(graph, module)
        plan = make_plan(graph, context.visited(graph).obs, weights=self.weights)
        rounded = FakeQuantized(graph, start(graph, plan, lower_with_inputs(graph, plan)), powers_of_two=False)
        self._climb(rounded, scale, _ROUNDED_LR)
        return lower(*finish(graph, plan, rounded.learnt()))

    def __str__(self) -> str:
        return f"climb {self.weights}"

    def _scale(self, module: nn.Module) -> float:
        """At which the best action of a usual state is e times as likely as the next."""
        with torch.no_grad():
            best, second = self._values(module).topk(2, dim=1).values.unbind(dim=1)
        gaps = (best - second)[torch.isfinite(second)]
        return 1 / max(float(gaps.mean()), 1e-12)

    def _values(self, module: nn.Module) -> Tensor:
        """``float32[S, A]``, −∞ for what is not legal."""
        q: Tensor = module(torch.from_numpy(self.model.obs))
        return q.masked_fill(~torch.from_numpy(self.model.mask), -torch.inf)

    def _climb(self, module: nn.Module, scale: float, lr: float) -> None:
        """Leave ``module`` with the weights of the best greedy policy that it meets."""
        optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=lr)
        slower = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        most, kept = -np.inf, module.state_dict()
        for step in range(self.steps + 1):
            values = self._values(module)
            if step % _EVERY == 0 or step == self.steps:
                greedy = np.eye(values.shape[1])[values.argmax(dim=1).numpy()]
                returned = self.model.returned(greedy)
                if returned > most:
                    most, kept = returned, {name: value.clone() for name, value in module.state_dict().items()}
            choice = torch.softmax(values * scale, dim=1)
            worth = self.model.gradient(choice.detach().numpy().astype(np.float64))
            optimizer.zero_grad()
            (-(choice * torch.from_numpy(worth.astype(np.float32))).sum()).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            slower.step()
        module.load_state_dict(kept)
