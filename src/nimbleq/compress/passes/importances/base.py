"""What an importance is: a row of `nimbleq.compress.passes.importances.IMPORTANCES`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from nimbleq.compress.passes.labelled import Labelled
from nimbleq.compress.passes.moments import Moments
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.passes.units import FIXED, Units
from nimbleq.graph.graph import Graph
from nimbleq.types import Array


@dataclass(frozen=True, eq=False)
class Evidence:
    """What units are judged by.

    Attributes:
        graph: whose units they are.
        units: of that graph.
        seen: visited states with the teacher's values.
        means, variances: over these states, of every entry of each tensor's first axis.
        config, seed: of importances that train.
    """

    graph: Graph
    units: Units
    seen: Labelled
    means: Moments
    variances: Moments
    config: DistillConfig = field(default_factory=DistillConfig)
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Rated:
    """Attributes:
    graph: the graph of the evidence, or one of the same shape that training made of it.
    scores: ``float64[groups]`` importance of each group of coupled units.
    """

    graph: Graph
    scores: Array


@dataclass(frozen=True)
class ImportanceRow:
    """A row of `IMPORTANCES`.

    Attributes:
        rate: the importances; coupled units (residuals, conv → flatten → linear) are summed.
        purpose: what makes a unit important, in one line.
        everywhere: whether units of different layers compare, so that one threshold holds for all.
        compensate: whether what is left takes over the work of what goes, by least squares.
    """

    rate: Callable[[Evidence], Rated]
    purpose: str
    everywhere: bool = False
    compensate: bool = False


def add_to(total: Array, groups: Array, importance: Array) -> None:
    """Add the importance of each entry to its group; what cannot be removed is left out."""
    removable = groups != FIXED
    np.add.at(total, groups[removable], importance[removable])
