"""Settings to start from: by environment (tuned where they were measured, sensible elsewhere) and by algorithm."""

from __future__ import annotations

from dataclasses import replace

from nimbleq.config import Channels, EnvConfig, TrainConfig, with_changes
from nimbleq.errors import ConfigError
from nimbleq.rl.preset_tables import ALGORITHMS, BY_ENVIRONMENT, CARTPOLE_LONG, ON_IMAGES, ON_SMALL_IMAGES, TOGETHER

_LONG_STEPS = 2_000  # from this episode length on, CartPole needs the settings that balance without end


def preset(
    env_id: str,
    name: str = "dqn",
    max_episode_steps: int | None = None,
    kwargs: tuple[str, ...] = (),
    discretize: int | None = None,
    channels: Channels | None = None,
    offsets: tuple[str, ...] = (),
) -> TrainConfig:
    """Settings to start from.

    Args:
        env_id: Gymnasium id or package.module:factory.
        name: one of `ALGORITHMS`; ``dqn`` is what was tuned for the environment.
        max_episode_steps: time limit in place of the environment's own.
        kwargs: see `EnvConfig`.
        discretize: see `EnvConfig`.
        channels: see `EnvConfig`.
        offsets: see `EnvConfig`; without them they are found by play.

    Raises:
        ConfigError: there is no preset of that name.
        EnvError: see `make_env`.
    """
    if name not in ALGORITHMS:
        raise ConfigError(f"there is no preset {name!r}; choose from {', '.join(ALGORITHMS)}")
    env = EnvConfig(env_id, max_episode_steps, kwargs, discretize, channels=channels, offsets=offsets)
    if env_id == "CartPole-v1" and (max_episode_steps or 0) >= _LONG_STEPS:
        base = with_changes(CARTPOLE_LONG, {"evaluation.stop_return": float(max_episode_steps or 0)})
    elif env_id in BY_ENVIRONMENT:
        base = BY_ENVIRONMENT[env_id]
    else:
        return _untuned(env, name)
    return _with_algorithm(base, env, name)


def _untuned(env: EnvConfig, name: str) -> TrainConfig:
    """The preset ``name`` where there are no settings for the environment: it is played for a moment."""
    from nimbleq.rl.defaults import settings_for, with_room  # they import Gymnasium, which takes a while
    from nimbleq.rl.envs.engines import env_engine
    from nimbleq.rl.envs.probe import find_offsets

    env = env if env.offsets else replace(env, offsets=find_offsets(env))
    config = _with_algorithm(settings_for(env), env, name)
    return config if env_engine(env).tuned else with_room(config)


def _with_algorithm(base: TrainConfig, env: EnvConfig, name: str) -> TrainConfig:
    config: TrainConfig = replace(with_changes(base, ALGORITHMS[name]), env=env)
    images = {"nature": ON_IMAGES, "small": ON_SMALL_IMAGES}.get(config.network.torso, {})
    adapted: TrainConfig = with_changes(config, {**images.get(name, {}), **TOGETHER.get((env.id, name), {})})
    return adapted
