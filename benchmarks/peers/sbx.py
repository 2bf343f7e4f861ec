"""The DQN of Stable-Baselines Jax."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.peer import Compiling, Peer


def _model(env: str, seed: int, settings: dict[str, Any], compiling: Compiling) -> Any:
    import jax.monitoring
    import sbx

    jax.monitoring.register_event_duration_secs_listener(compiling)
    return sbx.DQN("MlpPolicy", env, seed=seed, **settings)


SBX = Peer("sbx", "sbx (JAX) DQN", _model)
