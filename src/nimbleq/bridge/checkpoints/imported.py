"""What a reader of checkpoints is asked, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nimbleq.graph.graph import Graph
from nimbleq.types import ObsSpec

LOGITS = "logits of the imported policy: differences are those of the actions' log-probabilities, in nats"
"""What the action values of an actor mean: so gaps between them, temperatures and regret are in nats, too."""


@dataclass(frozen=True)
class Asked:
    """What is known before the file is read.

    Attributes:
        path: the file.
        obs: what the network gets from the environment.
        actions: how many the environment has.
        vecnormalize: file of the statistics of observations; None: there is none.
        divide: what bytes of pixels are divided by; None: as the file or its library says.
    """

    path: Path
    obs: ObsSpec
    actions: int
    vecnormalize: Path | None = None
    divide: float | None = None


@dataclass(frozen=True)
class Imported:
    """An imported policy as a graph.

    Attributes:
        graph: outputs ``q`` and ``action``, preprocessing included.
        obs: the graph's input: uint8 images with channels first, anything else as a flat float32 vector.
        actions: number of actions.
        info: plain values for a run's config; ``notes`` and ``warnings`` are for the user, ``q_meaning`` says what the
            action values are where they are no returns.
    """

    graph: Graph
    obs: ObsSpec
    actions: int
    info: dict[str, Any]
