"""Recipes: a compression is a tuple of passes, each a frozen setting that turns a graph into another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from nimbleq.compress.passes.distill import DistillConfig, Labelled, distill, teacher_states
from nimbleq.compress.passes.prune import drop_dead, prune_to
from nimbleq.compress.quantize.lower import quantize_best
from nimbleq.compress.states import States, q_values, visit
from nimbleq.compress.students.mlp import freeze_norms, mlp_student
from nimbleq.graph.graph import Graph
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.graph.rewrite import fold, for_deployment
from nimbleq.seeds import episode_seeds
from nimbleq.types import Evaluate, Tick, no_tick

_CALIBRATION_EPISODES = 16
_CALIBRATION_STATES = 8_000


@dataclass
class Context:
    """What passes may need besides the graph.

    Attributes:
        teacher: the policy to imitate.
        evaluate: plays episodes.
        distill: settings of distillation.
        seed: of weights, batches and ``distill`` episodes.
        tick: progress.
        made: graphs by the recipe that made them, so that recipes with a common beginning share it.
    """

    teacher: Graph
    evaluate: Evaluate
    distill: DistillConfig = field(default_factory=DistillConfig)
    seed: int = 0
    tick: Tick = no_tick
    made: dict[Recipe, Graph] = field(default_factory=dict)
    _from_teacher: Labelled | None = None

    def from_teacher(self) -> Labelled:
        """States that the teacher visits, with its values; played once."""
        if self._from_teacher is None:
            self._from_teacher = teacher_states(self.teacher, self.evaluate, self.distill, self.seed)
        return self._from_teacher

    def visited(self, graph: Graph) -> States:
        """States that ``graph`` visits, slightly disturbed: what it is calibrated and judged on."""
        seeds = episode_seeds("distill", self.seed, _CALIBRATION_EPISODES, start=1_000_000)
        return visit(GraphPolicy(graph), self.evaluate, seeds, _CALIBRATION_STATES, self.distill.epsilon)


Pass = Callable[[Graph, Context], Graph]
Recipe = tuple[Pass, ...]


def apply(recipe: Recipe, context: Context) -> Graph:
    """Run the passes on the teacher, from the longest beginning that was made before."""
    if not recipe:
        return context.teacher
    if recipe not in context.made:
        context.made[recipe] = recipe[-1](apply(recipe[:-1], context), context)
    return context.made[recipe]


def describe(recipe: Recipe) -> str:
    """Names of the passes, e.g. ``"student 32-32 → distill → fold → int8"``."""
    return " → ".join(str(step) for step in recipe)


@dataclass(frozen=True)
class Student:
    """Start afresh with an MLP of these widths (none: a linear policy)."""

    hidden: tuple[int, ...]

    def __call__(self, graph: Graph, context: Context) -> Graph:
        rng = np.random.default_rng([context.seed, *self.hidden])
        return mlp_student(graph.obs_type, self.hidden, graph.actions, context.from_teacher().obs, rng)

    def __str__(self) -> str:
        return f"student {'-'.join(map(str, self.hidden))}" if self.hidden else "linear student"


@dataclass(frozen=True)
class Prune:
    """Dead units first, then the least sensitive ones down to a share of every layer."""

    share: float

    def __call__(self, graph: Graph, context: Context) -> Graph:
        obs = context.from_teacher().obs
        return prune_to(drop_dead(graph, obs), self.share, obs) if self.share < 1 else drop_dead(graph, obs)

    def __str__(self) -> str:
        return f"prune to {self.share:g}"


@dataclass(frozen=True)
class FreezeNorms:
    """LayerNorm becomes a fixed affine map with the statistics of visited states; inexact, so distil afterwards."""

    def __call__(self, graph: Graph, context: Context) -> Graph:
        return freeze_norms(graph, context.from_teacher().obs)

    def __str__(self) -> str:
        return "freeze norms"


@dataclass(frozen=True)
class Distill:
    """Train towards the teacher on visited states."""

    def __call__(self, graph: Graph, context: Context) -> Graph:
        made = distill(
            context.teacher,
            graph,
            context.evaluate,
            context.from_teacher(),
            context.distill,
            context.seed,
            context.tick,
        )
        return made.graph

    def __str__(self) -> str:
        return "distill"


@dataclass(frozen=True)
class Fold:
    """Everything that can be merged without changing an action."""

    def __call__(self, graph: Graph, context: Context) -> Graph:
        return fold(for_deployment(graph))

    def __str__(self) -> str:
        return "fold"


@dataclass(frozen=True)
class Int8:
    """Integer arithmetic, calibrated on the states that the float student visits; the calibration with least regret."""

    def __call__(self, graph: Graph, context: Context) -> Graph:
        states = context.visited(graph)
        return quantize_best(graph, states, q_values(context.teacher, states.obs))[0]

    def __str__(self) -> str:
        return "int8"
