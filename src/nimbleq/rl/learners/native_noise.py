"""What the noisy layers of the C learner draw, and the state of what draws it."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np

from nimbleq.config import NetworkConfig
from nimbleq.errors import FileError
from nimbleq.rl.nets.heads.table import head_named
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array


class Noise:
    """Factors ``sign(n)·√|n|`` of unit normals ``n`` [1706.10295 §3 b]: per layer of its inputs, then of its outputs.

    A dueling head has those of the inputs twice, of the advantages and of the values (native/learner/noisy.h).

    Attributes:
        count: of one network's, F.
    """

    def __init__(self, spec: EnvSpec, network: NetworkConfig, seed: int) -> None:
        self.rng = np.random.default_rng([seed, 2])
        outputs = head_named(network.head).outputs(network)
        widths = (spec.obs.shape[0], *network.hidden)
        hidden = sum(inputs + made for inputs, made in pairwise(widths))
        self.count = hidden + widths[-1] * (1 + network.dueling) + outputs * (spec.actions + network.dueling)

    def draw(self, networks: int) -> Array:
        """``float32[networks, F]``."""
        normal = self.rng.standard_normal((networks, self.count), np.float32)
        factors: Array = np.copysign(np.sqrt(np.abs(normal)), normal)
        return factors

    def state(self) -> Array:
        """Of the generator, as bytes."""
        return np.frombuffer(json.dumps(self.rng.bit_generator.state).encode(), np.uint8).copy()

    def load(self, state: Array) -> None:
        """The way back from `state`.

        Raises:
            FileError: it is another engine's.
        """
        try:
            self.rng.bit_generator.state = json.loads(np.asarray(state, np.uint8).tobytes())
        except (ValueError, TypeError):
            raise FileError("the learner's random state is from another engine; use --learner.engine torch") from None
