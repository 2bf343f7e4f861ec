"""What a loop senses and acts on."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, Protocol

from nimbleq.errors import ConfigError


class Machine(Protocol):
    """Sensors and actuators. Beside these two it may have

    - ``mask()``: the legal actions, for a policy that takes them apart from the observation;
    - ``finished()``: the return of the episode that ended since it was last asked, else None;
    - ``close()``: called when the loop has ended.
    """

    def read(self) -> Any:
        """The newest observation, as the environment would give it; None: there is no new one.

        It may wait for a sensor, and at the deadline the watchdog acts in its place.
        """
        ...

    def write(self, action: Any) -> None:
        """Do it, at once: what waits here holds up the watchdog, too. Two threads call it, one at a time."""
        ...


def machine_of(factory: str) -> Machine:
    """What ``package.module:factory`` makes; the current folder is importable.

    Raises:
        ConfigError: there is no such thing, or what it makes cannot be read and written.
    """
    module, _, name = factory.partition(":")
    if not module or not name:
        raise ConfigError(f"--io is written package.module:factory, not {factory!r}")
    if os.getcwd() not in sys.path:  # noqa: PTH109 (what the import system compares with)
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        made = getattr(importlib.import_module(module), name)()
    except ModuleNotFoundError as error:
        raise ConfigError(f"--io {factory}: there is no module {error.name!r}: run from its folder") from None
    except AttributeError as error:
        raise ConfigError(f"--io {factory}: {error}") from None
    except Exception as error:  # somebody else's code: one line says what it raised
        raise ConfigError(f"--io {factory} raised {type(error).__name__}: {error}") from error
    missing = [method for method in ("read", "write") if not callable(getattr(made, method, None))]
    if missing:
        raise ConfigError(f"--io {factory} makes a {type(made).__name__}, which has no method {missing[0]}")
    ready: Machine = made
    return ready
