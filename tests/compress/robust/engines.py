"""The engines that are built here, by name; their verdicts must be the same."""

from nimbleq.compress.robust.native import engine
from nimbleq.compress.robust.search import Engine, search

ENGINES: dict[str, Engine] = {"numpy": search, "native": engine()}
