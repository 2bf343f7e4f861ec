"""Seeds of different purposes never meet."""

import itertools
from typing import get_args

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nimbleq.seeds import Purpose, episode_seeds


def test_purposes_are_disjoint() -> None:
    streams = [set(episode_seeds(purpose, 0, 5_000).tolist()) for purpose in get_args(Purpose)]
    for one, other in itertools.combinations(streams, 2):
        assert not one & other


@given(st.sampled_from(get_args(Purpose)), st.integers(0, 2**63 - 1), st.integers(0, 10_000))
def test_a_stream_has_no_repeats_fits_31_bits_and_continues(purpose: Purpose, nonce: int, start: int) -> None:
    seeds = episode_seeds(purpose, nonce, 200, start)
    assert len(set(seeds.tolist())) == 200
    assert seeds.min() >= 0
    assert seeds.max() < 2**31
    np.testing.assert_array_equal(seeds[50:], episode_seeds(purpose, nonce, 150, start + 50))


def test_nonces_give_different_streams() -> None:
    assert set(episode_seeds("certify", 1, 1000)) != set(episode_seeds("certify", 2, 1000))
