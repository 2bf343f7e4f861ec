"""The DQN of Stable-Baselines3 (PyTorch)."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.peer import Compiling, Peer


def _model(env: str, seed: int, settings: dict[str, Any], compiling: Compiling) -> Any:
    from stable_baselines3 import DQN

    return DQN("MlpPolicy", env, seed=seed, device="cpu", **settings)


SB3 = Peer("sb3", "SB3 DQN", _model)
