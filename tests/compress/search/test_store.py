"""A search that is stopped goes on with the candidates that it had finished, to the same result."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nimbleq.compress.certify.stream import graph_hash
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.search.config import CompressConfig
from nimbleq.compress.search.search import compress_policy
from nimbleq.compress.search.store import Store
from nimbleq.errors import FileError
from nimbleq.seeds import episode_seeds

FAST = DistillConfig(rounds=1, updates=40, last_updates=40, episodes=2, states=200)
CONFIG = CompressConfig(keep=0.9, recipe="distill", distill=FAST, select_episodes=40, hidden=((), (4,), (8,)))


class StopError(Exception):
    """Ctrl-C."""


def stopping(balance, after):
    """An environment that is stopped after so many calls."""
    calls = 0

    def play(policy, seeds, **options):
        nonlocal calls
        calls += 1
        if calls > after:
            raise StopError
        return balance(policy, seeds, **options)

    play.calls = lambda: calls
    return play


def facts(made):
    return (
        json.dumps(made.to_dict()),
        json.dumps(made.certificate.to_dict()),
        [graph_hash(c.graph) for c in made.candidates],
    )


def test_stopped_anywhere_it_comes_to_the_same(tmp_path, balance, balance_teacher):
    whole = stopping(balance, 10_000)
    wanted = compress_policy(balance_teacher, whole, CONFIG)
    for after in range(3, whole.calls(), 7):
        store = Store(tmp_path / str(after))
        with pytest.raises(StopError):
            compress_policy(balance_teacher, stopping(balance, after), CONFIG, store=store)
        again = compress_policy(balance_teacher, balance, CONFIG, store=store)
        assert facts(again) == facts(wanted)
        assert np.array_equal(again.golden_obs, wanted.golden_obs)


def test_a_finished_candidate_is_neither_made_nor_selected_again(tmp_path, balance, balance_teacher):
    store = Store(tmp_path)
    made = compress_policy(balance_teacher, balance, CONFIG, store=store)
    assert {path.name for path in tmp_path.iterdir()} >= {c.name for c in made.candidates}
    assert {path.name for path in tmp_path.rglob("*.*") if path.is_file()} == {
        "model.json", "weights.safetensors", "golden.npz", "provenance.json",
    }  # fmt: skip
    selecting = set(episode_seeds("select", CONFIG.seed, CONFIG.select_episodes).tolist())
    disturbed = []

    def recording(policy, seeds, **options):
        graph = getattr(policy, "graph", None)
        if graph is not None and set(map(int, seeds)) & selecting:
            assert graph_hash(graph) == graph_hash(balance_teacher), "a candidate is selected anew"
        if options.get("epsilon") == FAST.epsilon:
            disturbed.append(len(seeds))
        return balance(policy, seeds, **options)

    again = compress_policy(balance_teacher, recording, CONFIG, store=store)
    assert facts(again) == facts(made)
    assert disturbed == [16], "for the golden observations, and no more: nothing is distilled"


def test_a_damaged_candidate_is_one_line(tmp_path, balance, balance_teacher):
    compress_policy(balance_teacher, balance, CONFIG, store=Store(tmp_path))
    victim = tmp_path / "linear-int8" / "provenance.json"
    victim.write_text(victim.read_text().replace('"agreement": ', '"agreement": 1'))
    with pytest.raises(FileError, match="changed after it was written"):
        compress_policy(balance_teacher, balance, CONFIG, store=Store(tmp_path))
