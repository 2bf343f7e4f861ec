"""Settings for environments that nobody has tuned any for: from what they show and pay in a moment of play."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nimbleq.config import EnvConfig, TrainConfig, with_changes
from nimbleq.graph.space import Box, leaves
from nimbleq.rl.envs.engines import env_engine, spec_of
from nimbleq.rl.envs.probe import probe
from nimbleq.rl.fit import NATURE_MIN_PIXELS
from nimbleq.rl.preset_tables import (
    ATARI,
    BRANCHES,
    CONTINUOUS,
    IMAGES,
    PICTURES_AND_NUMBERS,
    SMALL_IMAGES,
    UNKNOWN_RETURNS,
    VECTORS,
)
from nimbleq.rl.replay.packing import Packing, packs
from nimbleq.rl.replay.shared_frames import shares_frames
from nimbleq.rl.spec import EnvSpec

_REPLAY_BYTES = 2 << 30  # of observations, at most, unless more is asked for


def settings_for(env: EnvConfig) -> TrainConfig:
    """Defaults for an environment without tuned settings: images get convolutions, rewards are brought to order one."""
    if env_engine(env).tuned:  # settings as published, and a moment of play says little
        return on_images(spec_of(env), ATARI)
    seen = probe(env)
    obs = seen.spec.obs
    scaled = {**UNKNOWN_RETURNS, "learner.reward_scale": seen.reward_scale, **(BRANCHES if seen.spec.branches else {})}
    if len(obs.shape) == 3:
        return on_images(seen.spec, scaled)
    if obs.pictures:
        return on_images(seen.spec, {**PICTURES_AND_NUMBERS, **scaled})
    controls = CONTINUOUS if env.discretize else {}
    config: TrainConfig = with_changes(TrainConfig(), {**VECTORS, **controls, **scaled})
    return config


def on_images(spec: EnvSpec, more: Mapping[str, Any]) -> TrainConfig:
    sides = [min(picture.shape[1:]) for picture in spec.obs.pictures or (spec.obs,)]
    changes = IMAGES if max(sides) >= NATURE_MIN_PIXELS else SMALL_IMAGES
    config: TrainConfig = with_changes(TrainConfig(), {**changes, **more})
    return config


def with_room(config: TrainConfig) -> TrainConfig:
    """``config`` with a replay whose observations fit `_REPLAY_BYTES`, at most as large as it was."""
    spec = probe(config.env).spec
    least = config.envs * config.replay.n_step
    capacity = min(config.replay.capacity, max(_REPLAY_BYTES // _transition_bytes(spec), least))
    changed: TrainConfig = with_changes(config, {"replay.capacity": capacity})
    return changed


def _transition_bytes(spec: EnvSpec) -> int:
    """Of the observations of a transition, as `Replay` stores them."""
    obs = spec.obs
    if packs(obs):
        return 2 * math.prod(Packing(obs).packed.shape)
    if not shares_frames(obs):
        return 2 * math.prod(obs.shape) * (1 if obs.dtype == "uint8" else 4)
    box = leaves(spec.interface.space)[0][1] if spec.interface is not None else None
    stacked = isinstance(box, Box) and box.axes.startswith("S")  # each step shows one new picture
    return math.prod(obs.shape) // (box.shape[0] if stacked and isinstance(box, Box) else 1)
