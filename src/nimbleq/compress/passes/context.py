"""What passes may need besides the graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from nimbleq.compress.passes.labelled import Labelled, teacher_states
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.refine.config import DirectConfig
from nimbleq.compress.states import Comparison, States, compare_in_play, visit
from nimbleq.graph.graph import Graph
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.seeds import episode_seeds
from nimbleq.types import Evaluate, Tick, no_tick

_CALIBRATION_EPISODES = 16
_CALIBRATION_STATES = 8_000


@dataclass
class Context:
    """What passes may need besides the graph.

    Attributes:
        teacher: the policy to imitate.
        evaluate: plays episodes, of low fidelity where the environment has such: no verdict comes from them.
        distill: settings of distillation.
        seed: of weights, batches and ``distill`` episodes.
        tick: progress.
        direct: settings of direct search.
        made: graphs by the passes that made them, so that recipes with a common beginning share it.
    """

    teacher: Graph
    evaluate: Evaluate
    distill: DistillConfig = field(default_factory=DistillConfig)
    seed: int = 0
    tick: Tick = no_tick
    direct: DirectConfig = field(default_factory=DirectConfig)
    made: dict[tuple[Callable[[Graph, Context], Graph], ...], Graph] = field(default_factory=dict)
    _from_teacher: Labelled | None = None

    def from_teacher(self) -> Labelled:
        """States that the teacher visits, with its values; played once."""
        if self._from_teacher is None:
            self._from_teacher = teacher_states(self.teacher, self.evaluate, self.distill, self.seed)
        return self._from_teacher

    def compared(self, graph: Graph) -> Comparison:
        """How ``graph`` compares with the teacher on states that it visits, slightly disturbed."""
        seeds = episode_seeds("distill", self.seed, _CALIBRATION_EPISODES, start=1_000_000)
        return compare_in_play(self.teacher, graph, self.evaluate, seeds, _CALIBRATION_STATES, self.distill.epsilon)

    def visited(self, graph: Graph) -> States:
        """States that ``graph`` visits, slightly disturbed: what it is calibrated and judged on."""
        seeds = episode_seeds("distill", self.seed, _CALIBRATION_EPISODES, start=1_000_000)
        return visit(GraphPolicy(graph), self.evaluate, seeds, _CALIBRATION_STATES, self.distill.epsilon)
