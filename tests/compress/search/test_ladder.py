"""The tables that a search walks: recipes, number formats, families of candidates."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from nimbleq.compress.passes.context import Context
from nimbleq.compress.passes.fold import Fold
from nimbleq.compress.passes.labelled import label
from nimbleq.compress.passes.prune import Prune
from nimbleq.compress.passes.recipe import apply, describe
from nimbleq.compress.passes.settings import DistillConfig, check_distill
from nimbleq.compress.quantize.post_training import quantize
from nimbleq.compress.search import rungs
from nimbleq.compress.search.config import CompressConfig
from nimbleq.compress.search.ladder import FORMATS, RECIPES, RecipeRow, ladders
from nimbleq.compress.search.rungs import LADDER, Family, Rung
from nimbleq.compress.search.search import compress_policy
from nimbleq.compress.states import States
from nimbleq.errors import ConfigError
from nimbleq.graph.cost import cost

FAST = DistillConfig(rounds=1, updates=20, last_updates=20, episodes=2, states=100)


def ladder(teacher, recipe, hidden=None):
    return [family for each in ladders(teacher, recipe, hidden) for family in each]


def names(teacher, recipe="auto", hidden=None):
    return [[trial.name for trial in family] for family in ladder(teacher, recipe, hidden)]


def test_a_network_of_vectors_is_taught_to_students_that_are_cheaper(mlp):
    teacher, _ = mlp(0, 8, (64, 64), 4)
    found = names(teacher, "float32")
    assert found[0] == ["linear-float32"]
    assert found[-1] == ["teacher-float32"]
    assert ["32x32-float32"] in found
    assert ["48x48-float32"] not in found, "it does more than half of the teacher's multiply-accumulates"


def test_a_network_of_pictures_is_pruned(cnn, monkeypatch):
    monkeypatch.setattr(rungs, "_FEW_PIXELS", 100)
    teacher, _ = cnn(1)
    assert names(teacher, "int8") == [
        ["pruned-0.0625-int8"], ["pruned-0.125-int8"], ["pruned-0.25-int8"], ["pruned-0.5-int8"], ["teacher-int8"],
    ]  # fmt: skip
    assert names(teacher, "int8", ((), (8,))) == [["linear-int8"], ["8-int8"], ["teacher-int8"]]


@pytest.mark.parametrize("recipe", ["distill", "int8", "float32", "toy"])
def test_every_recipe_tries_its_formats_in_every_family(mlp, monkeypatch, recipe):
    monkeypatch.setitem(FORMATS, "folded", (Fold(),))
    monkeypatch.setitem(RECIPES, "toy", RecipeRow(("folded", "int8"), "a toy"))
    teacher, _ = mlp(0, 8, (64, 64), 4)
    families = ladder(teacher, recipe, ((), (4,)))
    assert len(families) == 3
    for family in families:
        assert [trial.name.rpartition("-")[2] for trial in family] == list(RECIPES[recipe].formats)
        endings = [FORMATS[name] for name in RECIPES[recipe].formats]
        beginnings = {t.recipe[: len(t.recipe) - len(end)] for t, end in zip(family, endings, strict=True)}
        assert len(beginnings) == 1, "the expensive beginning is shared"


def test_every_recipe_has_candidates_of_their_own_names(mlp, cnn):
    numbers, pictures = mlp(0, 8, (64, 64), 4)[0], cnn(1)[0]
    for recipe, row in RECIPES.items():
        teacher = pictures if recipe in ("mobilenet", "shufflenet") else numbers
        found = [trial for family in ladder(teacher, recipe) for trial in family]
        assert len({trial.name for trial in found}) == len({trial.recipe for trial in found}) == len(found) > 0
        assert row.purpose


def test_the_last_bytes_come_first_where_there_are_few(mlp, cnn):
    teacher, _ = mlp(0, 8, (64, 64), 4)
    assert names(teacher)[0] == ["linear-direct4", "linear-direct6"]
    assert names(teacher, "last-bytes") == [
        [f"linear-{name}" for name in ("direct4", "direct3", "direct2", "direct6", "direct6-again")]
    ]
    four, three, two, six, again = ladder(teacher, "last-bytes")[0]
    assert (three.after, two.after) == (four.name, three.name)
    assert (six.unless, again.unless) == ((four.name,), (four.name, six.name))
    assert not four.after
    assert not four.unless
    assert names(teacher, hidden=((4,),))[0] == ["4-int8", "4-float32"]
    with pytest.raises(ConfigError, match="'last-bytes' has nothing"):
        names(mlp(0, 50, (64, 64), 4)[0], "last-bytes")


def test_sizes_are_foretold_only_for_whole_bytes(mlp):
    teacher = mlp(0, 8, (64, 64), 4)[0]
    assert all(trial.about_bytes for family in ladder(teacher, "distill") for trial in family)
    assert not any(trial.about_bytes for family in ladder(teacher, "int2") for trial in family)


def test_auto_searches_each_kind_for_itself(mlp, cnn, monkeypatch):
    def kinds(teacher, hidden=None):
        return [each[0][0].name for each in ladders(teacher, "auto", hidden)]

    vectors, pictures = mlp(0, 8, (64, 64), 4)[0], cnn(1)[0]
    assert kinds(vectors) == ["linear-direct4", "tree-2-int8", "linear-int8", "teacher-int8"]
    assert kinds(pictures) == ["linear-int8", "mobilenet-8x16-int8", "teacher-int8"], "few pixels: students read them"
    monkeypatch.setattr(rungs, "_FEW_PIXELS", 100)
    assert kinds(pictures) == ["mobilenet-8x16-int8", "pruned-0.0625-int8", "teacher-int8"]
    assert kinds(vectors, ((4,),)) == ["4-int8", "teacher-int8"]


@pytest.mark.parametrize("kind", ["linear", "students", "tree", "mobilenet", "shufflenet"])
def test_no_candidate_is_smaller_than_its_family_says(mlp, cnn, kind):
    teacher, obs = cnn(1) if kind.endswith("net") else mlp(0, 8, (64, 64), 4)
    for family in LADDER[kind].families(teacher, None):
        context = Context(teacher, None, _from_teacher=label(teacher, States(obs)))
        fresh = apply((family.start[0], Fold()), context)
        formats = [quantize(fresh, obs)] if kind != "tree" else []  # a deep one may lose splits
        assert 0 < family.about_bytes <= min(cost(graph).size_bytes for graph in (fresh, *formats))


def test_small_trees_are_not_made_beside_a_policy_of_30_bytes(mlp):
    (shallowest, *_) = LADDER["small-tree"].families(mlp(0, 8, (64, 64), 4)[0], None)
    assert shallowest.about_bytes > 30


@dataclass(frozen=True)
class Tie:
    """A toy pass that changes nothing."""

    def __call__(self, graph, context):
        return graph

    def __str__(self):
        return "tie"


def test_a_toy_family_is_one_row(balance, balance_teacher, monkeypatch):
    start = (Fold(), Tie(), Prune(0.5))
    row = Rung(lambda teacher, _: teacher.actions == 2, lambda *_: [Family("tied", start)])
    other = Rung(lambda teacher, _: teacher.actions == 3, lambda *_: [Family("for others", start)])
    monkeypatch.setitem(LADDER, "toy", row)
    monkeypatch.setitem(LADDER, "other", other)
    monkeypatch.setitem(RECIPES, "tie", RecipeRow(("float32",), "a toy", ("other", "toy")))
    monkeypatch.setitem(RECIPES, "other", RecipeRow(("float32",), "a toy", ("other",)))
    assert names(balance_teacher, "tie") == [["tied-float32"]]
    with pytest.raises(ConfigError, match="'other' has nothing for a teacher like this one"):
        ladder(balance_teacher, "other")
    config = CompressConfig(keep=0.5, recipe="tie", distill=FAST, select_episodes=40)
    made = compress_policy(balance_teacher, balance, config)
    assert [(c.name, c.recipe) for c in made.candidates] == [("tied-float32", "fold → tie → prune to 0.5")]
    assert made.candidates[0].hidden == (64,)


def test_a_family_may_have_formats_of_its_own(mlp, monkeypatch):
    family = Family("own", (Fold(),), ("float32",))
    monkeypatch.setitem(LADDER, "own", Rung(lambda *_: True, lambda *_: [family]))
    monkeypatch.setitem(RECIPES, "mixed", RecipeRow(("int8", "float32"), "a toy", ("own", "teacher")))
    teacher, _ = mlp(0, 8, (64, 64), 4)
    assert names(teacher, "mixed") == [["own-float32"], ["teacher-int8", "teacher-float32"]]


def test_rows_describe_themselves(mlp):
    teacher, _ = mlp(0, 8, (64, 64), 4)
    words = [describe(trial.recipe) for family in ladder(teacher, "distill") for trial in family]
    assert words[:3] == [
        "linear student → distill → fold → int8",
        "linear student → distill → fold",
        "student 4 → distill → fold → int8",
    ]
    assert len(set(words)) == len(words)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rounds": 0}, "distill.rounds must be at least 1, not 0"),
        ({"batch_size": 1}, "distill.batch_size must be at least 2, not 1"),
        ({"lr": float("nan")}, "distill.lr must be positive, not nan"),
        ({"epsilon": 1.5}, "distill.epsilon must be between 0 and 1, not 1.5"),
        ({"advantage_weight": -1.0}, "distill.advantage_weight cannot be negative, not -1.0"),
    ],
)
def test_settings_of_distillation_out_of_range(changed, said):
    with pytest.raises(ConfigError, match=said):
        check_distill(DistillConfig(**changed))
    check_distill(DistillConfig())


def test_an_empty_recipe_is_refused(balance, balance_teacher):
    with pytest.raises(ConfigError, match="at least one pass"):
        compress_policy(balance_teacher, balance, CompressConfig(recipe=()))
