"""The ladder: the candidates of a search, from small to large, as data.

Where candidates come from is a row of `LADDER`, how their weights end up a row of `FORMATS`; a recipe, a row of
`RECIPES`, says which of both a search tries. A new method is one pass and one line in each table that it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from nimbleq.compress.passes.direct import Direct
from nimbleq.compress.passes.distill import Distill
from nimbleq.compress.passes.encode import Encode
from nimbleq.compress.passes.fold import Fold
from nimbleq.compress.passes.freeze_norms import FreezeNorms
from nimbleq.compress.passes.hint import Hint
from nimbleq.compress.passes.importances import IMPORTANCES
from nimbleq.compress.passes.lowrank import LowRank
from nimbleq.compress.passes.patterns import Blocks, NofM, Pattern, Share
from nimbleq.compress.passes.prune import DEFAULT, Prune
from nimbleq.compress.passes.qat import Qat
from nimbleq.compress.passes.quantize import BrainFloats, Quantize, WeightOnly
from nimbleq.compress.passes.recipe import Recipe
from nimbleq.compress.passes.sparsify import Sparsify
from nimbleq.compress.passes.student import Student, student_of
from nimbleq.compress.passes.students import Students
from nimbleq.compress.quantize.scheme import Scheme
from nimbleq.compress.students.tree import MAX_FEATURES
from nimbleq.errors import ConfigError
from nimbleq.graph import ops
from nimbleq.graph.cost import cost
from nimbleq.graph.formats import APOT4, LOG2, TERNARY, Int
from nimbleq.graph.graph import Graph
from nimbleq.graph.tensor import Float32

Widths = tuple[int, ...]

FORMATS: dict[str, Recipe] = {
    "direct4": (Direct(4),),
    "direct3": (Direct(4), Direct(3)),
    "direct2": (Direct(4), Direct(3), Direct(2)),
    "direct6": (Direct(4), Direct(6)),
    "ternary-qat": (Qat("ternary"),),
    "qat2": (Qat("int2"),),
    "qat4": (Qat("int4"),),
    "qat8": (Qat("int8"),),
    "int2": (Quantize(Scheme(Int(2, signed=True))),),
    "ternary": (Quantize(Scheme(TERNARY)),),
    "int4": (Quantize(Scheme(Int(4, signed=True))),),
    "log2": (Quantize(Scheme(LOG2)),),
    "apot4": (Quantize(Scheme(APOT4)),),
    "mixed": (Quantize(mean_bits=4.0),),
    "weights-int4": (WeightOnly(Int(4, signed=True)),),
    "int8": (Quantize(),),
    "bf16": (BrainFloats(),),
    "float32": (),
    "sparse8": (Quantize(), Encode()),
    "sparse32": (Encode(),),
}
"""Number format of the weights → the passes that end in it."""
ONLY_AFTER = {"direct3": "direct4", "direct2": "direct3"}
"""Number format → the one that has to pass before this one, which is smaller, is made."""
UNLESS = {"direct6": "direct4"}
"""Number format → the one, which is smaller, that has to fail before this one is made."""


_TAUGHT = ("students", "pruned")
_STANDARD = (*_TAUGHT, "teacher")


@dataclass(frozen=True)
class RecipeRow:
    """A row of `RECIPES`.

    Attributes:
        formats: names in `FORMATS`, in the order in which each family tries them, the smallest first: what is larger
            than one that passes need not be played.
        purpose: for help.
        rungs: names in `LADDER`: where its candidates come from.
    """

    formats: tuple[str, ...]
    purpose: str
    rungs: tuple[str, ...] = _STANDARD


RECIPES: dict[str, RecipeRow] = {
    "auto": RecipeRow(("int8", "float32"), "tries everything, the smallest first", ("last-bytes", *_STANDARD)),
    "distill": RecipeRow(("int8", "float32"), "students, or pruned forms of the teacher, taught by it"),
    "last-bytes": RecipeRow((), "direct search of the integers of a linear policy", ("fewest-bits",)),
    "linear": RecipeRow(("int8", "float32"), "a linear policy", ("linear",)),
    "tree": RecipeRow(("int8", "float32"), "decision trees whose splits weigh all features, by depth", ("tree",)),
    "axis-tree": RecipeRow(("int8", "float32"), "decision trees whose splits look at one feature", ("axis-tree",)),
    "lowrank": RecipeRow(("int8", "float32"), "the teacher with layers of lower rank", ("lowrank",)),
    "mobilenet": RecipeRow(("int8", "float32"), "depthwise-separable networks for images", ("mobilenet",)),
    "shufflenet": RecipeRow(("int8", "float32"), "networks of grouped convolutions for images", ("shufflenet",)),
    "hints": RecipeRow(
        ("int8", "float32"), "students that learn the teacher's features before they are taught", ("hints",)
    ),
    "widths": RecipeRow(
        ("int8", "float32"), "students of several widths taught at once, chosen by regret", ("widths",)
    ),
    "int8": RecipeRow(("int8",), "integer arithmetic only"),
    "int4": RecipeRow(("int4",), "integer arithmetic, weights of 4 bits"),
    "int2": RecipeRow(("int2",), "integer arithmetic, weights of 2 bits"),
    "ternary": RecipeRow(("ternary",), "integer arithmetic, weights -1, 0 and 1"),
    "log2": RecipeRow(("log2",), "integer arithmetic, weights that are powers of two: shifts and adds"),
    "apot4": RecipeRow(("apot4",), "integer arithmetic, weights that are sums of two powers of two"),
    "mixed": RecipeRow(("mixed",), "integer arithmetic, 4 bits a weight on average, by regret"),
    "weights-int4": RecipeRow(("weights-int4",), "weights of 4 bits with scales, float32 activations"),
    "bf16": RecipeRow(("bf16",), "weights stored as bf16, float32 arithmetic"),
    "float32": RecipeRow(("float32",), "floating point only"),
    "int8-qat": RecipeRow(("qat8",), "8-bit weights, trained with their rounding", _TAUGHT),
    "int4-qat": RecipeRow(("qat4",), "4-bit weights, trained with their rounding", _TAUGHT),
    "int2-qat": RecipeRow(("qat2",), "2-bit weights, trained with their rounding", _TAUGHT),
    **{
        f"pruned-{name}": RecipeRow(("int8", "float32"), f"units removed: {row.purpose}", (f"pruned-{name}",))
        for name, row in IMPORTANCES.items()
    },
    "sparse-unstructured": RecipeRow(("sparse8", "sparse32"), "80 to 97 % zeros anywhere, the smallest", ("sparse",)),
    "obs": RecipeRow(("sparse8", "sparse32"), "the same, those whose work others can do", ("sparse-obs",)),
    "sparse-2:4": RecipeRow(("sparse8", "sparse32"), "2 of 4 neighbouring weights", ("2:4",)),
    "sparse-1:4": RecipeRow(("sparse8", "sparse32"), "1 of 4 neighbouring weights", ("1:4",)),
    "sparse-block4": RecipeRow(("sparse8", "sparse32"), "zeros in blocks of 4 outputs × 1 input", ("block4",)),
    "ternary-qat": RecipeRow(("ternary-qat",), "weights -1, 0 and 1, trained with their rounding", _TAUGHT),
}
"""Name on the command line → what a search tries."""


@dataclass(frozen=True)
class Family:
    """Candidates that share an expensive beginning, one for each number format.

    Attributes:
        name: short and unique.
        start: the passes that they share.
        formats: names in `FORMATS` (None: those of the recipe).
        episodes: that making one of them plays, about, beyond the usual.
    """

    name: str
    start: Recipe
    formats: tuple[str, ...] | None = None
    episodes: int = 0


@dataclass(frozen=True)
class Rung:
    """A row of `LADDER`.

    Attributes:
        suits: whether it is tried for a teacher, given the widths that were asked for (None: none were).
        families: of that teacher and these widths, from small to large.
    """

    suits: Callable[[Graph, tuple[Widths, ...] | None], bool]
    families: Callable[[Graph, tuple[Widths, ...] | None], Iterable[Family]]


_STUDENTS: tuple[Widths, ...] = (
    (), (4,), (8,), (16,), (12, 12), (16, 16), (24, 24), (32, 32), (48, 48), (64, 64), (96, 96), (128, 128),
)  # fmt: skip
_MOST_WEIGHTS = 200
_COMPACT: tuple[Widths, ...] = ((8, 16), (16, 32), (16, 32, 32), (32, 64, 64), (32, 64, 128))
_ENERGIES = (0.7, 0.8, 0.9, 0.95, 0.98, 0.995)
_SHARES = (0.0625, 0.125, 0.25, 0.5)


def student_family(hidden: Widths) -> Family:
    """A fresh network of these widths, taught by the teacher."""
    return Family(_join(hidden) or "linear", (student_of(hidden), Distill(), Fold()))


def _join(widths: Widths) -> str:
    return "x".join(map(str, widths))


def _affordable(teacher: Graph) -> int:
    """Multiply-accumulates of the largest student that is worth a try."""
    return cost(teacher).macs // 2


def _students(teacher: Graph, hidden: tuple[Widths, ...] | None) -> Iterable[Family]:
    sizes = hidden or [widths for widths in _STUDENTS if _mlp_macs(teacher, widths) <= _affordable(teacher)]
    return map(student_family, sizes)


def _pruned(teacher: Graph, hidden: tuple[Widths, ...] | None) -> Iterable[Family]:
    return _pruned_by(DEFAULT)


def _pruned_by(importance: str) -> Iterable[Family]:
    """Units removed from the teacher, what is left taught by it."""
    name = "pruned" if importance == DEFAULT else f"pruned-{importance}"
    steps = ((share, (Fold(), FreezeNorms(), Prune(share, importance), Distill(), Fold())) for share in _SHARES)
    return (Family(f"{name}-{share:g}", start) for share, start in steps)


def _sparse(saliency: str, *patterns: Pattern) -> Rung:
    """Weights of the teacher made 0, what is left taught by it."""

    def families(teacher: Graph, hidden: tuple[Widths, ...] | None) -> Iterable[Family]:
        for pattern in patterns:
            steps = (Fold(), FreezeNorms(), Fold(), Sparsify(pattern, saliency), Distill(sparse=True), Fold())
            yield Family(f"sparse-{pattern}", steps)

    return Rung(lambda teacher, hidden: hidden is None, families)


_SPARSITIES = tuple(Share(share) for share in (0.97, 0.95, 0.9, 0.8))


def _hints(teacher: Graph, hidden: tuple[Widths, ...] | None) -> Iterable[Family]:
    """Students as the ladder has them: compact networks of pictures, else fully connected ones."""
    if _is_mlp(teacher):
        sizes = hidden or [
            widths for widths in _STUDENTS if widths and _mlp_macs(teacher, widths) <= _affordable(teacher)
        ]
        return (Family(f"hint-{_join(size)}", (student_of(size), Hint(), Distill(), Fold())) for size in sizes)
    sizes = hidden or _COMPACT
    return (Family(f"hint-{_join(size)}", (Student(size, "mobilenet"), Hint(), Distill(), Fold())) for size in sizes)


def _widths(teacher: Graph, hidden: tuple[Widths, ...] | None) -> Iterable[Family]:
    """All that the ladder has, taught at once: the smallest of nearly the least regret, then what has the least."""
    sizes = tuple(hidden or [size for size in _STUDENTS if size and _mlp_macs(teacher, size) <= _affordable(teacher)])
    return (Family(f"widths-{within:g}", (Students(sizes, within), Fold())) for within in (1.5, 1.0))


def _kind(kind: str, sizes: Iterable[Widths]) -> Callable[[Graph, tuple[Widths, ...] | None], list[Family]]:
    """Students of one kind, by size."""

    def families(teacher: Graph, hidden: tuple[Widths, ...] | None) -> list[Family]:
        return [Family(f"{kind}-{_join(size)}", (Student(size, kind), Distill(), Fold())) for size in hidden or sizes]

    return families


def _low_rank(teacher: Graph, hidden: tuple[Widths, ...] | None) -> Iterable[Family]:
    starts = ((energy, (Fold(), FreezeNorms(), LowRank(energy), Distill(), Fold())) for energy in _ENERGIES)
    return (Family(f"lowrank-{energy:g}", start) for energy, start in starts)


def _few_features(teacher: Graph, hidden: tuple[Widths, ...] | None) -> bool:
    return teacher.obs_type.size <= MAX_FEATURES


def _sees_images(teacher: Graph, hidden: tuple[Widths, ...] | None) -> bool:
    return len(teacher.obs_type.shape) == 3


LADDER: dict[str, Rung] = {
    "last-bytes": Rung(
        lambda teacher, hidden: (hidden is None or () in hidden) and _few_weights(teacher),
        lambda *_: [replace(student_family(()), formats=("direct4", "direct6"), episodes=12_000)],
    ),
    "fewest-bits": Rung(
        lambda teacher, hidden: (hidden is None or () in hidden) and _few_weights(teacher),
        lambda *_: [replace(student_family(()), formats=("direct4", "direct3", "direct2", "direct6"))],
    ),
    "students": Rung(lambda teacher, hidden: hidden is not None or _is_mlp(teacher), _students),
    "pruned": Rung(lambda teacher, hidden: hidden is None and not _is_mlp(teacher), _pruned),
    **{
        f"pruned-{name}": Rung(lambda _, hidden: hidden is None, lambda *_, name=name: _pruned_by(name))
        for name in IMPORTANCES
    },
    "sparse": _sparse("magnitude", *_SPARSITIES),
    "sparse-obs": _sparse("obs", *_SPARSITIES),
    "1:4": _sparse("obs", NofM(1, 4)),
    "2:4": _sparse("obs", NofM(2, 4)),
    "block4": _sparse("obs", Blocks(4, 0.95), Blocks(4, 0.9), Blocks(4, 0.75)),
    "linear": Rung(lambda *_: True, lambda *_: [student_family(())]),
    "tree": Rung(_few_features, _kind("tree", [(depth,) for depth in range(1, 7)])),
    "axis-tree": Rung(_few_features, _kind("axis-tree", [(depth,) for depth in range(2, 9)])),
    "lowrank": Rung(lambda _, hidden: hidden is None, _low_rank),
    "hints": Rung(lambda *_: True, _hints),
    "widths": Rung(lambda teacher, hidden: hidden is not None or _is_mlp(teacher), _widths),
    "mobilenet": Rung(_sees_images, _kind("mobilenet", _COMPACT)),
    "shufflenet": Rung(_sees_images, _kind("shufflenet", _COMPACT)),
    "teacher": Rung(lambda *_: True, lambda *_: [Family("teacher", (Fold(), Prune(1.0), Fold()))]),
}
"""Where candidates come from, from small to large."""


@dataclass(frozen=True)
class Trial:
    """A recipe to try.

    Attributes:
        name: of the candidate that it makes.
        recipe: makes it.
        after: name of the candidate that has to pass before this one is made (empty: none).
        unless: name of the candidate that has to fail before this one is made (empty: none).
        episodes: that making it plays, about, beyond the usual.
    """

    name: str
    recipe: Recipe
    after: str = ""
    unless: str = ""
    episodes: int = 0


def trials(family: Family, formats: Iterable[str]) -> tuple[Trial, ...]:
    """The family's candidates in these formats."""

    def other(table: Mapping[str, str], name: str) -> str:
        return f"{family.name}-{table[name]}" if name in table else ""

    return tuple(
        Trial(
            f"{family.name}-{name}",
            (*family.start, *FORMATS[name]),
            other(ONLY_AFTER, name),
            other(UNLESS, name),
            family.episodes,
        )
        for name in formats
    )


def ladder(teacher: Graph, recipe: str, hidden: tuple[Widths, ...] | None = None) -> list[tuple[Trial, ...]]:
    """Families of candidates for ``teacher``, from small to large.

    Args:
        recipe: a name in `RECIPES`.
        hidden: widths of the students to try (None: the ladder's own).

    Raises:
        ConfigError: the recipe has none for such a teacher.
    """
    row = RECIPES[recipe]
    rungs = [LADDER[name] for name in row.rungs]
    families = [family for rung in rungs if rung.suits(teacher, hidden) for family in rung.families(teacher, hidden)]
    if not families:
        raise ConfigError(f"the recipe {recipe!r} has nothing for a teacher like this one: try another, or auto")
    return [trials(family, row.formats if family.formats is None else family.formats) for family in families]


def _few_weights(graph: Graph) -> bool:
    """Whether a linear policy has few enough weights to search them directly."""
    obs = graph.obs_type
    return isinstance(obs.qtype, Float32) and len(obs.shape) == 1 and graph.actions * (obs.size + 1) <= _MOST_WEIGHTS


def _is_mlp(graph: Graph) -> bool:
    return not any(isinstance(node.op, ops.Conv2d) for node in graph.nodes)


def _mlp_macs(teacher: Graph, hidden: Widths) -> int:
    """Multiply-accumulates of a student of these widths."""
    return sum(a * b for a, b in pairwise((teacher.obs_type.size, *hidden, teacher.actions)))
