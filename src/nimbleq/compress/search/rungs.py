"""The rungs of the ladder: where the candidates of a search come from, from small to large.

A new kind of candidate is a row of `LADDER`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from nimbleq.compress.passes.distill import Distill
from nimbleq.compress.passes.fold import Fold
from nimbleq.compress.passes.freeze_norms import FreezeNorms
from nimbleq.compress.passes.hint import Hint
from nimbleq.compress.passes.importances import IMPORTANCES
from nimbleq.compress.passes.lowrank import LowRank
from nimbleq.compress.passes.patterns import Blocks, NofM, Pattern, Share
from nimbleq.compress.passes.prune import DEFAULT, Prune
from nimbleq.compress.passes.recipe import Recipe
from nimbleq.compress.passes.sparsify import Sparsify
from nimbleq.compress.passes.student import Student, student_of
from nimbleq.compress.passes.students import Students
from nimbleq.compress.students import STUDENTS
from nimbleq.compress.students.tree import MAX_FEATURES
from nimbleq.graph import ops
from nimbleq.graph.cost import cost
from nimbleq.graph.graph import Graph
from nimbleq.graph.tensor import Float32

Widths = tuple[int, ...]


@dataclass(frozen=True)
class Family:
    """Candidates that share an expensive beginning, one for each number format.

    Attributes:
        name: short and unique.
        start: the passes that they share.
        formats: names in `FORMATS` (None: those of the recipe).
        episodes: that making one of them plays, about, beyond the usual.
        about_bytes: of the smallest of them, with 8-bit weights; 0 where nobody knows before it is made.
    """

    name: str
    start: Recipe
    formats: tuple[str, ...] | None = None
    episodes: int = 0
    about_bytes: int = 0


@dataclass(frozen=True)
class Rung:
    """A row of `LADDER`.

    Attributes:
        suits: whether it is tried for a teacher, given the widths that were asked for (None: none were).
        families: of that teacher and these widths, from small to large.
        remembers: it is for teachers that remember, and only for those.
    """

    suits: Callable[[Graph, tuple[Widths, ...] | None], bool]
    families: Callable[[Graph, tuple[Widths, ...] | None], Iterable[Family]]
    remembers: bool = False


_STUDENTS: tuple[Widths, ...] = (
    (), (4,), (8,), (16,), (12, 12), (16, 16), (24, 24), (32, 32), (48, 48), (64, 64), (96, 96), (128, 128),
)  # fmt: skip
_FEWEST_BITS = ("direct4", "direct3", "direct2", "direct6", "direct6-again")
_MOST_WEIGHTS = 200
_FEW_PIXELS = 1_024
_COMPACT: tuple[Widths, ...] = ((8, 16), (16, 32), (16, 32, 32), (32, 64, 64), (32, 64, 128))
_ENERGIES = (0.7, 0.8, 0.9, 0.95, 0.98, 0.995)
_SHARES = (0.0625, 0.125, 0.25, 0.5)


def student_family(hidden: Widths, teacher: Graph | None = None) -> Family:
    """A fresh network of these widths, taught by the ``teacher``."""
    start = student_of(hidden)
    least = 0 if teacher is None else _student_bytes(start, teacher)
    return Family(_join(hidden) or "linear", (start, Distill(), Fold()), about_bytes=least)


def _student_bytes(student: Student, teacher: Graph) -> int:
    """A byte for each weight and four for each bias or threshold; what is folded away is not counted."""
    seen, rng = np.zeros((2, *teacher.obs_type.shape), np.float32), np.random.default_rng(0)
    fresh = STUDENTS[student.kind].make(teacher.obs_type, student.hidden, teacher.actions, seen, rng)
    trained = (node.op for node in fresh.nodes if not isinstance(node.op, ops.Affine))
    weights = (fresh.weights[name] for op in trained for name in op.weight_names())
    return sum(weight.size * (1 if weight.ndim > 1 else 4) for weight in weights if weight.dtype.kind == "f")


def _join(widths: Widths) -> str:
    return "x".join(map(str, widths))


def _affordable(teacher: Graph) -> int:
    """Multiply-accumulates of the largest student that is worth a try."""
    return cost(teacher).macs // 2


def _students(teacher: Graph, hidden: tuple[Widths, ...] | None) -> Iterable[Family]:
    sizes = hidden or [widths for widths in _STUDENTS if _mlp_macs(teacher, widths) <= _affordable(teacher)]
    return (student_family(size, teacher) for size in sizes)


def _whole(teacher: Graph) -> Family:
    """The teacher as it is, without units that do nothing."""
    entries = sum(weight.size for weight in teacher.weights.values())
    return Family("teacher", (Fold(), Prune(1.0), Fold()), about_bytes=entries)


def _pruned(importance: str) -> Callable[[Graph, tuple[Widths, ...] | None], Iterable[Family]]:
    """Units removed from the teacher, what is left taught by it."""
    name = "pruned" if importance == DEFAULT else f"pruned-{importance}"
    steps = [
        (share, (Fold(), FreezeNorms(), Prune(share, importance), Distill(gentle=True), Fold())) for share in _SHARES
    ]

    def families(teacher: Graph, hidden: tuple[Widths, ...] | None) -> Iterable[Family]:
        whole = sum(weight.size for weight in teacher.weights.values())
        return (Family(f"{name}-{share:g}", start, about_bytes=int(share**2 * whole)) for share, start in steps)

    return families


def _sparse(saliency: str, *patterns: Pattern) -> Rung:
    """Weights of the teacher made 0, what is left taught by it."""

    def families(teacher: Graph, hidden: tuple[Widths, ...] | None) -> Iterable[Family]:
        for pattern in patterns:
            steps = (
                Fold(),
                FreezeNorms(),
                Fold(),
                Sparsify(pattern, saliency),
                Distill(sparse=True, gentle=True),
                Fold(),
            )
            yield Family(f"sparse-{pattern}", steps)

    return Rung(lambda teacher, hidden: hidden is None, families)


_SPARSITIES = tuple(Share(share) for share in (0.97, 0.95, 0.9, 0.8))


def _hints(teacher: Graph, hidden: tuple[Widths, ...] | None) -> Iterable[Family]:
    """Students as the ladder has them: compact networks of pictures, else fully connected ones."""
    if _is_mlp(teacher):
        sizes = hidden or [
            widths for widths in _STUDENTS if widths and _mlp_macs(teacher, widths) <= _affordable(teacher)
        ]
        return (Family(f"hint-{_join(size)}", (student_of(size), Hint(1.0), Distill(), Fold())) for size in sizes)
    sizes = hidden or _COMPACT
    return (Family(f"hint-{_join(size)}", (Student(size, "mobilenet"), Hint(), Distill(), Fold())) for size in sizes)


def _widths(teacher: Graph, hidden: tuple[Widths, ...] | None) -> Iterable[Family]:
    """All that the ladder has, taught at once: the smallest of nearly the least regret, then what has the least."""
    sizes = tuple(hidden or [size for size in _STUDENTS if size and _mlp_macs(teacher, size) <= _affordable(teacher)])
    return (Family(f"widths-{within:g}", (Students(sizes, within), Fold())) for within in (1.5, 1.0))


def _kind(kind: str, sizes: Iterable[Widths]) -> Callable[[Graph, tuple[Widths, ...] | None], list[Family]]:
    """Students of one kind, by size."""

    def families(teacher: Graph, hidden: tuple[Widths, ...] | None) -> list[Family]:
        starts = ((_join(size), Student(size, kind)) for size in hidden or sizes)
        return [
            Family(f"{kind}-{name}", (start, Distill(), Fold()), about_bytes=_student_bytes(start, teacher))
            for name, start in starts
        ]

    return families


def _low_rank(teacher: Graph, hidden: tuple[Widths, ...] | None) -> Iterable[Family]:
    starts = ((energy, (Fold(), FreezeNorms(), LowRank(energy), Distill(gentle=True), Fold())) for energy in _ENERGIES)
    return (Family(f"lowrank-{energy:g}", start) for energy, start in starts)


def _few_features(teacher: Graph, hidden: tuple[Widths, ...] | None) -> bool:
    return teacher.obs_type.size <= MAX_FEATURES and not teacher.branches


def _sees_images(teacher: Graph, hidden: tuple[Widths, ...] | None) -> bool:
    return len(teacher.obs_type.shape) == 3


LADDER: dict[str, Rung] = {
    "last-bytes": Rung(
        lambda teacher, hidden: (hidden is None or () in hidden) and _few_weights(teacher),
        lambda *_: [replace(student_family(()), formats=("direct4", "direct6"), episodes=12_000)],
    ),
    "fewest-bits": Rung(
        lambda teacher, hidden: (hidden is None or () in hidden) and _few_weights(teacher),
        lambda *_: [replace(student_family(()), formats=_FEWEST_BITS)],
    ),
    "students": Rung(lambda teacher, hidden: hidden is not None or _is_flat(teacher), _students),
    "pruned": Rung(lambda teacher, hidden: hidden is None and not _is_flat(teacher), _pruned(DEFAULT)),
    **{f"pruned-{name}": Rung(lambda _, hidden: hidden is None, _pruned(name)) for name in IMPORTANCES},
    "sparse": _sparse("magnitude", *_SPARSITIES),
    "sparse-obs": _sparse("obs", *_SPARSITIES),
    "1:4": _sparse("obs", NofM(1, 4)),
    "2:4": _sparse("obs", NofM(2, 4)),
    "block4": _sparse("obs", Blocks(4, 0.95), Blocks(4, 0.9), Blocks(4, 0.75)),
    "linear": Rung(lambda *_: True, lambda teacher, _: [student_family((), teacher)]),
    "tree": Rung(_few_features, _kind("tree", [(depth,) for depth in range(1, 7)])),
    "small-tree": Rung(
        lambda teacher, hidden: hidden is None and _is_mlp(teacher) and _few_features(teacher, hidden),
        _kind("tree", [(depth,) for depth in range(2, 6)]),
    ),
    "axis-tree": Rung(_few_features, _kind("axis-tree", [(depth,) for depth in range(2, 9)])),
    "lowrank": Rung(lambda _, hidden: hidden is None, _low_rank),
    "hints": Rung(lambda *_: True, _hints),
    "widths": Rung(lambda teacher, hidden: hidden is not None or _is_flat(teacher), _widths),
    "compact": Rung(
        lambda teacher, hidden: hidden is None and _sees_images(teacher, hidden), _kind("mobilenet", _COMPACT)
    ),
    "mobilenet": Rung(_sees_images, _kind("mobilenet", _COMPACT)),
    "shufflenet": Rung(_sees_images, _kind("shufflenet", _COMPACT)),
    "teacher": Rung(lambda *_: True, lambda teacher, _: [_whole(teacher)]),
    "remembering": Rung(
        lambda *_: True,
        lambda *_: [Family("teacher", (Fold(),), ("weights-int4", "weights-int8", "float32"))],
        remembers=True,
    ),
}
"""Where candidates come from, from small to large."""


def _few_weights(graph: Graph) -> bool:
    """Whether a linear policy has few enough weights to search them directly."""
    obs = graph.obs_type
    few = graph.actions * (obs.size + 1) <= _MOST_WEIGHTS and not graph.branches
    return isinstance(obs.qtype, Float32) and len(obs.shape) == 1 and few


def _is_mlp(graph: Graph) -> bool:
    return not any(isinstance(node.op, ops.Conv2d) for node in graph.nodes)


def _is_flat(graph: Graph) -> bool:
    """Whether fully connected students are small: it is such a network itself, or sees few pixels."""
    return _is_mlp(graph) or graph.obs_type.size <= _FEW_PIXELS


def _mlp_macs(teacher: Graph, hidden: Widths) -> int:
    """Multiply-accumulates of a student of these widths."""
    return sum(a * b for a, b in pairwise((teacher.obs_type.size, *hidden, teacher.actions)))
