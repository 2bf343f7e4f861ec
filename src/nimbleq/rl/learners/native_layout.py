"""Names for the memory of the C learner: which floats of its state are which weight of the network."""

from __future__ import annotations

import numpy as np

from nimbleq.config import NetworkConfig
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array


class View:
    """Reads and writes one named array in the C state.

    Args:
        memory: ``float32`` view of the state; a weight as native/learner/matrix.h has it, ``[blocks, rows, block]``
            (cut to the rows of its name).
        shape: as PyTorch has it, ``[out, in]`` or ``[n]``.
        transposed: the rows in memory are PyTorch's columns.
    """

    def __init__(self, memory: Array, shape: tuple[int, ...], transposed: bool = False) -> None:
        self.memory = memory
        self.shape = shape
        self.transposed = transposed

    def read(self) -> Array:
        """A copy, ``float32`` of `shape`."""
        if len(self.shape) == 1:
            return self.memory.copy()
        rows = self.memory.transpose(1, 0, 2).reshape(self.memory.shape[1], -1)
        values = rows.T[: self.shape[0]] if self.transposed else rows[:, : self.shape[1]]
        return np.array(values, order="C")  # always a copy, also where the layouts agree

    def write(self, values: Array) -> None:
        """From ``[out, in]`` or ``[n]``; the padding stays zero."""
        if len(self.shape) == 1:
            self.memory[:] = values
            return
        values = values.T if self.transposed else values
        blocks, rows, width = self.memory.shape
        padded = np.zeros((rows, blocks * width), np.float32)
        padded[:, : values.shape[1]] = values
        self.memory[:] = padded.reshape(rows, blocks, width).transpose(1, 0, 2)


class Layout:
    """Names for memory of the C learner, in the order in which native/learner/layout.c places them.

    Attributes:
        used: floats that have names so far, padding included.
    """

    def __init__(self, memory: Array, block: int) -> None:
        self.memory = memory
        self.block = block
        self.used = 0

    def parameters(self, network: NetworkConfig, spec: EnvSpec) -> dict[str, View]:
        """Views of what comes next: the parameters of a network, or as many moments."""
        views = self._layers(network, spec)
        if not network.noisy:
            return views
        return views | {f"{name}_sigma": view for name, view in self._layers(network, spec).items()}

    def _layers(self, network: NetworkConfig, spec: EnvSpec) -> dict[str, View]:
        """Weights and biases, or as many deviations of noisy ones."""
        views: dict[str, View] = {}
        inputs = spec.obs.shape[0]
        for i, outputs in enumerate(network.hidden):
            name = f"body.{i * (3 if network.layer_norm else 2)}"
            weight = self._take_matrix(inputs, outputs)
            views[f"{name}.weight"] = View(weight, (outputs, inputs), transposed=True)
            views[f"{name}.bias"] = self.vector(outputs)
            inputs = outputs
        outputs = 1 if network.head == "q" else network.atoms
        heads = {"advantage": spec.actions * outputs} | ({"value": outputs} if network.dueling else {})
        return views | self._head(inputs, heads)

    def vector(self, size: int) -> View:
        """View of what comes next: a vector."""
        return View(self._take(size), (size,))

    def vectors(self, network: NetworkConfig, spec: EnvSpec) -> dict[str, View]:
        """Views of what comes next: the singular vectors of hidden layers, where weights are divided by their norm."""
        views: dict[str, View] = {}
        inputs = spec.obs.shape[0]
        for i, outputs in enumerate(network.hidden if network.spectral_norm else ()):
            name = f"body.{i * (3 if network.layer_norm else 2)}"
            views |= {f"{name}.left": self.vector(outputs), f"{name}.right": self.vector(inputs)}
            inputs = outputs
        return views

    def _take(self, size: int) -> Array:
        part = self.memory[self.used : self.used + size]
        self.used += -(-size // self.block) * self.block
        return part

    def _take_matrix(self, rows: int, columns: int) -> Array:
        blocks = -(-columns // self.block)
        return self._take(blocks * rows * self.block).reshape(blocks, rows, self.block)

    def _head(self, inputs: int, outputs: dict[str, int]) -> dict[str, View]:
        """One Linear in C, whose outputs may belong to two in PyTorch (advantages, then the value)."""
        total = sum(outputs.values())
        weight, bias = self._take_matrix(total, inputs), self._take(total)
        views, first = {}, 0
        for name, size in outputs.items():
            views[f"{name}.weight"] = View(weight[:, first : first + size], (size, inputs))
            views[f"{name}.bias"] = View(bias[first : first + size], (size,))
            first += size
        return views
