"""A kind of student: a network that can be taught."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nimbleq.graph.graph import Graph
from nimbleq.graph.tensor import TensorType
from nimbleq.types import Array


class MakeStudent(Protocol):
    """Makes a fresh student, float and trainable."""

    def __call__(
        self, obs_type: TensorType, hidden: Sequence[int], actions: int, obs: Array, rng: np.random.Generator
    ) -> Graph:
        """``obs [K, *O]`` are visited states, for statistics; ``rng`` draws the weights.

        Raises:
            ConfigError: this kind has no such widths.
        """
        ...


@dataclass(frozen=True)
class StudentRow:
    """A row of `STUDENTS`.

    Attributes:
        make: makes one.
        purpose: what it is, in one line.
        example: widths that it can have.
        image: it reads images only.
    """

    make: MakeStudent
    purpose: str
    example: tuple[int, ...]
    image: bool = False
