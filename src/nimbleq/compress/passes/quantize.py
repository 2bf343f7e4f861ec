"""Post-training quantization: a float graph becomes integer arithmetic, or keeps floats with weights in few bits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from nimbleq.compress.passes.base import Pass, PassRow
from nimbleq.compress.passes.context import Context
from nimbleq.compress.quantize.methods import METHODS
from nimbleq.compress.quantize.mixed import allocate
from nimbleq.compress.quantize.post_training import quantize_best
from nimbleq.compress.quantize.scheme import BYTES, Scheme
from nimbleq.compress.quantize.weight_only import stored_as, weight_only
from nimbleq.compress.states import q_values
from nimbleq.errors import ConfigError
from nimbleq.graph.formats import APOT4, BF16, INT8, LOG2, LOG2_3, TERNARY, Format, Int
from nimbleq.graph.graph import Graph

_MEAN_BITS = 4.0
_FAST_METHODS = ("minmax", "percentile", "mse", "mse-gap")


@dataclass(frozen=True)
class Quantize:
    """Integer arithmetic from the observation to the argmax, calibrated on the states that the float student visits.

    Attributes:
        scheme: number formats; by default int8 weights and uint8 activations.
        method: how ranges are picked, a name in `METHODS`; empty: the one with the least regret, of the fast ones where
            all have 8 bits and little is to be clipped.
        mean_bits: bits that weights have on average, given to layers by regret; None: the formats of ``scheme``.
    """

    scheme: Scheme = BYTES
    method: str = ""
    mean_bits: float | None = None

    def __call__(self, graph: Graph, context: Context) -> Graph:
        states = context.visited(graph)
        teacher_q = q_values(context.teacher, states.obs)
        if self.mean_bits is not None:
            return allocate(graph, states, teacher_q, self.mean_bits, self.scheme)[0]
        return quantize_best(graph, states, teacher_q, self.scheme, self._methods())[0]

    def _methods(self) -> Iterable[str]:
        if self.method:
            return (self.method,)
        return _FAST_METHODS if self.scheme == BYTES else METHODS

    def __str__(self) -> str:
        words = [self.method] if self.method else []
        words += ["pow2"] if self.scheme.power_of_two else []
        words += [f"act{self.scheme.activations}"] if self.scheme.activations != BYTES.activations else []
        words += [f"in{self.scheme.inputs}"] if self.scheme.inputs != BYTES.inputs else []
        if self.mean_bits is not None:
            return f"mixed={','.join([f'{self.mean_bits:g}', *words])}"
        return f"{self.scheme.weights}{'=' if words else ''}{','.join(words)}"


@dataclass(frozen=True)
class WeightOnly:
    """Weights as integers of few bits with a scale for each output; activations stay float32."""

    number: Format

    def __call__(self, graph: Graph, context: Context) -> Graph:
        return weight_only(graph, self.number)

    def __str__(self) -> str:
        return f"weights={self.number}"


@dataclass(frozen=True)
class BrainFloats:
    """Weights and biases stored as bf16; arithmetic stays in float32."""

    def __call__(self, graph: Graph, context: Context) -> Graph:
        return stored_as(graph, BF16)

    def __str__(self) -> str:
        return "bf16"


def _changed(made: Quantize, word: str) -> Quantize:
    """``made`` with one word of a setting obeyed."""
    if word in METHODS:
        return replace(made, method=word)
    if word == "pow2":
        return replace(made, scheme=replace(made.scheme, power_of_two=True))
    bits = re.fullmatch(r"(act|in)(\d{1,2})", word)
    if bits is None:
        raise ConfigError(
            f"{word!r} says nothing about quantization: give {', '.join(METHODS)}, pow2, act2 to act8 or in8 to in12, "
            "with commas between them"
        )
    count = int(bits[2])
    scheme = made.scheme
    scheme = replace(scheme, activations=count) if bits[1] == "act" else replace(scheme, inputs=count)
    return replace(made, scheme=scheme)


def _integers(number: Format) -> Callable[[str], Pass]:
    def make(setting: str) -> Pass:
        made = Quantize(Scheme(number))
        for word in setting.split(",") if setting else ():
            made = _changed(made, word)
        return made

    return make


def _mixed(setting: str) -> Pass:
    bits, _, rest = setting.partition(",")
    if not re.fullmatch(r"\d+(\.\d+)?", bits or "4") or not 1.6 <= float(bits or _MEAN_BITS) <= 8:
        raise ConfigError(f"{setting!r} is no mean of bits: give a number from 1.6 to 8, as in mixed=3.5")
    made = Quantize(mean_bits=float(bits or _MEAN_BITS))
    for word in rest.split(",") if rest else ():
        made = _changed(made, word)
    return made


WEIGHTS: dict[str, Format] = {
    str(number): number
    for number in (INT8, *(Int(bits, signed=True) for bits in range(7, 1, -1)), APOT4, LOG2, LOG2_3, TERNARY)
}
"""Name → format that the weights of a policy in integer arithmetic can have."""


def _weights(setting: str) -> Pass:
    if setting not in WEIGHTS:
        raise ConfigError(f"there are no weights {setting!r}; choose from {', '.join(WEIGHTS)}")
    return WeightOnly(WEIGHTS[setting])


def _brain_floats(setting: str) -> Pass:
    if setting:
        raise ConfigError(f"the pass bf16 takes no setting, not {setting!r}")
    return BrainFloats()


ROWS: dict[str, PassRow] = {
    **{
        name: PassRow(_integers(number), f"integer arithmetic with {name} weights", "kl,pow2,act6")
        for name, number in WEIGHTS.items()
    },
    "mixed": PassRow(_mixed, "integer arithmetic, bits for each layer by regret; setting: their mean", "3.5"),
    "weights": PassRow(_weights, "integer weights with scales, float32 activations", "int4"),
    "bf16": PassRow(_brain_floats, "weights stored as bf16, float32 arithmetic"),
}
"""Name → pass."""
