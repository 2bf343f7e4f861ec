"""A circuit: integer signals made of others, each with its range, placed in the stages of a pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from nimbleq.deploy.targets.verilog.adders import share
from nimbleq.deploy.targets.verilog.rounding import Rounding

COMPARE = 2
"""Levels of a comparison with the choice that follows it; an addition is one."""
SIDE_BY_SIDE = 4
"""So many values are compared all with all; of more, the better of two and two again."""


@dataclass(frozen=True)
class Signal:
    """An integer that the circuit computes.

    Attributes:
        name: of the wire.
        text: Verilog expression; other signals in braces, e.g. ``"({a} <<< 2) + {b}"``.
        operands: those signals by name.
        low, high: its range.
        ready: levels of logic after which it is there.
        stage: of the pipeline that makes it.
        remark: what it is.
    """

    name: str
    text: str
    operands: tuple[str, ...]
    low: int
    high: int
    ready: int
    stage: int
    remark: str = ""

    @property
    def bits(self) -> int:
        """Width in two's complement."""
        return max(self.high.bit_length(), (-self.low - 1).bit_length() if self.low < 0 else 0) + 1

    @property
    def constant(self) -> bool:
        """Whether it is a number: there at any time, without a wire."""
        return not self.operands and self.low == self.high

    def at(self, stage: int) -> str:
        """What it is called in a stage that reads it: the wire, or a register behind it."""
        if self.constant:
            return self.text
        return self.name if stage == self.stage else f"{self.name}_{stage - self.stage}"


@dataclass
class Circuit:
    """Signals in the order in which they are made.

    Attributes:
        levels: of logic between two registers.
        signals: by name.
    """

    levels: int
    signals: dict[str, Signal] = field(default_factory=dict)
    _linear: dict[str, tuple[dict[str, int], int]] = field(default_factory=dict)  # factors and constant

    def input(self, name: str, text: str, low: int, high: int) -> str:
        """A signal that is there at the start."""
        self.signals[name] = Signal(name, text, (), low, high, 0, 0)
        self._linear[name] = ({name: 1}, 0)
        return name

    def make(self, text: str, operands: Sequence[str], low: int, high: int, cost: int, remark: str = "") -> str:
        """A signal made of others after ``cost`` levels of logic, which do not cross a register."""
        start = max((self.signals[name].ready for name in operands), default=0)
        if cost and start % self.levels + cost > self.levels:
            start += -start % self.levels
        ready = start + cost
        stage = max((ready - 1) // self.levels, 0)
        name = f"n{len(self.signals)}"
        self.signals[name] = Signal(name, text, tuple(operands), low, high, ready, stage, remark)
        return name

    def linear(self, rows: Sequence[Sequence[int]], inputs: Sequence[str], bias: Sequence[int], what: str) -> list[str]:
        """``rows·inputs + bias``; sums share what they have in common, and add what is ready first."""
        sharing = share(rows)
        for name in inputs:
            self._linear.setdefault(name, ({name: 1}, 0))
        known = list(inputs)
        for a, b, shift, sign in sharing.pairs:
            one, other = (known[a], max(-shift, 0), 1), (known[b], max(shift, 0), sign)
            known.append(self._add(one, other, f"{what}, shared"))
        return [
            self._sum([(known[s], shift, sign) for s, shift, sign in terms], constant, f"{what}[{row}]")
            for row, (terms, constant) in enumerate(zip(sharing.sums, bias, strict=True))
        ]

    def _sum(self, terms: list[tuple[str, int, int]], constant: int, what: str) -> str:
        """A sum with its constant as tree of additions: always of the two terms that are ready first."""
        queue = [
            (self.signals[name].ready, order, (name, shift, sign)) for order, (name, shift, sign) in enumerate(terms)
        ]
        if constant:
            name = self.number(constant)
            queue.append((0, -1, (name, 0, 1)))
        if not queue:
            return self.number(0)
        heapify(queue)
        order = len(queue)
        while len(queue) > 1:
            one, other = heappop(queue)[2], heappop(queue)[2]
            if one[2] < 0 < other[2]:
                one, other = other, one
            sign = one[2]
            common = min(one[1], other[1])
            made = self._add((one[0], one[1] - common, 1), (other[0], other[1] - common, sign * other[2]), what)
            heappush(queue, (self.signals[made].ready, order, (made, common, sign)))
            order += 1
        name, shift, sign = queue[0][2]
        return name if (shift, sign) == (0, 1) else self._scaled(name, shift, sign, what)

    def number(self, value: int) -> str:
        """A constant."""
        name = f"k{abs(value)}{'n' if value < 0 else ''}"
        if name not in self.signals:
            self.signals[name] = Signal(name, literal(value), (), value, value, 0, 0)
            self._linear[name] = ({}, value)
        return name

    def _add(self, one: tuple[str, int, int], other: tuple[str, int, int], what: str) -> str:
        """``(a << s) ± (b << t)``."""
        (a, s, _), (b, t, sign) = one, other
        factors, constant = _combine(self._linear[a], s, self._linear[b], t, sign)
        text = f"{_shifted(a, s)} {'+' if sign > 0 else '-'} {_shifted(b, t)}"
        return self._made_linear(text, (a, b), factors, constant, 1, what)

    def _scaled(self, name: str, shift: int, sign: int, what: str) -> str:
        factors, constant = _combine(({}, 0), 0, self._linear[name], shift, sign)
        text = f"{'-' if sign < 0 else ''}{_shifted(name, shift)}"
        return self._made_linear(text, (name,), factors, constant, 1 if sign < 0 else 0, what)

    def _made_linear(
        self, text: str, operands: Sequence[str], factors: dict[str, int], constant: int, cost: int, what: str
    ) -> str:
        ends = [sorted((f * self.signals[n].low, f * self.signals[n].high)) for n, f in factors.items()]
        low, high = constant + sum(end[0] for end in ends), constant + sum(end[1] for end in ends)
        made = self.make(text, operands, low, high, cost, what)
        self._linear[made] = (factors, constant)
        return made

    def rounded(self, name: str, how: Rounding, what: str) -> str:
        """``clamp((x·multiplier + offset) >> shift, low, high)``."""
        if how.low == how.high:
            return self.number(how.low)
        (product,) = self.linear([[how.multiplier]], [name], [how.offset], f"{what}, scaled")
        wide = self.signals[product]
        low, high = wide.low >> how.shift, wide.high >> how.shift
        shifted = product
        if how.shift:
            shifted = self.make(f"{{{product}}} >>> {how.shift}", (product,), low, high, 0, what)
        text = f"{{{shifted}}}"
        if high > how.high:
            text = f"({{{shifted}}} > {literal(how.high)}) ? {literal(how.high)} : {text}"
        if low < how.low:
            text = f"({{{shifted}}} < {literal(how.low)}) ? {literal(how.low)} : {text}"
        if (low, high) == (how.low, how.high):
            return shifted
        return self.make(text, (shifted,), max(low, how.low), min(high, how.high), 1, what)

    def largest(self, values: Sequence[str], legal: Sequence[str] = ()) -> str:
        """Index of the largest of ``values``, the lowest on ties; among ``legal`` (signals 0 or 1) where given."""
        if len(values) <= SIDE_BY_SIDE and not legal:
            return self._first_unbeaten(values)
        entries = [(name, self.number(i), legal[i] if legal else None) for i, name in enumerate(values)]
        while len(entries) > 1:
            better = [self._better(*two) for two in zip(entries[::2], entries[1::2], strict=False)]
            entries = better + entries[len(better) * 2 :]
        return entries[0][1]

    def _first_unbeaten(self, values: Sequence[str]) -> str:
        """Index of the first value than which no later one is larger: every pair is compared at once."""
        last, text, used = len(values) - 1, literal(len(values) - 1), dict[str, None]()
        for i in reversed(range(last)):
            beaten = [self._larger(other, values[i]) for other in values[i + 1 :]]
            used |= dict.fromkeys(beaten)
            any_larger = " || ".join(f"{{{name}}}[0]" for name in beaten)
            text = f"({any_larger}) ? ({text}) : {literal(i)}"
        return self.make(text, tuple(used), 0, last, COMPARE - 1, "the best") if used else self.number(0)

    def _larger(self, one: str, other: str) -> str:
        return self.make(f"({{{one}}} > {{{other}}}) ? 2'sd1 : 2'sd0", (one, other), 0, 1, COMPARE - 1, "larger")

    def _better(
        self, left: tuple[str, str, str | None], right: tuple[str, str, str | None]
    ) -> tuple[str, str, str | None]:
        """Of two entries the right one only where it is larger, or the left one is not legal."""
        wins = f"{{{right[0]}}} > {{{left[0]}}}"
        operands = [left[0], right[0]]
        usable = None
        if left[2] is not None and right[2] is not None:
            wins = f"{{{right[2]}}}[0] && (!{{{left[2]}}}[0] || {wins})"
            operands += [left[2], right[2]]
            usable = self.make(f"{{{left[2]}}} | {{{right[2]}}}", (left[2], right[2]), 0, 1, COMPARE, "one is legal")
        chosen = self.make(f"({wins}) ? 2'sd1 : 2'sd0", operands, 0, 1, COMPARE - 1, "the second is better")
        pick = f"{{{chosen}}}[0] ? {{%s}} : {{%s}}"

        def of(one: str, other: str) -> str:
            a, b = self.signals[one], self.signals[other]
            ends = min(a.low, b.low), max(a.high, b.high)
            return self.make(pick % (other, one), (chosen, one, other), *ends, 1, "the better")

        return of(left[0], right[0]), of(left[1], right[1]), usable

    def after(self, names: Sequence[str]) -> int:
        """Clocks after which all of ``names`` are in registers."""
        return max(self.signals[name].stage for name in names) + 1

    def needed(self, outputs: Sequence[str], last: int) -> Mapping[str, int]:
        """Signals that ``outputs`` depend on, each with the last stage in which it is read; outputs in ``last``."""
        until = dict.fromkeys(outputs, last)
        for signal in reversed(self.signals.values()):
            if signal.name in until:
                for operand in signal.operands:
                    until[operand] = max(until.get(operand, 0), signal.stage)
        return until


def _combine(
    one: tuple[dict[str, int], int], s: int, other: tuple[dict[str, int], int], t: int, sign: int
) -> tuple[dict[str, int], int]:
    factors = {name: factor << s for name, factor in one[0].items()}
    for name, factor in other[0].items():
        factors[name] = factors.get(name, 0) + sign * (factor << t)
    return factors, (one[1] << s) + sign * (other[1] << t)


def _shifted(name: str, shift: int) -> str:
    return f"({{{name}}} <<< {shift})" if shift else f"{{{name}}}"


def literal(value: int) -> str:
    """Verilog text of a signed number."""
    return f"{'-' if value < 0 else ''}{abs(value).bit_length() + 1}'sd{abs(value)}"
