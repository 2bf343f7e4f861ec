"""Zeros where a pattern wants them, that stay through training, and are stored as what they save."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbleq.compress.passes.context import Context
from nimbleq.compress.passes.distill import Distill
from nimbleq.compress.passes.encode import encode
from nimbleq.compress.passes.fold import Fold
from nimbleq.compress.passes.labelled import label
from nimbleq.compress.passes.patterns import Blocks, NofM, Share, cubic, parse_pattern
from nimbleq.compress.passes.quantize import Quantize
from nimbleq.compress.passes.recipe import apply, parse_recipe
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.passes.sparsify import SALIENCIES, Sparsify, layers_of, magnitudes, zeros_of
from nimbleq.compress.states import States, compare_graphs, q_values
from nimbleq.errors import ConfigError
from nimbleq.graph.artefact import load_artefact, save_artefact
from nimbleq.graph.cost import cost
from nimbleq.graph.encodings import ENCODINGS, matrix
from nimbleq.graph.formats import FLOAT32

SHORT = DistillConfig(rounds=1, updates=60, last_updates=60, episodes=4, states=400, batch_size=64)


def test_the_schedule_is_the_papers_cubic():
    """Zhu & Gupta: s_t = s_f + (s_i − s_f)(1 − t/n)³, here from 0."""
    final = 0.9
    for step in range(1, 6):
        assert final * cubic(step / 5) == pytest.approx(final + (0 - final) * (1 - step / 5) ** 3)
    assert cubic(1.0) == 1.0


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_pattern_leaves_what_its_encoding_holds(seed):
    rng = np.random.default_rng(seed)
    shapes = [tuple(int(n) for n in rng.integers(1, 9, rng.choice([2, 4]))) for _ in range(3)]
    scores = {f"w{at}": rng.random(shape) for at, shape in enumerate(shapes)}
    total = sum(score.size for score in scores.values())
    for text in ("0.7", "2:4", "1:4", "block4", "block4:0.5"):
        pattern = parse_pattern(text)
        before = {name: np.ones(score.shape, bool) for name, score in scores.items()}
        for reached in (0.3, 0.7, 1.0):
            masks = pattern.masks({name: scores[name] * before[name] for name in scores}, reached)
            assert all((mask <= before[name]).all() for name, mask in masks.items()), "what is gone stays gone"
            before = masks
        if isinstance(pattern, Share):
            assert sum(int(mask.sum()) for mask in masks.values()) == pytest.approx(0.3 * total, abs=1)
        for name, mask in masks.items():
            values = np.where(mask, scores[name] + 1, 0).astype(np.float32)
            if isinstance(pattern, NofM):
                assert not ENCODINGS[text].misfit(values, FLOAT32)
            if isinstance(pattern, Blocks):
                rows = matrix(mask)
                assert all((part == part[0]).all() for part in np.split(rows, range(4, len(rows), 4)))


def test_n_of_m_keeps_the_largest_of_each_group():
    masks = NofM(2, 4).masks({"w": np.array([[1, 5, 4, 2, 9, 3, 8, 7, 6]])}, 1.0)
    assert masks["w"].tolist() == [[False, True, True, False, True, False, True, False, True]]


def test_no_layer_is_emptied_by_magnitude(mlp):
    graph, _ = mlp(0, 8, (64, 64), 4)
    small = graph.with_weights({"w2": graph.weights["w2"] * np.float32(1e-4)})
    masks = Share(0.95).masks(magnitudes(small, np.zeros((0, 8))), 1.0)
    assert masks["w2"].mean() > masks["w1"].mean() > 0


@pytest.mark.parametrize("net", ["mlp", "cnn"])
def test_second_order_and_its_repair_lose_less_than_magnitude(mlp, cnn, net):
    graph, obs = mlp(3, 8, (48, 48), 4) if net == "mlp" else cnn(1)
    states, error = States(obs), {}
    q = q_values(graph, obs)
    for name, row in SALIENCIES.items():
        masks = Share(0.6).masks(row.scores(graph, obs), 1.0)
        sparse = row.apply(graph, masks, obs)
        assert all((sparse.weights[name][~mask] == 0).all() for name, mask in masks.items())
        error[name] = np.square(q_values(sparse, states.obs) - q).mean()
    assert error["obs"] < 0.5 * error["magnitude"]


@pytest.mark.parametrize("word", ["0.8", "obs:0.8", "2:4", "obs:1:4", "block4", "block4:0.6"])
def test_the_pass_makes_a_sparse_policy_that_acts_like_its_teacher(word, balance, balance_teacher):
    (step,) = parse_recipe([f"sparsify={word}"])
    assert parse_recipe([f"sparsify={word}"]) == (step,)
    context = Context(balance_teacher, balance, SHORT)
    sparse = step(balance_teacher, context)
    weights = [sparse.weights[name] for name in layers_of(sparse)]
    zeros = sum(int((w == 0).sum()) for w in weights) / sum(w.size for w in weights)
    wanted = {"0.8": 0.8, "2:4": 0.5, "1:4": 0.75, "block4": 0.75, "block4:0.6": 0.6}[word.removeprefix("obs:")]
    assert zeros == pytest.approx(wanted, abs=0.01)
    assert compare_graphs(balance_teacher, sparse, context.visited(sparse)).agreement > 0.65


def test_zeros_stay_through_distillation_folding_and_int8(balance, balance_teacher, tmp_path):
    context = Context(balance_teacher, balance, SHORT)
    recipe = (Sparsify(parse_pattern("0.9")), Distill(sparse=True), Fold(), Quantize())
    sparse, final = apply(recipe[:1], context), apply(recipe, context)
    for name, mask in zeros_of(sparse).items():
        assert (apply(recipe[:2], context).weights[name][~mask] == 0).all()
    layers = [w for w in final.weights.values() if w.ndim == 2]
    assert sum(np.count_nonzero(w) for w in layers) < 0.11 * 768  # and units that read nothing are gone
    stored = encode(final)
    matrices = [name for name, w in final.weights.items() if w.ndim == 2]
    assert {str(stored.stored(name).encoding) for name in matrices} & (set(ENCODINGS) - {"dense"})
    assert cost(stored).size_bytes < cost(final).size_bytes
    assert cost(stored).macs <= 0.6 * cost(final).macs
    obs = context.visited(final).obs[:20]
    opened = load_artefact(save_artefact(tmp_path / "a", stored, obs, {}).path).graph
    assert opened.storage == stored.storage
    assert cost(opened) == cost(stored)
    assert np.array_equal(q_values(opened, obs), q_values(final, obs))


def test_what_is_dense_stays_stored_as_it_was(mlp):
    graph, _ = mlp(0, 5, (12,), 3)
    assert encode(graph).storage == {}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("", "takes a share"),
        ("1", "above 0 and below 1"),
        ("0", "above 0 and below 1"),
        ("block4:2", "above 0 and below 1"),
        ("3:4", "no pattern '3:4'"),
        ("small", "no pattern 'small'"),
        ("obs:", "no pattern ''"),
    ],
)
def test_patterns_that_are_not_there_are_refused(word, message):
    with pytest.raises(ConfigError, match=message):
        parse_recipe([f"sparsify={word}"])


def test_distill_takes_no_other_setting():
    with pytest.raises(ConfigError, match="takes no setting, sparse"):
        parse_recipe(["distill=dense"])


def test_a_teacher_of_images_becomes_sparse_too(cnn):
    graph, obs = cnn(0)
    scores = SALIENCIES["obs"].scores(graph, obs)
    assert scores["w1"].shape == graph.weights["w1"].shape
    masks = NofM(2, 4).masks(scores, 1.0)
    sparse = SALIENCIES["obs"].apply(graph, masks, obs)
    assert not any(ENCODINGS["2:4"].misfit(sparse.weights[name], FLOAT32) for name in masks)
    assert compare_graphs(graph, sparse, label(graph, States(obs)).states).agreement > 0.5
