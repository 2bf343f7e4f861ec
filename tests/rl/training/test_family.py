"""The family by hand: C51's projection, quantile Huber, Munchausen; and chains whose returns are known."""

import math
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch

from nimbleq.config import TrainConfig, with_changes
from nimbleq.rl.learners.engines import make_learner
from nimbleq.rl.learners.torch import TorchLearner
from nimbleq.rl.learners.torch_state import network_with
from nimbleq.rl.nets import losses
from nimbleq.rl.nets.heads import histogram, iqn, qr
from nimbleq.rl.nets.heads.head import Sample
from nimbleq.rl.nets.heads.iqn import cosine_features
from nimbleq.rl.nets.heads.quantiles import midpoints
from nimbleq.rl.nets.heads.table import HEADS
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array, Batch, ObsSpec

CERTAIN = torch.ones(1, 1), torch.zeros(1, 1)  # one action, taken for sure


def one(values: list[float]) -> torch.Tensor:
    return torch.tensor([values])


def project(reward: float, discount: float, probs: list[float], policy: losses.NextPolicy = CERTAIN) -> list[float]:
    support = torch.tensor([-1.0, 0.0, 1.0, 2.0])
    rows = torch.tensor([probs]).view(1, -1, 4)
    target = losses.bellman_projection(torch.tensor([reward]), torch.tensor([discount]), rows, support, policy)
    return [round(value, 6) for value in target[0].tolist()]


def test_c51_projection_by_hand() -> None:
    assert project(0.0, 1.0, [0.1, 0.2, 0.3, 0.4]) == [0.1, 0.2, 0.3, 0.4], "nothing moves"
    assert project(1.0, 1.0, [0.1, 0.2, 0.3, 0.4]) == [0.0, 0.1, 0.2, 0.7], "one step up, the top saturates"
    assert project(-9.0, 1.0, [0.1, 0.2, 0.3, 0.4]) == [1.0, 0.0, 0.0, 0.0], "below the range"
    assert project(0.25, 0.0, [0.1, 0.2, 0.3, 0.4]) == [0.0, 0.75, 0.25, 0.0], "terminal: the reward alone"
    # Halved: −½ ½·0.1 each side, 0, ½, 1; shifted by 0.25: −0.25, 0.25, 0.75, 1.25.
    expected = [0.1 * 0.25, 0.1 * 0.75 + 0.2 * 0.75 + 0.3 * 0.25, 0.2 * 0.25 + 0.3 * 0.75 + 0.4 * 0.75, 0.4 * 0.25]
    assert project(0.25, 0.5, [0.1, 0.2, 0.3, 0.4]) == pytest.approx(expected, abs=1e-6)


def test_c51_projection_mixes_actions_with_their_gains_and_keeps_the_mean() -> None:
    policy = one([0.25, 0.75]), one([1.0, 0.0])  # the first action's values rise by one
    assert project(0.0, 1.0, [1, 0, 0, 0, 0, 0, 0, 1], policy) == [0.0, 0.25, 0.0, 0.75]
    rng = torch.Generator().manual_seed(0)
    support = torch.linspace(-10, 10, 21)
    probs = torch.rand(64, 3, 21, generator=rng).softmax(2)
    probs = (probs * (support.abs() < 6)) / (probs * (support.abs() < 6)).sum(2, keepdim=True)
    reward, discount = torch.rand(64, generator=rng), torch.rand(64, generator=rng)
    policy = losses.soft(torch.randn(64, 3, generator=rng), tau=0.5)
    target = losses.bellman_projection(reward, discount, probs, support, policy)
    assert torch.allclose(target.sum(1), torch.ones(64), atol=1e-5)
    mean = losses.bellman_values(reward, discount, (probs @ support)[..., None], policy).squeeze(1)
    assert torch.allclose(target @ support, mean, atol=1e-4)


def test_what_is_added_up_in_order_on_a_gpu_is_the_same() -> None:
    rng = torch.Generator().manual_seed(1)
    place = torch.cat([torch.rand(8, 12, generator=rng) * 6, torch.randint(0, 7, (8, 3), generator=rng).float()], 1)
    mass = torch.rand(8, 15, generator=rng)
    wanted = losses._spread(place, mass, 7)
    assert torch.allclose(losses._spread_in_order(place, mass, 7), wanted, atol=1e-5)
    assert torch.allclose(wanted.sum(1), mass.sum(1), atol=1e-5)


def test_cross_entropy_and_divergence_by_hand() -> None:
    log_probs, target = one([0.5, 0.25, 0.25]).log(), one([1.0, 0.0, 0.0])
    assert losses.cross_entropy(log_probs, target).item() == pytest.approx(math.log(2))
    assert losses.kl_divergence(log_probs, target).item() == pytest.approx(math.log(2))
    assert losses.kl_divergence(log_probs, log_probs.exp()).item() == pytest.approx(0.0, abs=1e-7)


def test_a_gaussian_in_bins_by_hand() -> None:
    """Bins of 0.5 from −1 to 2, σ = 0.375; the mass between two edges by the normal distribution's own function."""
    support, values = torch.linspace(-1, 2, 7), [0.0, 0.7, 1.5, 9.0, -1.0]
    found = losses.gaussian_histogram(torch.tensor(values), support, 0.75)
    for row, value in zip(found.tolist(), values, strict=True):
        normal = NormalDist(min(max(value, -1.0), 2.0), 0.375)
        below = [normal.cdf(-1.25 + 0.5 * at) for at in range(8)]
        assert row == pytest.approx([(b - a) / (below[-1] - below[0]) for a, b in pairwise(below)], abs=1e-6)
    assert (found @ support)[:2].tolist() == pytest.approx(values[:2], abs=0.01), "its mean is the value"
    assert found[3].argmax() == 6, "what lies outside counts as the end"


def test_quantile_huber_by_hand() -> None:
    """Quantiles 0 and 1 at τ = ¼, ¾; targets 0.5 and 3: δ = 0.5, 3, −0.5, 2 with h = 0.125, 2.5, 0.125, 1.5."""
    loss = losses.quantile_huber(one([0.0, 1.0]), torch.tensor([0.25, 0.75]), one([0.5, 3.0]))
    assert loss.item() == pytest.approx((0.25 * 0.125 + 0.25 * 2.5) / 2 + (0.25 * 0.125 + 0.75 * 1.5) / 2)


def test_the_least_quantile_loss_is_at_the_quantiles() -> None:
    target = torch.linspace(0, 100, 101)[None]
    fractions = midpoints(4)
    quantiles = torch.zeros(1, 4, requires_grad=True)
    optimizer = torch.optim.SGD([quantiles], lr=30.0)
    for _ in range(200):
        optimizer.zero_grad()
        losses.quantile_huber(quantiles, fractions, target).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert quantiles[0].tolist() == pytest.approx([12.5, 37.5, 62.5, 87.5], abs=0.5)


def test_munchausen_target_by_hand() -> None:
    """Two actions, Q(s') = (1, 0), τ = 1: π = (e, 1)/(e + 1) and the soft value is log(e + 1)."""
    tau = 1.0
    policy = losses.soft(one([1.0, 0.0]), tau)
    assert policy[0][0].tolist() == pytest.approx([math.e / (math.e + 1), 1 / (math.e + 1)])
    soft_value = losses.bellman_values(torch.zeros(1), torch.ones(1), one([1.0, 0.0])[..., None], policy)
    assert soft_value.item() == pytest.approx(math.log(math.e + 1))
    bonus = losses.munchausen_bonus(torch.tensor([[1.0, 0.0], [9.0, 0.0]]), torch.tensor([0, 1]), tau, clip=-1.0)
    assert bonus.tolist() == pytest.approx([1 - math.log(math.e + 1), -1.0])


def test_munchausen_learner_regresses_on_that_target() -> None:
    config = with_changes(TrainConfig(), {"network.hidden": (8,), "learner.munchausen": True, "learner.double": False})
    learner = TorchLearner(config, EnvSpec(ObsSpec((5,)), 3), 0)
    rng = np.random.default_rng(0)
    obs, next_obs = rng.normal(size=(2, 16, 5)).astype(np.float32)
    action, reward = rng.integers(3, size=16), rng.normal(size=16).astype(np.float32)
    batch = Batch(obs, action, reward, np.full(16, 0.9, np.float32), next_obs, np.ones(16, np.float32), np.arange(16))
    q, next_q, tau = learner.q(obs).astype(np.float64), learner.q(next_obs).astype(np.float64), 0.03

    def log_pi(values: Array) -> Array:
        shifted = values / tau - (values / tau).max(1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))

    bonus = np.maximum(tau * log_pi(q)[np.arange(16), action], -1.0)
    value = (np.exp(log_pi(next_q)) * (next_q - tau * log_pi(next_q))).sum(1)
    expected = np.abs(q[np.arange(16), action] - (reward + 0.9 * bonus + 0.9 * value))
    assert learner.update(batch) == pytest.approx(expected, abs=1e-4)


CHAIN = {
    "network.hidden": (32,),
    "network.layer_norm": False,
    "network.normalize_obs": False,
    "learner.gamma": 0.5,
    "learner.target": "hard",
    "learner.target_every": 20,
    "learner.lr": 1e-2,
    "learner.lr_end": 1e-3,
    "learner.lr_updates": 500,
}
DISTRIBUTIONS: dict[str, dict[str, Any]] = {
    "c51": {"network.atoms": 41, "network.v_min": -1.0, "network.v_max": 3.0},
    "hl-gauss": {"network.atoms": 51, "network.v_min": -2.0, "network.v_max": 3.0},
    "qr": {"network.atoms": 16, "network.dueling": True},
    "iqn": {"network.atoms": 16, "network.cosines": 16, "learner.double": False},
}


QUANTILES = {"qr": qr.quantiles, "iqn": iqn.quantiles}


def huber_quantiles(values: Array, fractions: Array) -> Array:
    """Where the quantile Huber loss (κ = 1) of ``values`` is least: between quantiles and expectiles; by bisection."""
    low, high = np.full(len(fractions), -5.0), np.full(len(fractions), 5.0)
    for _ in range(60):
        middle = (low + high) / 2
        delta = values[None] - middle[:, None]
        slope = (np.abs(fractions[:, None] - (delta < 0)) * np.clip(delta, -1, 1)).sum(1)
        low, high = np.where(slope > 0, middle, low), np.where(slope > 0, high, middle)
    return low


NATIVE = ("c51", "hl-gauss", "qr")
"""Distributions that C learns, too."""


def chain_batch() -> Batch:
    """State 0 → state 1 (reward 0) → end with reward 0 or 2, half each; a second action ends at once with −1."""
    eye = np.eye(2, dtype=np.float32)
    state, action = np.array([0, 0, 1, 1, 0, 1]), np.array([0, 0, 0, 0, 1, 1])
    reward = np.array([0, 0, 0, 2, -1, -1], np.float32)
    discount = np.array([0.5, 0.5, 0, 0, 0, 0], np.float32)
    return Batch(eye[state], action, reward, discount, eye[[1] * 6], np.ones(6, np.float32), np.arange(6))


@pytest.mark.parametrize(
    ("head", "engine"),
    [
        *(pytest.param(head, "torch", marks=pytest.mark.long) for head in NATIVE),
        *((head, "torch") for head in DISTRIBUTIONS if head not in NATIVE),
        *((head, "auto") for head in NATIVE),
    ],
)
def test_a_chain_with_a_coin_at_its_end_has_its_known_return_distribution(head: str, engine: str) -> None:
    """Z(1, 0) is 0 or 2, Z(0, 0) is 0 or γ·2 = 1, half each; Z(·, 1) is −1."""
    config = with_changes(TrainConfig(), CHAIN | {"network.head": head, "learner.engine": engine} | DISTRIBUTIONS[head])
    spec = EnvSpec(ObsSpec((2,)), 2)
    learner = make_learner(config, spec, seed=0)
    for _ in range(500):
        learner.update(chain_batch())
    obs, network = torch.eye(2), network_with(learner.weights(), spec, config.network)
    assert learner.q(obs.numpy()) == pytest.approx(np.array([[0.5, -1.0], [1.0, -1.0]]), abs=0.08)
    if head == "hl-gauss":
        return  # its histogram is not the return's
    with torch.no_grad():
        if head == "c51":
            probs = histogram.log_probs(network, obs).exp()
            at = {value: round((value + 1) * 10) for value in (-1, 0, 1, 2)}
            assert probs[0, 0, [at[0], at[1]]].tolist() == pytest.approx([0.5, 0.5], abs=0.05)
            assert probs[1, 0, [at[0], at[2]]].tolist() == pytest.approx([0.5, 0.5], abs=0.05)
            assert probs[:, 1, at[-1]].tolist() == pytest.approx([1.0, 1.0], abs=0.05)
            return
        quantiles = QUANTILES[head](network, obs, midpoints(16).expand(2, -1)).numpy()
    last = huber_quantiles(np.array([0.0, 2.0]), midpoints(16).numpy())
    first = huber_quantiles(0.5 * last, midpoints(16).numpy())
    for found, expected in ((quantiles[1, 0], last), (quantiles[0, 0], first), (quantiles[:, 1], -1.0)):
        assert np.abs(found - expected).mean() < 0.2, "distance of the distributions (Wasserstein)"


@pytest.mark.parametrize("munchausen", [False, True])
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("head", [name for name, head in HEADS.items() if not head.branches])
def test_everything_combines_and_weights_scale_the_gradient(
    head: str, dueling: bool, noisy: bool, double: bool, munchausen: bool
) -> None:
    changes = {"network.hidden": (8,), "network.head": head, "network.dueling": dueling, "network.noisy": noisy,
               "network.atoms": 5, "learner.double": double, "learner.munchausen": munchausen,
               "learner.target": "polyak"}  # fmt: skip
    config = with_changes(TrainConfig(), changes)
    learner, twin = (TorchLearner(config, EnvSpec(ObsSpec((2,)), 2), seed=0) for _ in range(2))
    surprise = learner.update(chain_batch())
    assert surprise.shape == (6,)
    assert np.isfinite(surprise).all()
    assert (surprise >= 0).all()
    before = twin.weights()
    twin.update(chain_batch()._replace(weight=np.zeros(6, np.float32)))
    assert all(np.array_equal(before[name], value) for name, value in twin.weights().items()), (
        "weight 0 teaches nothing"
    )
    assert any(not np.array_equal(before[name], value) for name, value in learner.weights().items())


@pytest.mark.parametrize("changes", [{"network.noisy": True}, {"network.head": "iqn"}, {"learner.optimizer": "radam"}])
def test_saved_and_loaded_the_draws_go_on_bit_for_bit(changes: dict[str, Any]) -> None:
    config = with_changes(TrainConfig(), {"network.hidden": (8,), "network.atoms": 4} | changes)
    spec, obs = EnvSpec(ObsSpec((2,)), 2), np.eye(2, dtype=np.float32)
    learner, other = TorchLearner(config, spec, 0), TorchLearner(config, spec, 1)
    for _ in range(9):
        learner.update(chain_batch())
        learner.act(obs, explore=True)
    other.load_arrays(learner.arrays())
    for _ in range(3):
        assert np.array_equal(learner.update(chain_batch()), other.update(chain_batch()))
        assert np.array_equal(learner.act(obs, explore=True), other.act(obs, explore=True))
    mine, its = learner.arrays(), other.arrays()
    assert mine.keys() == its.keys()
    assert all(np.array_equal(mine[name], its[name]) for name in mine)


def test_iqn_acts_on_the_mean_of_its_fixed_fractions() -> None:
    config = with_changes(TrainConfig(), {"network.hidden": (8,), "network.head": "iqn", "network.dueling": True})
    network = TorchLearner(config, EnvSpec(ObsSpec((5,)), 3), 0).online
    obs = torch.randn(7, 5)
    quantiles = iqn.quantiles(network, obs, midpoints(config.network.policy_fractions).expand(7, -1))
    assert torch.allclose(network(obs), quantiles.mean(2), atol=1e-5)
    assert cosine_features(torch.tensor([0.0, 0.5, 1.0]), 3).numpy() == pytest.approx(
        np.array([[1, 1, 1], [1, 0, -1], [1, -1, 1]]), abs=1e-6
    )


def test_td_of_a_terminal_batch_needs_no_successor() -> None:
    """PQN's batches: discount 0 makes any loss a regression on the reward, whatever the next observation is."""
    config = with_changes(TrainConfig(), {"network.hidden": (8,)})
    learner = TorchLearner(config, EnvSpec(ObsSpec((2,)), 2), 0)
    tensors = [torch.from_numpy(part) for part in chain_batch()[:5]]
    sample = Sample(*tensors)._replace(discount=torch.zeros(6))
    errors = HEADS["q"].loss(learner.online, learner.target, sample, config.learner, learner.generator)
    q = losses.chosen(learner.online(sample.obs), sample.action)
    assert torch.allclose(errors.loss, (q - sample.reward).square())
