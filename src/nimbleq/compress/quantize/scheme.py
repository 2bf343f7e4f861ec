"""What a quantization is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from nimbleq.errors import ConfigError
from nimbleq.graph.formats import INT8, Format


@dataclass(frozen=True)
class Scheme:
    """Number formats of a policy in integer arithmetic.

    Attributes:
        weights: format of the weights of every layer, one of integers, not above 127.
        layers: ``(layer, by the tensor that it makes; format)`` where it is another one.
        activations: bits of what hidden layers read, 2 to 8.
        inputs: bits of observations, 8 to 12: they need more than what is hidden.
        power_of_two: scales between layers are powers of two, so that requantizing is a shift; those of the
            observation too, so that their exponents suffice.

    Raises:
        ConfigError: there are no such formats.
    """

    weights: Format = INT8
    layers: tuple[tuple[str, Format], ...] = ()
    activations: int = 8
    inputs: int = 8
    power_of_two: bool = False

    def __post_init__(self) -> None:
        for number in (self.weights, *(number for _, number in self.layers)):
            if not number.is_integer or number.largest > 128:
                raise ConfigError(f"integer layers have weights of at most 8 bits, not {number}")
        if not 2 <= self.activations <= 8:
            raise ConfigError(f"activations have 2 to 8 bits, not {self.activations}")
        if not 8 <= self.inputs <= 12:
            raise ConfigError(f"observations have 8 to 12 bits, not {self.inputs}")

    def of(self, layer: str) -> Format:
        """Format of the weights of a layer."""
        return dict(self.layers).get(layer, self.weights)


BYTES = Scheme()
"""int8 weights, uint8 activations."""
