"""The settings behind the presets, as data: by environment, by kind of observation, by algorithm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nimbleq.config import (
    EvalConfig,
    ExploreConfig,
    LearnerConfig,
    NetworkConfig,
    ReplayConfig,
    TrainConfig,
    with_changes,
)

_CARTPOLE = TrainConfig(
    network=NetworkConfig(v_min=0.0, v_max=12.0),
    replay=ReplayConfig(capacity=50_000, n_step=3),
    learner=LearnerConfig(batch_size=64, gamma=0.99, target="polyak", tau=0.1, lr=2e-3, lr_end=2e-3, reward_scale=0.1),
    explore=ExploreConfig(end=0.05, updates=300),
    evaluation=EvalConfig(every=50, episodes=20, stop_return=490.0, network="average", average_updates=10),
    steps=300_000,
    envs=64,
)
CARTPOLE_LONG = TrainConfig(
    network=NetworkConfig(v_min=0.0, v_max=24.0),
    replay=ReplayConfig(capacity=10_000, n_step=5),
    learner=LearnerConfig(
        batch_size=64, gamma=0.995, target="polyak", tau=0.1, lr=4e-3, lr_end=1e-5, lr_updates=6_000, reward_scale=0.1
    ),
    explore=ExploreConfig(end=0.02, updates=300),
    evaluation=EvalConfig(every=50, episodes=8, network="average", average_updates=10),
    steps=400_000,
    envs=64,
)
_LUNAR_LANDER: Mapping[str, Any] = {
    "network.dueling": True,
    "network.normalize_obs": False,
    "network.v_min": -30.0,
    "network.v_max": 30.0,
    "replay.capacity": 200_000,
    "replay.n_step": 8,
    "learner.batch_size": 128,
    "learner.target": "polyak",
    "learner.tau": 0.05,
    "learner.lr_end": 3e-4,
    "learner.lr_updates": 80_000,
    "learner.reward_scale": 0.1,
    "explore.end": 0.02,
    "explore.updates": 2_000,
    "evaluation.every": 2_000,
    "evaluation.stop_return": 230.0,
    "evaluation.network": "average",
    "evaluation.average_updates": 20,
    "steps": 500_000,
    "updates_per_step": 2,
}
_ACROBOT: Mapping[str, Any] = {"learner.reward_scale": 0.1, "evaluation.stop_return": -85.0, "steps": 300_000}
_MOUNTAIN_CAR: Mapping[str, Any] = {
    # The goal is met by chance only: held actions get there, long windows carry the news back.
    "replay.n_step": 10,
    "replay.capacity": 200_000,
    "learner.target": "polyak",
    "learner.reward_scale": 0.1,
    "explore.updates": 10_000,
    "explore.hold": 20,
    "evaluation.stop_return": -110.0,
    "steps": 1_000_000,
}
UNKNOWN_RETURNS: Mapping[str, Any] = {  # learnt ones can be many times those of random play, which are about 1
    "network.v_min": -50.0,
    "network.v_max": 50.0,
    "network.atoms": 101,
}
VECTORS: Mapping[str, Any] = {
    "learner.target": "polyak",
    "learner.tau": 0.05,
    "evaluation.network": "average",
    "evaluation.average_updates": 50,
}
CONTINUOUS: Mapping[str, Any] = {"explore.hold": 20}  # forces on masses: noise from step to step averages out
BRANCHES: Mapping[str, Any] = {"network.head": "branching", "network.dueling": True}  # [1711.08946]
IMAGES: Mapping[str, Any] = {
    "network.torso": "nature",
    "network.hidden": (512,),
    "network.layer_norm": False,
    "network.normalize_obs": False,
    "replay.capacity": 100_000,
    "learner.batch_size": 32,
    "learner.target": "hard",
    "learner.target_every": 1_000,
    "learner.loss": "huber",
    "learner.lr": 1e-4,
    "learner.lr_end": 1e-4,
    "learner.adam_eps": 1.5e-4,
    "explore.end": 0.01,
    "explore.updates": 50_000,
    "evaluation.every": 10_000,
    "steps": 2_000_000,
    "envs": 8,
    "learn_start": 20_000,
    "updates_per_step": 2,
    "checkpoint_seconds": 600.0,
}
ATARI: Mapping[str, Any] = {"learner.reward_clip": 1.0}  # [Mnih et al. 2015]: one step size for all games
SMALL_IMAGES: Mapping[str, Any] = {  # too small for the convolutions of Nature 2015, e.g. MinAtar's 10 × 10
    "network.torso": "small",
    "network.hidden": (128,),
    "network.normalize_obs": False,
    "replay.capacity": 100_000,
    "learner.target": "hard",
    "learner.target_every": 1_000,
    "learner.lr": 3e-4,
    "learner.lr_end": 3e-4,
    "explore.updates": 20_000,
    "evaluation.every": 5_000,
    "steps": 1_000_000,
    "learn_start": 5_000,
}
PICTURES_AND_NUMBERS: Mapping[str, Any] = {  # cameras beside gauges: fewer, dearer steps than a game's
    "network.hidden": (256,),
    "network.layer_norm": True,
    "network.normalize_obs": True,
    "replay.capacity": 50_000,
    "learner.target": "polyak",
    "learner.tau": 0.02,
    "learner.lr": 5e-4,
    "learner.lr_end": 5e-4,
    "learner.batch_size": 64,
    "explore.updates": 5_000,
    "evaluation.every": 1_000,
    "steps": 500_000,
    "envs": 8,
    "learn_start": 1_000,
    "updates_per_step": 4,
    "checkpoint_seconds": 600.0,
}
BY_ENVIRONMENT = {
    "CartPole-v1": _CARTPOLE,
    "LunarLander-v3": with_changes(TrainConfig(), _LUNAR_LANDER),
    "Acrobot-v1": with_changes(TrainConfig(), _ACROBOT),
    "MountainCar-v0": with_changes(TrainConfig(), _MOUNTAIN_CAR),
}

_NO_EPSILON: Mapping[str, Any] = {"explore.start": 0.0, "explore.end": 0.0}
_HARD: Mapping[str, Any] = {"learner.target": "hard", "learner.target_every": 50}
_SOFT: Mapping[str, Any] = {"learner.target": "polyak", "learner.tau": 0.05}
_HARD_ON_IMAGES: Mapping[str, Any] = {"learner.target": "hard", "learner.target_every": 1_000}

ALGORITHMS: Mapping[str, Mapping[str, Any]] = {
    "dqn": {},
    "wide": {"network.hidden": (256, 256)},  # the network that compression is usually shown on
    "strong": {  # the best return, not the soonest: it goes on where the others have learnt enough
        "evaluation.stop_return": None,
        "evaluation.episodes": 40,
        "evaluation.network": "average",
        "evaluation.average_updates": 1_000,
    },
    "nature": {  # Mnih et al. 2015 as published: one step, hard target, Huber loss, nothing else
        "network.layer_norm": False,
        "network.dueling": False,
        "replay.n_step": 1,
        "learner.double": False,
        "learner.loss": "huber",
        **_HARD,
    },
    "double-dueling": {  # [1509.06461] and [1511.06581]
        "network.dueling": True,
        "replay.n_step": 1,
        "learner.double": True,
        **_HARD,
    },
    "prioritized": {  # [1511.05952] on top of double, dueling and n-step
        "network.dueling": True,
        "replay.prioritized": True,
        "learner.double": True,
        **_SOFT,
    },
    "rainbow": {  # [1710.02298]: dueling, double, n-step, prioritized, C51, noisy layers in place of ε
        "network.dueling": True,
        "network.head": "c51",
        "network.noisy": True,
        "replay.prioritized": True,
        "replay.n_step": 3,
        "learner.double": True,
        **_SOFT,
        **_NO_EPSILON,
    },
    "qr": {"network.head": "qr", "network.atoms": 32, **_SOFT},  # [1710.10044]
    "iqn": {"network.head": "iqn", "network.atoms": 8, **_SOFT},  # [1806.06923]
    "munchausen": {"learner.munchausen": True, "learner.double": False, **_SOFT},  # [2007.14430]
    "pqn": {  # [2407.04811]
        "algorithm": "pqn",
        "network.layer_norm": True,
        "learner.double": False,
        "learner.target": "none",
        "learner.batch_size": 256,
        "learner.max_grad_norm": 10.0,
        "pqn.epochs": 4,
        "envs": 64,
        "learn_start": 1,
    },
    "stream": {  # [2410.14606]
        "algorithm": "stream",
        "network.hidden": (32, 32),
        "network.layer_norm": True,
        "network.dueling": False,
        "network.normalize_obs": True,
        "learner.double": False,
        "learner.target": "none",
        "learner.lr": 1.0,
        "learner.lr_end": 1.0,
        "learner.lr_updates": 1,
        "learner.reward_scale": 1.0,  # rewards are scaled as they come
        "explore.end": 0.01,
        "explore.updates": 100_000,
        "evaluation.every": 10_000,
        "evaluation.network": "online",
        "steps": 1_000_000,
        "envs": 1,
        "learn_start": 1,
    },
    "btr": {  # [2411.03820]; it explores by ε and by noise: Munchausen confirms an action that was never compared
        "network.dueling": True,
        "network.head": "iqn",
        "network.atoms": 8,
        "network.noisy": True,
        "replay.prioritized": True,
        "replay.alpha": 0.2,
        "replay.n_step": 3,
        "learner.double": False,
        "learner.munchausen": True,
        **_SOFT,
    },
    "gpu": {  # dueling, double, n-step; replay and learner on the GPU where there is one
        "network.dueling": True,
        "replay.n_step": 3,
        "learner.engine": "device",
        "learner.double": True,
    },
}
ON_IMAGES: Mapping[str, Mapping[str, Any]] = {
    **dict.fromkeys(("nature", "double-dueling", "prioritized", "rainbow", "qr", "iqn", "munchausen"), _HARD_ON_IMAGES),
    "pqn": {
        "network.layer_norm": True,
        "learner.optimizer": "radam",
        "learner.lr": 2.5e-4,
        "learner.lr_end": 2.5e-4,
        "pqn.epochs": 2,
    },
    "btr": {
        "network.torso": "impala",
        "network.torso_width": 2,
        "network.torso_pool": True,
        "network.spectral_norm": True,
        "replay.capacity": 1_000_000,
        "learner.batch_size": 256,
        "learner.target": "hard",
        "learner.target_every": 500,
        "learner.lr": 1e-4,
        "learner.lr_end": 1e-4,
        "learner.adam_eps": 0.005 / 256,
        "learner.gamma": 0.997,
        "envs": 64,
        "updates_per_step": 1,
    },
    "gpu": {  # 32 transitions learnt per step played, four times as many as Nature 2015, in large batches
        "replay.capacity": 1_000_000,
        "learner.batch_size": 512,
        "learner.precision": "bf16",
        "learner.target_every": 250,
        "learner.lr": 1e-4,  # larger first steps can silence a convolution for good
        "learner.lr_end": 4e-4,
        "learner.lr_updates": 10_000,
        "learner.adam_eps": 0.01 / 512,  # by the size of the batch, as in [1803.02811]
        "explore.updates": 10_000,
        "evaluation.every": 8_000,
        "evaluation.episodes": 8,
        "evaluation.final_episodes": 30,
        "steps": 10_000_000,
        "envs": 128,
        "updates_per_step": 8,
    },
}
"""What an algorithm changes beside its `ALGORITHMS` entry where observations are images."""
TOGETHER: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("LunarLander-v3", "dqn"): {  # large steps at first: the average of the weights takes their noise out
        "replay.n_step": 5,
        "learner.lr": 3e-3,
        "learner.lr_updates": 16_000,
        "evaluation.every": 1_000,
        "evaluation.stop_return": 220.0,
        "evaluation.average_updates": 1_000,
    },
    ("LunarLander-v3", "wide"): {  # larger steps at first, small ones from the middle of the run on
        "replay.n_step": 5,
        "learner.target": "none",
        "learner.lr": 2e-3,
        "learner.lr_end": 1e-4,
        "learner.lr_updates": 20_000,
        "evaluation.every": 1_000,
        "evaluation.stop_return": 250.0,  # of the episodes that end it: fresh ones return some less
        "evaluation.average_updates": 500,
    },
    ("LunarLander-v3", "strong"): {  # returns rise to 275 while steps become small; else the search does the rest
        "replay.n_step": 5,
        "learner.lr": 3e-3,
        "learner.lr_end": 2e-5,
        "learner.lr_updates": 90_000,
        "evaluation.every": 2_000,
        "evaluation.stop_return": 278.0,  # of 200 episodes: 100 fresh ones then return 270 nearly always
        "evaluation.final_episodes": 200,
        "evolve.generations": 90,
        "steps": 1_100_000,
    },
    ("CartPole-v1", "strong"): {"evaluation.stop_return": 500.0, "evaluation.average_updates": 100},
    ("CartPole-v1", "stream"): {  # four inputs want fewer zeros
        "stream.sparsity": 0.5,
        "stream.overshoot": 3.0,
        "explore.updates": 30_000,
        "evaluation.every": 2_500,
    },
    ("LunarLander-v3", "pqn"): {"steps": 1_000_000, "learner.lr_updates": 12_000, "evaluation.every": 500},
}
"""What an algorithm changes in one environment."""
ON_SMALL_IMAGES: Mapping[str, Mapping[str, Any]] = {
    **{name: changes for name, changes in ON_IMAGES.items() if name != "btr"},
    "pqn": {  # [2407.04811]'s for MinAtar, in fewer steps, and Adam, which has one fused step in PyTorch
        "learner.batch_size": 128,
        "learner.lr": 1e-3,
        "learner.lr_end": 1e-5,
        "learner.lr_updates": 62_500,
        "explore.updates": 6_250,
        "explore.end": 0.01,
        "pqn.epochs": 2,
        "evaluation.every": 3_000,
        "steps": 4_000_000,
        "envs": 128,
    },
}
