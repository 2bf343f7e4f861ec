"""What the command line names: ``PATH`` or ``NAME=PATH``, one policy each."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from nimbleq.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def named_paths(words: Sequence[str], artefact: Callable[[Path], Path]) -> dict[str, Path]:
    """Name → artefact folder.

    Args:
        words: as on the command line.
        artefact: finds the artefact that a path means.

    Raises:
        ConfigError: there is none, a name does not fit into an address, or two are the same.
    """
    found: dict[str, Path] = {}
    for word in words:
        name, _, rest = word.rpartition("=") if not Path(word).exists() else ("", "", word)
        path = artefact(Path(rest))
        name = name or path.name
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{name!r} cannot be a policy's name (letters, digits, _ . -): give one, NAME={rest}")
        if name in found:
            raise ConfigError(f"two policies would be called {name!r}: give names, for example other={rest}")
        found[name] = path
    if not found:
        raise ConfigError("nothing to serve: name at least one artefact")
    return found
