"""``nimbleq certify --vary NAME=VALUES``: the certificate in variations of the environment, the worst one counts."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nimbleq.config import EnvConfig
from nimbleq.console import Console
from nimbleq.errors import ConfigError

PARTS = 5
"""Values of a range that does not say how many."""
MOST = 64
"""Cells of a grid."""
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER}):({_NUMBER})(?::(\d+))?")


@dataclass(frozen=True)
class Cell:
    """One variation of the environment.

    Attributes:
        kwargs: arguments that replace those of the run, each ``NAME=VALUE``.
        alpha: chance of a false certificate in it.
    """

    kwargs: tuple[str, ...]
    alpha: float

    def __str__(self) -> str:
        return ", ".join(self.kwargs)

    @property
    def file(self) -> str:
        """What tells the file of its certificate from others."""
        plain = re.sub(r"[^A-Za-z0-9=.+-]+", "_", "_".join(self.kwargs))[:60]
        return f"{plain}-{hashlib.sha256(str(self).encode()).hexdigest()[:6]}"

    def env(self, env: EnvConfig) -> EnvConfig:
        """``env`` varied."""
        names = {entry.partition("=")[0] for entry in self.kwargs}
        others = tuple(entry for entry in env.kwargs if entry.partition("=")[0] not in names)
        return replace(env, kwargs=(*others, *self.kwargs))

    def student(self, known: str) -> str:
        """The hash of the policy ``known`` in this variation: it has seeds and attempts of its own."""
        return hashlib.sha256(f"{known}\n{self}".encode()).hexdigest()


def cells_of(vary: Sequence[str], alpha: float) -> list[Cell]:
    """The grid over all ``NAME=VALUES``; each cell gets an equal share of ``alpha``.

    VALUES are ``LOW:HIGH`` (the middles of five equal parts of that range), ``LOW:HIGH:N`` (of N), or a list ``a,b,c``.

    Raises:
        ConfigError: one cannot be read, a name comes twice, or there are too many cells.
    """
    axes: dict[str, list[str]] = {}
    for text in vary:
        name, _, values = text.partition("=")
        if not name.isidentifier() or not values:
            raise ConfigError(f"--vary is NAME=LOW:HIGH, NAME=LOW:HIGH:N or NAME=a,b,c, not {text!r}")
        if name in axes:
            raise ConfigError(f"--vary names {name} twice")
        axes[name] = _values(text, values)
    count = math.prod(len(values) for values in axes.values())
    if count > MOST:
        raise ConfigError(f"--vary makes {count} variations: {MOST} are the most, as each gets its share of α")
    grid = itertools.product(*([f"{name}={value}" for value in values] for name, values in axes.items()))
    return [Cell(kwargs, alpha / count) for kwargs in grid]


def _values(text: str, values: str) -> list[str]:
    found = _RANGE.fullmatch(values)
    if found is None:
        listed = [value.strip() for value in values.split(",")]
        if ":" in values or not all(listed) or len(set(listed)) < len(listed):
            raise ConfigError(f"--vary {text}: VALUES are LOW:HIGH, LOW:HIGH:N, or different values a,b,c")
        return listed
    low, high, parts = float(found[1]), float(found[2]), PARTS if found[3] is None else int(found[3])
    if not low < high or parts < 1:
        raise ConfigError(f"--vary {text}: LOW is below HIGH, and N at least 1")
    return [f"{low + (high - low) * (part + 0.5) / parts:.9g}" for part in range(parts)]


def worst_of(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The cell that counts: one that is not certified, and of these the one whose wealth is the least."""
    return min(results, key=lambda one: (one["certified"], one["wealth"] / one["wealth_needed"]))


def certify_cells(
    cells: Sequence[Cell], certify: Callable[[Cell], dict[str, Any]], console: Console
) -> tuple[dict[str, Any], bool]:
    """Certify every cell.

    Returns:
        The worst cell's JSON object with ``vary`` and ``cells``; whether all are certified.
    """
    console.say(
        f"{len(cells)} variations, each with α = {cells[0].alpha:.3g}: what is certified holds in all of them at once"
    )
    results = []
    for index, cell in enumerate(cells):
        console.say(f"[{index + 1}/{len(cells)}] {cell}")
        results.append({"vary": str(cell), **certify(cell)})
    rows = [_row(one) for one in results]
    console.table("variations", ("variation", "certified", "episodes", "wealth", "needed"), rows)
    worst, shown = worst_of(results), sum(bool(one["certified"]) for one in results)
    console.say(f"{shown} of {len(results)} variations certified; the worst is {worst['vary']}: {worst['reason']}")
    kept = ("vary", "certified", "episodes", "wealth", "wealth_needed", "reason")
    listed = [{name: one[name] for name in kept} for one in results]
    return {**worst, "certified": shown == len(results), "cells": listed}, shown == len(results)


def _row(one: dict[str, Any]) -> list[str]:
    verdict = "yes" if one["certified"] else "no"
    return [one["vary"], verdict, f"{one['episodes']:,}", f"{one['wealth']:.3g}", f"{one['wealth_needed']:.3g}"]
