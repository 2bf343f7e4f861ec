"""What was assumed of an environment and may be wrong, for the person who trains on it."""

from __future__ import annotations

from nimbleq.config import EnvConfig
from nimbleq.rl.envs.engines import spec_of
from nimbleq.rl.envs.gymnasium import make_env
from nimbleq.rl.envs.interfaces import LIKE_MASK
from nimbleq.rl.envs.observe import guesses
from nimbleq.rl.envs.probe import find_offsets


def remarks(config: EnvConfig) -> list[str]:
    """One line each: channels that were guessed, masks that are not read, large numbers and what is subtracted of them.

    Raises:
        EnvError: see `nimbleq.rl.envs.gymnasium.make_env`.
    """
    spec = spec_of(config)
    said = list(guesses(spec.interface.space)) if spec.interface is not None and config.channels is None else []
    said += unread_masks(config)
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


def unread_masks(config: EnvConfig) -> list[str]:
    """One line for each method of the environment that may say which actions are legal, and is not called.

    Raises:
        EnvError: see `nimbleq.rl.envs.gymnasium.make_env`.
    """
    if spec_of(config).masked or config.id.startswith("ALE/"):
        return []
    one = make_env(config)
    kind = type(one.unwrapped)
    one.close()
    return [
        f"{config.id} has a method {name}() that is not called: if it says which actions are legal, name it "
        "action_masks() and let it give a flag per action, or illegal ones are played"
        for name in dir(kind)
        if LIKE_MASK.search(name) and not name.startswith("_") and callable(getattr(kind, name))
    ]
