"""What was assumed of an environment and may be wrong, for the person who trains on it."""

from __future__ import annotations

from nimbleq.config import EnvConfig
from nimbleq.rl.envs.engines import spec_of
from nimbleq.rl.envs.observe import guesses
from nimbleq.rl.envs.probe import find_offsets


def remarks(config: EnvConfig) -> list[str]:
    """One line each: channels that were guessed, large numbers and what is subtracted from them.

    Raises:
        EnvError: see `nimbleq.rl.envs.gymnasium.make_env`.
    """
    spec = spec_of(config)
    said = list(guesses(spec.interface.space)) if spec.interface is not None and config.channels is None else []
    if config.offsets:
        said.append(
            f"large numbers in the observation lose their digits in float32, so this is subtracted before: "
            f"{', '.join(config.offsets)} (--obs-offsets)"
        )
    elif lost := find_offsets(config):
        said.append(
            f"large numbers in the observation lose their digits in float32: --obs-offsets {' '.join(lost)} keeps them"
        )
    return said
