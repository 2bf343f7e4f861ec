"""From the text after ``--env`` to a Gymnasium environment: registered ones, optional packages, a factory of yours."""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, cast

import gymnasium

from nimbleq.config import EnvConfig
from nimbleq.errors import EnvError
from nimbleq.rl.envs.atari_names import advice

PACKAGES = {"MinAtar/": ("minatar", "minatar"), "ALE/": ("ale_py", "atari")}
"""What an id begins with → the package that registers such ids, and the extra of nimbleq that installs it."""


def find_env(config: EnvConfig, pictures: bool = False) -> gymnasium.Env[Any, Any]:
    """The environment as its author wrote it.

    Args:
        config: ``id`` is a Gymnasium id (``CartPole-v1``, ``package.module:Id-v0``) or ``package.module:factory``; a
            factory is called with ``kwargs``. The current folder is importable.
        pictures: ask for ``render_mode="rgb_array"`` where the environment has it.

    Raises:
        EnvError: there is no such module, factory or id; a dependency is missing; the factory returns something else.
    """
    kwargs = keyword_arguments(config)
    if (instead := advice(config.id)) is not None:
        raise EnvError(instead)
    if (factory := factory_of(config)) is not None:
        return _from_factory(config.id, factory, kwargs, pictures)
    for prefix, (package, extra) in PACKAGES.items():
        if config.id.startswith(prefix):
            _register(config.id, package, extra)
    env = _registered(config, kwargs)
    if pictures and "rgb_array" in env.metadata.get("render_modes", ()):
        env.close()
        env = _registered(config, {**kwargs, "render_mode": "rgb_array"})
    return FreshMinAtar(env) if config.id.startswith("MinAtar/") else env


def factory_of(config: EnvConfig) -> Any | None:
    """What ``package.module:factory`` names; None for the id of an environment.

    Raises:
        EnvError: there is no such module, or it fails when it is imported.
    """
    module, _, name = config.id.partition(":")
    return _attribute(_imported(config.id, module), name) if name else None


class FreshMinAtar(gymnasium.Wrapper):  # type: ignore[misc]  # (gymnasium is untyped here)
    """MinAtar does not reset its sticky last action, which would reach from one episode into the next."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Gymnasium's ``reset``."""
        self.get_wrapper_attr("game").last_action = 0
        return cast(tuple[Any, dict[str, Any]], self.env.reset(seed=seed, options=options))


def keyword_arguments(config: EnvConfig) -> dict[str, Any]:
    """``("size=4", "hard=True", "map=maze")`` as arguments: Python literals, anything else is text.

    Raises:
        EnvError: one has no name.
    """
    arguments: dict[str, Any] = {}
    for text in config.kwargs:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise EnvError(f"an argument of the environment is written NAME=VALUE, not {text!r}")
        try:
            arguments[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[name] = value
    return arguments


def _imported(env: str, module: str) -> ModuleType:
    if os.getcwd() not in sys.path:  # noqa: PTH109 (what the import system compares with)
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise EnvError(
                f"there is no Python module {error.name!r} for the environment {env}: run from the folder that holds "
                "it, or install it"
            ) from error
        raise EnvError(f"{env} needs the Python package {error.name}, which is not installed") from error
    except (Exception, SystemExit) as error:
        raise EnvError(
            f"cannot import {module!r} for the environment {env}: {type(error).__name__}: {_one_line(error)}"
        ) from error


def _attribute(module: ModuleType, name: str) -> Any:
    """``module.name`` (dots allowed), or None when it must be the id of an environment that the module registers."""
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None and not _is_registered(name):
        raise EnvError(
            f"the module {module.__name__} has no {name!r}: neither a factory of that name nor an environment that "
            "it registers with Gymnasium"
        )
    return found


def _is_registered(name: str) -> bool:
    return name in gymnasium.registry or any(key.rpartition("-v")[0] == name for key in gymnasium.registry)


def _from_factory(env: str, factory: Any, kwargs: Mapping[str, Any], pictures: bool) -> gymnasium.Env[Any, Any]:
    if not callable(factory):
        raise EnvError(f"{env} is {_described(factory)}, which cannot be called to make an environment")
    arguments = dict(kwargs)
    parameters = _parameters(factory)
    if pictures and parameters is not None and "render_mode" in parameters:
        arguments["render_mode"] = "rgb_array"
    if parameters is not None:
        try:
            inspect.signature(factory).bind(**arguments)
        except TypeError as error:
            raise EnvError(f"{env} cannot be called with {arguments or 'no arguments'}: {error}") from error
    try:
        made = factory(**arguments)
    except (Exception, SystemExit) as error:
        said = _one_line(error) or "it says no more"
        raise EnvError(f"{env} failed to make an environment: {type(error).__name__}: {said}") from error
    if not isinstance(made, gymnasium.Env):
        raise EnvError(f"{env} returned {_described(made)}, not a gymnasium.Env")
    return made


def _parameters(factory: Callable[..., Any]) -> Mapping[str, inspect.Parameter] | None:
    try:
        return inspect.signature(factory).parameters
    except (ValueError, TypeError):  # some built-in callables have none
        return None


def _described(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _register(env: str, package: str, extra: str) -> None:
    """Import an optional package and let it register its environments, once."""
    if any(key.startswith(env.split("/")[0] + "/") for key in gymnasium.registry):
        return
    try:
        if package == "minatar":
            importlib.import_module("minatar.gym").register_envs()
        else:
            importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise EnvError(f"{env} needs {error.name}: pip install 'nimbleq[{extra}]'") from error


def _registered(config: EnvConfig, kwargs: Mapping[str, Any]) -> gymnasium.Env[Any, Any]:
    try:
        limit = config.max_episode_steps
        return gymnasium.make(config.id, max_episode_steps=limit, disable_env_checker=True, **kwargs)
    except gymnasium.error.DependencyNotInstalled as error:
        raise EnvError(f"{config.id} needs something that is not installed: {_one_line(error)}") from error
    except ImportError as error:
        raise EnvError(f"{config.id} needs the Python package {error.name or error}, which is not installed") from error
    except gymnasium.error.Error as error:
        raise EnvError(f"there is no environment {config.id!r} in Gymnasium{_suggestion(config.id)}") from error
    except (Exception, SystemExit) as error:
        if kwargs and isinstance(error, TypeError):
            raise EnvError(f"{config.id} does not take {', '.join(config.kwargs)}: {_one_line(error)}") from error
        said = _one_line(error) or "it says no more"
        raise EnvError(f"{config.id} failed to make an environment: {type(error).__name__}: {said}") from error


def _suggestion(name: str) -> str:
    close = difflib.get_close_matches(name, list(gymnasium.registry), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(close)}?" if close else "; gymnasium.pprint_registry() lists what there is"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
