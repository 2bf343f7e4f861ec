"""The ladder: the candidates of a search, from small to large, as data.

Where candidates come from is a row of `nimbleq.compress.search.rungs.LADDER`, how their weights end up a row of
`FORMATS`; a recipe, a row of `RECIPES`, says which of both a search tries. A new method is one pass and one line in
each table that it needs.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from nimbleq.compress.passes.direct import Direct
from nimbleq.compress.passes.encode import Encode
from nimbleq.compress.passes.importances import IMPORTANCES
from nimbleq.compress.passes.qat import Qat
from nimbleq.compress.passes.quantize import BrainFloats, Quantize, WeightOnly
from nimbleq.compress.passes.recipe import Recipe
from nimbleq.compress.quantize.scheme import Scheme
from nimbleq.compress.search.rungs import LADDER, Family, Widths
from nimbleq.errors import ConfigError
from nimbleq.graph.formats import APOT4, LOG2, TERNARY, Int
from nimbleq.graph.graph import Graph

FORMATS: dict[str, Recipe] = {
    "direct4": (Direct(4),),
    "direct3": (Direct(4), Direct(3)),
    "direct2": (Direct(4), Direct(3), Direct(2)),
    "direct6": (Direct(6),),
    "direct6-again": (Direct(6), Direct(6)),
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
    "weights-int8": (WeightOnly(Int(8, signed=True)),),
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
UNLESS = {"direct6": ("direct4",), "direct6-again": ("direct4", "direct6")}
"""Number format → those, smaller or found sooner, that have to fail before this one is made."""


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
        apart: each rung is searched for itself; else one goes on where the one before ends.
    """

    formats: tuple[str, ...]
    purpose: str
    rungs: tuple[str, ...] = _STANDARD
    apart: bool = False


RECIPES: dict[str, RecipeRow] = {
    "auto": RecipeRow(
        ("int8", "float32"),
        "tries several kinds, each from small to large",
        ("last-bytes", "small-tree", "students", "compact", "pruned", "teacher", "remembering"),
        apart=True,
    ),
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
    "weights-int8": RecipeRow(("weights-int8",), "weights of 8 bits with scales, float32 activations"),
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
class Trial:
    """A recipe to try.

    Attributes:
        name: of the candidate that it makes.
        recipe: makes it.
        after: name of the candidate that has to pass before this one is made (empty: none).
        unless: names of the candidates that have to fail before this one is made.
        episodes: that making it plays, about, beyond the usual.
        about_bytes: of the smallest of its family; 0 where nobody knows before it is made.
    """

    name: str
    recipe: Recipe
    after: str = ""
    unless: tuple[str, ...] = ()
    episodes: int = 0
    about_bytes: int = 0


Ladder = list[tuple[Trial, ...]]
"""Families of candidates, from small to large."""


def trials(family: Family, formats: Collection[str]) -> tuple[Trial, ...]:
    """The family's candidates in these formats."""

    return tuple(
        Trial(
            f"{family.name}-{name}",
            (*family.start, *FORMATS[name]),
            f"{family.name}-{ONLY_AFTER[name]}" if name in ONLY_AFTER else "",
            tuple(f"{family.name}-{other}" for other in UNLESS.get(name, ())),
            family.episodes,
            family.about_bytes if "int8" in formats else 0,
        )
        for name in formats
    )


def ladders(teacher: Graph, recipe: str, hidden: tuple[Widths, ...] | None = None) -> list[Ladder]:
    """Families of candidates for ``teacher``; one ladder, or one for each rung where the recipe searches them apart.

    Args:
        recipe: a name in `RECIPES`.
        hidden: widths of the students to try (None: the ladder's own).

    Raises:
        ConfigError: the recipe has none for such a teacher.
    """
    row = RECIPES[recipe]
    rungs = [LADDER[name] for name in row.rungs if LADDER[name].remembers == bool(teacher.units)]
    suited = [rung for rung in rungs if rung.suits(teacher, hidden)]
    found: list[Ladder] = [
        [trials(family, family.formats or row.formats) for family in rung.families(teacher, hidden)] for rung in suited
    ]
    if not any(found):
        raise ConfigError(f"the recipe {recipe!r} has nothing for a teacher like this one: try another, or auto")
    return found if row.apart else [[family for each in found for family in each]]
