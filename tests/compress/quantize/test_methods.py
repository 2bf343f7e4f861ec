"""Ranges of activations: each method against its definition, histograms against what they count, memory bounded."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbleq.compress.quantize.histogram import BINS, Observer
from nimbleq.compress.quantize.methods import METHODS, divergences, kullback_leibler
from nimbleq.compress.quantize.ranges import choose_range, measure
from nimbleq.compress.states import action_gap, q_values
from nimbleq.graph.rewrite import fold


def observed(values, weights=None, batch=97):
    observer = Observer()
    for start in range(0, len(values), batch):
        part = slice(start, start + batch)
        observer.add(np.asarray(values[part], np.float64), None if weights is None else weights[part])
    return observer.histogram()


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=80),
    batch=st.integers(1, 20),
    weighted=st.booleans(),
)
def test_a_histogram_that_widens_counts_every_value_where_it_is(values, batch, weighted):
    values = np.array(values)
    weights = np.arange(1.0, len(values) + 1) if weighted else None
    seen = observed(values, weights, batch)
    assert (seen.low, seen.high) == (values.min(), values.max())
    total = len(values) if weights is None else weights.sum()
    assert seen.counts.sum() == pytest.approx(total)
    assert seen.magnitudes.sum() == pytest.approx(total)
    ends = np.append(seen.start, seen.start + (np.arange(BINS) + 1) * seen.width)
    slack = 1e-6 * (np.abs(values).max() + 1e-30)
    for edge in ends[::64]:  # no value crossed an edge, but for rounding
        share = 1.0 if weights is None else weights
        below, close = np.sum((values < edge - slack) * share), np.sum((values <= edge + slack) * share)
        assert below - 1e-6 <= seen.counts[: np.searchsorted(ends, edge)].sum() <= close + 1e-6


def slow_divergence(counts, size, levels, smoothing=1e-4):
    """The definition, bin by bin."""
    inside = counts[:size]
    p = inside.astype(np.float64).copy()
    p[-1] += counts[size:].sum()
    q = np.zeros(size)
    for level in range(levels):
        bins = np.arange(level * size // levels, (level + 1) * size // levels)
        present = bins[p[bins] > 0]
        if len(present):
            q[present] = inside[bins].sum() / len(present)
    if q.sum() == 0:
        return np.inf

    def smooth(x):
        empty = x == 0
        return np.where(empty, x.sum() * smoothing / size, x * (1 - smoothing * empty.mean())) / x.sum()

    p, q = smooth(p), smooth(q)
    return float(np.sum(p * np.log(p / q)))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.01, 1.0), levels=st.sampled_from([4, 16, 128]))
def test_divergence_is_the_definition(seed, share, levels):
    rng = np.random.default_rng(seed)
    counts = np.zeros(BINS)
    places = rng.choice(BINS, max(2, int(share * 300)), replace=False)
    counts[places] = rng.integers(1, 99, len(places))
    sizes = np.sort(rng.choice(np.arange(levels, BINS), 8, replace=False))
    want = [slow_divergence(counts, int(size), levels) for size in sizes]
    np.testing.assert_allclose(divergences(counts, sizes, levels), want, rtol=1e-7, atol=1e-9)


def test_kl_of_what_fits_the_levels_exactly_clips_nothing():
    """As many equal steps as levels: the full range loses nothing, and nothing else does."""
    steps = np.repeat(np.arange(256) / 255 * (BINS - 1) / BINS, 5)
    seen = observed(np.append(steps, 1.0))
    assert kullback_leibler(seen, 255)[1] > 0.99


def test_kl_and_mse_clip_a_far_outlier_that_minmax_keeps():
    values = np.append(np.abs(np.random.default_rng(0).normal(size=20_000)), 60.0)
    seen = observed(values)
    assert METHODS["minmax"].choose(seen, 255) == (values.min(), 60.0)
    for name, bits in (("kl", 8), ("percentile", 8), ("mse", 4)):
        assert 2.0 < METHODS[name].choose(seen, (1 << bits) - 1)[1] < 40.0, name


def test_signed_values_have_half_of_the_levels_on_either_side():
    rng = np.random.default_rng(0)
    seen = observed(rng.normal(size=20_000))
    low, high = kullback_leibler(seen, 255)
    assert low == pytest.approx(-high) or low == seen.low or high == seen.high
    assert high > 2.0


def test_states_with_a_wide_gap_are_not_a_tail(mlp):
    """Rare states where much is at stake: counted by gap, clipping does not reach them."""
    graph, obs = mlp(1, 4, (8,), 2)
    graph = fold(graph)
    rare = np.arange(len(obs)) < 4
    obs[rare] *= 12
    gaps = np.where(rare, 1000.0, 0.01)
    hidden = next(node.output for node in graph.nodes if node.op.kind == "Activation")
    measured = measure(graph, obs, [hidden], [], gaps)
    for method in ("mse", "kl"):
        plain, weighted = (
            choose_range(measured.plain[hidden], method, 15),
            choose_range(measured.by_gap[hidden], method, 15),
        )
        assert weighted.high[0] > plain.high[0] * 1.2, method
    assert choose_range(measured.by_gap[hidden], "minmax").high == choose_range(measured.plain[hidden], "minmax").high


def test_memory_does_not_grow_with_the_states(mlp):
    """Histograms stay, activations do not."""
    graph, obs = mlp(1, 6, (64, 64), 4)
    gaps = action_gap(q_values(graph, obs))
    names = [node.output for node in graph.nodes if node.op.kind in ("Activation", "Linear")]

    def peak(times):
        many, stakes = np.tile(obs, (times, 1)), np.tile(gaps, times)
        tracemalloc.start()
        measure(graph, many, names, [], stakes)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    small, large = peak(4), peak(40)
    activations = 40 * len(obs) * sum(graph.types[name].size for name in names) * 4
    assert large < 1.2 * small
    assert large < activations / 3
