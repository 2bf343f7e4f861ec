"""VNN-LIB properties: s-expressions over inputs ``X_i`` and outputs ``Y_i`` → boxes and unsafe outputs.

A property is *sat* if some input satisfies all of its assertions. They are brought into disjunctive form: each disjunct
is a box of inputs and linear inequalities that the outputs must all satisfy (https://www.vnnlib.org).
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nimbleq.errors import FileError
from nimbleq.files import read_bytes
from nimbleq.types import Array

_TOKEN = re.compile(r"[()]|[^\s()]+")
_NAME = re.compile(r"([XY])_(\d+)")
_MOST_DISJUNCTS = 10_000
_MOST_BYTES = 64 << 20
_DEEPEST = 200

Terms = dict[str, float]
"""A linear expression: variable → factor; ``""`` is the constant."""


@dataclass(frozen=True, eq=False)
class Disjunct:
    """Inputs in a box whose outputs ``y`` satisfy ``rows·y ≤ bounds``.

    Attributes:
        low, high: float64 ``[n]`` the box, ends included.
        rows: float64 ``[m, A]``.
        bounds: float64 ``[m]``.
    """

    low: Array
    high: Array
    rows: Array
    bounds: Array


def read_property(path: Path, inputs: int, outputs: int) -> tuple[Disjunct, ...]:
    """The property in a ``.vnnlib`` or ``.vnnlib.gz`` file, for a network of ``inputs`` numbers and ``outputs``.

    Disjuncts whose box is empty are left out.

    Raises:
        FileError: it is damaged, not linear, mixes inputs and outputs in one inequality, leaves an input unbounded, or
            does not fit the network; names the file.
    """
    data = read_bytes(path)
    try:
        if data[:2] == b"\x1f\x8b":
            data = _unzipped(data)
        return parse_property(data.decode(), inputs, outputs)
    except FileError as error:
        raise FileError(f"{path}: {error}") from None
    except (UnicodeDecodeError, EOFError, OSError, zlib.error) as error:
        raise FileError(f"{path} is not readable as VNN-LIB ({error}): truncated or damaged") from None


def _unzipped(data: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    text = unpacker.decompress(data, _MOST_BYTES + 1)
    if len(text) > _MOST_BYTES:
        raise FileError(f"unpacks to more than {_MOST_BYTES >> 20} MiB")
    if not unpacker.eof:
        raise gzip.BadGzipFile("it ends too early")
    return text


def parse_property(text: str, inputs: int, outputs: int) -> tuple[Disjunct, ...]:
    """As `read_property`, from the text.

    Raises:
        FileError: see `read_property`.
    """
    declared: set[str] = set()
    formulas: list[Any] = []
    for command in _commands(text):
        match command:
            case ["declare-const" | "declare-fun", str(name), *_]:
                declared.add(name)
            case ["assert", formula]:
                formulas.append(formula)
            case ["check-sat" | "set-logic" | "exit" | "set-option" | "set-info" | "get-model", *_]:
                pass
            case _:
                raise FileError(f"unknown command {_shown(command)}")
    known = {f"X_{i}" for i in range(inputs)} | {f"Y_{i}" for i in range(outputs)}
    if declared != known:
        odd = sorted(declared ^ known)[0]
        raise FileError(
            f"it declares {sum(name.startswith('X') for name in declared)} inputs and "
            f"{sum(name.startswith('Y') for name in declared)} outputs, the network has {inputs} and {outputs} ({odd})"
        )
    found = [_disjunct(leaves, inputs, outputs) for leaves in _disjunctive(["and", *formulas])]
    return tuple(disjunct for disjunct in found if disjunct is not None)


def _commands(text: str) -> Iterator[Any]:
    """The s-expressions of a file, as nested lists of words."""
    plain = re.sub(r";[^\n]*", "", text)
    stack: list[list[Any]] = [[]]
    for word in _TOKEN.findall(plain):
        if word == "(":
            stack.append([])
            if len(stack) > _DEEPEST:
                raise FileError("its brackets are nested too deeply")
        elif word == ")":
            done = stack.pop()
            if not stack:
                raise FileError("it has a ) too many")
            stack[-1].append(done)
        else:
            stack[-1].append(word)
    if len(stack) > 1:
        raise FileError("a bracket is not closed: the file is truncated")
    yield from stack[0]


def _disjunctive(formula: Any) -> list[list[Terms]]:
    """A formula as a disjunction of conjunctions of ``expression ≤ 0``."""
    match formula:
        case ["and", *parts]:
            product: list[list[Terms]] = [[]]
            for part in parts:
                options = _disjunctive(part)
                if len(product) * len(options) > _MOST_DISJUNCTS:
                    raise FileError(f"it has more than {_MOST_DISJUNCTS:,} cases")
                product = [left + right for left in product for right in options]
            return product
        case ["or", *parts]:
            return [case for part in parts for case in _disjunctive(part)]
        case ["<=", left, right]:
            return [[_minus(_linear(left), _linear(right))]]
        case [">=", left, right]:
            return [[_minus(_linear(right), _linear(left))]]
        case ["=", left, right]:
            difference = _minus(_linear(left), _linear(right))
            return [[difference, _minus({}, difference)]]
    raise FileError(f"{_shown(formula)} is not understood: use and, or, <=, >=, = over linear terms")


def _linear(term: Any) -> Terms:
    match term:
        case str() if _NAME.fullmatch(term):
            return {term: 1.0}
        case str():
            try:
                value = float(term)
            except ValueError:
                raise FileError(f"{term!r} is neither a number nor a variable X_i, Y_i") from None
            if not math.isfinite(value):
                raise FileError(f"{term!r} is not a finite number")
            return {"": value}
        case ["+", *parts]:
            total: Terms = {}
            for part in parts:
                total = _minus(total, _minus({}, _linear(part)))
            return total
        case ["-", only]:
            return _minus({}, _linear(only))
        case ["-", first, *parts]:
            return _minus(_linear(first), _linear(["+", *parts]))
        case ["*", left, right]:
            a, b = _linear(left), _linear(right)
            if set(b) <= {""}:
                a, b = b, a
            if set(a) <= {""}:
                return {name: a.get("", 0.0) * value for name, value in b.items()}
    raise FileError(f"{_shown(term)} is not a linear term")


def _minus(left: Terms, right: Terms) -> Terms:
    return {name: left.get(name, 0.0) - right.get(name, 0.0) for name in left | right}


def _disjunct(inequalities: list[Terms], inputs: int, outputs: int) -> Disjunct | None:
    """None if no input or no output can satisfy them."""
    low, high = np.full(inputs, -np.inf), np.full(inputs, np.inf)
    rows, bounds = [], []
    for terms in inequalities:
        constant = terms.get("", 0.0)
        used = {name: value for name, value in terms.items() if name and value != 0}
        unknown = [name for name in used if int(name[2:]) >= (inputs if name[0] == "X" else outputs)]
        if unknown:
            raise FileError(f"{unknown[0]} is not declared")
        kinds = {name[0] for name in used}
        if not used:
            if constant > 0:
                return None
        elif kinds == {"Y"}:
            row = np.zeros(outputs)
            for name, value in used.items():
                row[int(name[2:])] = value
            rows.append(row)
            bounds.append(-constant)
        elif kinds == {"X"} and len(used) == 1:
            ((name, factor),) = used.items()
            at, end = int(name[2:]), -constant / factor
            if factor > 0:
                high[at] = min(high[at], end)
            else:
                low[at] = max(low[at], end)
        else:
            raise FileError(
                f"an inequality over {', '.join(used)}: inputs may only be bounded one by one, and not by outputs"
            )
    if not np.isfinite([low, high]).all():
        at = int(np.argmin(np.isfinite(low) & np.isfinite(high)))
        raise FileError(f"X_{at} is not bounded on both sides")
    if (low > high).any():
        return None
    return Disjunct(low, high, np.array(rows).reshape(-1, outputs), np.array(bounds))


def _shown(expression: Any) -> str:
    text = expression if isinstance(expression, str) else f"({' '.join(map(_shown, expression))})"
    return text if len(text) <= 60 else f"{text[:57]}..."
