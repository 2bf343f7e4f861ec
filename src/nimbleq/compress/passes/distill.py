"""Distillation: a student learns to act like its teacher on the states that it itself visits.

Rounds of DAgger [1011.0686]: play the student (with a little ε-noise), ask the teacher for its values there, train on
half student-visited, half teacher-visited states (`fit`), repeat. Regret, not the loss, says how good a student is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nimbleq.compress.passes.base import PassRow
from nimbleq.compress.passes.context import Context
from nimbleq.compress.passes.fit import fit_all
from nimbleq.compress.passes.fit_native import why_not_native
from nimbleq.compress.passes.labelled import Labelled, label
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.passes.sparsify import zeros_of
from nimbleq.compress.states import visit
from nimbleq.errors import ConfigError
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.seeds import episode_seeds
from nimbleq.types import Array, Evaluate, Tick, no_tick

_GENTLY = 0.1


@dataclass(frozen=True)
class Distilled:
    """Attributes:
    graph: the trained student.
    visited: states that it met on the way, with the teacher's values: for calibration and regret.
    snapshots: the student after each round, the last one included.
    """

    graph: Graph
    visited: Labelled
    snapshots: tuple[Graph, ...]


def distill(
    teacher: Graph,
    student: Graph,
    evaluate: Evaluate,
    from_teacher: Labelled,
    config: DistillConfig,
    nonce: int,
    tick: Tick = no_tick,
    masks: Mapping[str, Array] | None = None,
) -> Distilled:
    """Train ``student`` (float, trainable) towards ``teacher``.

    Args:
        from_teacher: the teacher-visited half, from `teacher_states`.
        nonce: seeds of episodes and of batches.
        tick: progress in rounds.
        masks: weight → ``bool`` of its shape, False where it is 0 and stays 0.
    """
    return distill_all(teacher, [student], evaluate, from_teacher, config, nonce, tick, masks)[0]


def distill_all(
    teacher: Graph,
    students: Sequence[Graph],
    evaluate: Evaluate,
    from_teacher: Labelled,
    config: DistillConfig,
    nonce: int,
    tick: Tick = no_tick,
    masks: Mapping[str, Array] | None = None,
) -> tuple[Distilled, ...]:
    """Train several students at once: on the same batches, of states that any of them visits.

    A round plays ``config.episodes`` and keeps ``config.states``, shared by the students; the teacher is asked once for
    each state.
    """
    visited: Labelled | None = None
    snapshots: list[Sequence[Graph]] = []
    share = replace(
        config, episodes=max(1, config.episodes // len(students)), states=max(1, config.states // len(students))
    )
    slow = next(filter(None, map(why_not_native, students)), None)
    doing = "distilling" if slow is None else f"distilling in PyTorch: {slow}"
    for turn in range(config.rounds):

        def within(done: float, total: float, note: str = "", *, turn: int = turn) -> None:
            tick(turn + done / total, config.rounds, doing)

        halves = [from_teacher] if visited is None else [from_teacher, visited]
        lr = config.lr * (1 - 0.5 * turn / config.rounds)
        updates = config.last_updates if turn == config.rounds - 1 else config.updates
        students = fit_all(students, halves, config, updates, lr, nonce + turn, within, masks)
        snapshots.append(students)
        for index, student in enumerate(students):
            first = (turn + 2) * config.episodes + index * share.episodes
            seeds = episode_seeds("distill", nonce, share.episodes, start=first)
            met = label(teacher, visit(GraphPolicy(student), evaluate, seeds, share.states, config.epsilon))
            visited = met if visited is None else visited.join(met)
    assert visited is not None
    return tuple(Distilled(made[-1], visited, made) for made in zip(*snapshots, strict=True))


@dataclass(frozen=True)
class Distill:
    """Train towards the teacher on visited states.

    Attributes:
        sparse: weights of layers that are 0 stay 0.
        gentle: convolutions learn with a tenth of the step size: what is left of a teacher dies of all of it.
    """

    sparse: bool = False
    gentle: bool = False

    def __call__(self, graph: Graph, context: Context) -> Graph:
        convolves = any(isinstance(node.op, ops.Conv2d) for node in graph.nodes)
        config = context.distill
        made = distill(
            context.teacher,
            graph,
            context.evaluate,
            context.from_teacher(),
            replace(config, lr=_GENTLY * config.lr) if self.gentle and convolves else config,
            context.seed,
            context.tick,
            zeros_of(graph) if self.sparse else None,
        )
        return made.graph

    def __str__(self) -> str:
        return " ".join(["distill", *(["sparse"] if self.sparse else []), *(["gently"] if self.gentle else [])])


def _parse(setting: str) -> Distill:
    words = set(setting.split(",")) if setting else set()
    if not words <= {"sparse", "gentle"}:
        raise ConfigError(
            "distill takes no setting, sparse (weights that are 0 stay 0), gentle (convolutions take small steps) or "
            f"both with a comma, not {setting!r}"
        )
    return Distill("sparse" in words, "gentle" in words)


ROW = PassRow(
    _parse, "train towards the teacher on states that the student visits; =sparse keeps zeros, =gentle small steps"
)
