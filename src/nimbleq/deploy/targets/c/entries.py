"""The entries of an observation in C: what the environment gives of each, and how it becomes the network's input."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nimbleq.deploy.targets.c.layout import c_names
from nimbleq.deploy.targets.c.text import KEYWORDS, array, comment_safe
from nimbleq.graph.interface import Interface, without_mask
from nimbleq.graph.reading import SLACK
from nimbleq.graph.space import Box, Dict, Discrete, Leaf, MultiBinary, MultiDiscrete, Path, leaves, named
from nimbleq.types import Array

_C_TYPES = {"bool": "uint8_t", "float16": "uint16_t", "float32": "float", "float64": "double"}
_TAKEN = re.compile(
    r"\d|U?INT|bool$|true$|false$|\w+_t$|(?:and|class|catch|delete|export|friend|mutable|namespace|new|not|operator|or|"
    r"private|protected|public|template|this|throw|try|typeid|typename|using|virtual|wchar_t|xor|obs|raw|bad|action_mask|entry_.*)$"
)
"""Names of members that something else may have: words of C++, types and macros of stdint.h, our own variables."""
_INT32 = range(-(2**31), 2**31)


@dataclass(frozen=True, eq=False)
class Entry:
    """One leaf of the space.

    Attributes:
        path: from the observation to it.
        leaf: its space.
        name: of the member of the struct.
        at: where it begins in the network's input.
        element: type of the network's input.
    """

    path: Path
    leaf: Leaf
    name: str
    at: int
    element: str

    @property
    def c_type(self) -> str:
        """Of one value as the environment gives it."""
        leaf = self.leaf
        if isinstance(leaf, Box):
            return _C_TYPES.get(leaf.dtype, f"{leaf.dtype}_t")
        if isinstance(leaf, MultiBinary):
            return "uint8_t"
        starts = (leaf.start,) if isinstance(leaf, Discrete) else leaf.start
        counts = (leaf.n,) if isinstance(leaf, Discrete) else leaf.nvec
        fits = all(start in _INT32 and start + n - 1 in _INT32 for start, n in zip(starts, counts, strict=True))
        return "int32_t" if fits else "int64_t"

    @property
    def single(self) -> bool:
        """Whether it is one number, given by value."""
        return isinstance(self.leaf, Discrete)

    @property
    def count(self) -> int:
        """Values that the environment gives."""
        return 1 if isinstance(self.leaf, Discrete) else math.prod(self.leaf.shape)

    def values(self, raw: Any) -> Array:
        """Its values in an observation of the environment, as C takes them: ``[count]`` of `c_type`."""
        for key in self.path:
            raw = raw[key]
        if isinstance(self.leaf, Box) and self.leaf.dtype == "float16":
            return np.asarray(raw, np.float16).reshape(-1).view(np.uint16)
        return np.asarray(raw).reshape(-1).astype(numpy_type(self.c_type))

    @property
    def member(self) -> str:
        """Its line in the struct."""
        kind = f"{self.c_type} {self.name};" if self.single else f"const {self.c_type} *{self.name};"
        return f"    {kind:<32} /* {comment_safe(self.words())} */"

    def words(self) -> str:
        """What it is."""
        leaf, what = self.leaf, named(self.path) or "the observation"
        sides = " x ".join(map(str, getattr(leaf, "shape", ())))
        match leaf:
            case Discrete(n, start):
                return f"{what}: {start}..{start + n - 1}"
            case MultiDiscrete():
                return f"{what}: {sides} digits"
            case MultiBinary():
                return f"{what}: {sides} zeros and ones"
        half = ", the bits of each" if leaf.dtype == "float16" else ""
        flags = ", 0 or 1 each" if leaf.dtype == "bool" else ""
        limits = f", {leaf.low:g} to {leaf.high:g}" if leaf.picture and leaf.bounded and not flags else ""
        return f"{what}: {leaf.dtype} {sides}{half}{flags}{limits}"

    def constants(self) -> list[str]:
        """Arrays that its code reads."""
        leaf = self.leaf
        if isinstance(leaf, Box) and leaf.offset:
            return _offsets(f"nq_{self.name}", leaf)
        if isinstance(leaf, MultiDiscrete):
            kind = np.int32 if self.c_type == "int32_t" else np.int64
            last = [start + n - 1 for start, n in zip(leaf.start, leaf.nvec, strict=True)]
            return [array(f"nq_{self.name}_first", np.array(leaf.start, kind), False),
                    array(f"nq_{self.name}_last", np.array(last, kind), False)]  # fmt: skip
        return []

    def code(self) -> list[str]:
        """Lines that fill ``obs`` from ``raw``; what is outside of its space sets ``bad``."""
        match self.leaf:
            case Discrete():
                return self._digit(self.leaf)
            case MultiDiscrete():
                return self._digits(self.leaf)
            case MultiBinary():
                return self._numbers(Box(self.leaf.shape, "bool"))
        return self._numbers(self.leaf) if self.leaf.picture is None else self._picture(self.leaf)

    def _digit(self, leaf: Discrete) -> list[str]:
        first, last = (literal(value, self.c_type) for value in (leaf.start, leaf.start + leaf.n - 1))
        place = f"(int)(raw->{self.name} - {first})" if leaf.start else f"(int)raw->{self.name}"
        return [
            f"for (int i = 0; i < {leaf.n}; ++i) obs[{self._index('i')}] = 0.0f;",
            f"if (raw->{self.name} < {first} || raw->{self.name} > {last})",
            "    bad = 1;",
            "else",
            f"    obs[{self._index(place)}] = 1.0f;",
        ]

    def _digits(self, leaf: MultiDiscrete) -> list[str]:
        return [
            f"for (int i = 0, at = {self.at}; i < {self.count}; ++i) {{",
            f"    const {self.c_type} first = nq_{self.name}_first[i], last = nq_{self.name}_last[i];",
            f"    const {self.c_type} value = raw->{self.name}[i];",
            "    const int count = (int)(last - first) + 1;",
            "    for (int j = 0; j < count; ++j) obs[at + j] = 0.0f;",
            "    if (value < first || value > last)",
            "        bad = 1;",
            "    else",
            "        obs[at + (int)(value - first)] = 1.0f;",
            "    at += count;",
            "}",
        ]

    def _numbers(self, leaf: Box) -> list[str]:
        value = f"raw->{self.name}[i]"
        made = self._moved(leaf, value) if leaf.offset else self._converted(leaf, value)
        lines = [f"    obs[{self._index('i')}] = {made};"]
        lines += [f"    bad |= {value} > 1;"] if leaf.dtype == "bool" else []
        return _loop(f"for (int i = 0; i < {self.count}; ++i)", lines)

    def _moved(self, leaf: Box, value: str) -> str:
        if np.dtype(leaf.dtype).kind in "iu":
            parts = ", ".join(f"nq_{self.name}_{part}[i]" for part in ("offset", "rounded", "whole"))
            return f"nq_less_whole((uint64_t){value}, (double){value}, {parts})"
        wide = f"nq_half({value})" if leaf.dtype == "float16" else value
        return f"nq_less({'' if leaf.dtype == 'float64' else '(double)'}{wide}, nq_{self.name}_offset[i])"

    def _converted(self, leaf: Box, value: str) -> str:
        """One value in the type of the network's input."""
        if leaf.dtype == "float16":
            return f"nq_half({value})"
        if getattr(leaf, "binary", False):
            return f"{value} ? {'255.0f' if self.element == 'float' else '255'} : 0"
        return value if self.c_type == self.element else f"({self.element}){value}"

    def _picture(self, leaf: Box) -> list[str]:
        assert leaf.picture is not None
        planes, height, width = leaf.picture
        pixels = height * width
        channels_last = leaf.axes in ("HWC", "SHWC")
        stack = leaf.shape[0] if leaf.axes == "SHWC" else 1
        channels = planes // stack
        value = "value"
        limits = bounds(leaf, value)
        inner = [f"bad |= {limits};"] if limits else []
        converted = self._converted(leaf, value)
        if not channels_last or channels == 1:
            head = f"for (int i = 0; i < {planes * pixels}; ++i) {{"
            source, target, tail = "i", "i", ["}"]
            heads = [head]
        else:
            heads = [f"for (int s = 0; s < {stack}; ++s)"] if stack > 1 else []
            heads += [
                f"{'    ' * len(heads)}for (int p = 0; p < {pixels}; ++p)",
                f"{'    ' * (len(heads) + 1)}for (int c = 0; c < {channels}; ++c) {{",
            ]
            source = f"(s * {pixels} + p) * {channels} + c" if stack > 1 else f"p * {channels} + c"
            target = f"(s * {channels} + c) * {pixels} + p" if stack > 1 else f"c * {pixels} + p"
            tail = ["    " * (len(heads) - 1) + "}"]
        pad = "    " * len(heads)
        body = [f"const {self.c_type} value = raw->{self.name}[{source}];", *inner]
        body.append(f"obs[{self._index(target)}] = {converted};")
        return [*heads, *(pad + line for line in body), *tail]

    def _index(self, within: str) -> str:
        return f"{self.at} + {within}" if self.at else within


def numpy_type(c_type: str) -> str:
    """Of numpy."""
    return {"float": "float32", "double": "float64"}.get(c_type, c_type.removesuffix("_t"))


def entries(interface: Interface) -> tuple[Entry, ...]:
    """Of an observation without its mask, in the order of the space."""
    found = leaves(without_mask(interface.space, interface.mask))
    order = sorted(range(len(found)), key=lambda at: getattr(found[at][1], "picture", None) is None)  # (stable)
    ends = np.cumsum([found[at][1].size for at in order]).tolist()
    starts = {at: end - found[at][1].size for at, end in zip(order, ends, strict=True)}
    element = "uint8_t" if interface.obs.dtype == "uint8" else "float"
    names = _members([path for path, _ in found])
    return tuple(
        Entry(path, leaf, name, starts[at], element)
        for at, ((path, leaf), name) in enumerate(zip(found, names, strict=True))
    )


def mask_member(interface: Interface) -> str:
    """The member with the mask, where the observation holds it; else empty."""
    space = interface.space
    if interface.mask is None or not interface.mask.startswith("obs:") or not isinstance(space, Dict):
        return ""
    return interface.mask.partition(":")[2]


def _members(paths: Sequence[Path]) -> list[str]:
    """A C name for each, and none that C, C++ or their headers have taken."""
    words = [named(path) or "observation" for path in paths]
    made = c_names(word if words.count(word) == 1 else f"{word} {at}" for at, word in enumerate(words))
    names = [f"entry_{name}" if _TAKEN.match(name) or name in KEYWORDS else name for name in made.values()]
    assert len(set(names)) == len(paths)
    return names


def bounds(leaf: Box, value: str) -> str:
    """A condition that ``value`` is outside of the bounds of a picture; empty where its type cannot be."""
    dtype = np.dtype(leaf.dtype)
    if dtype.kind == "b":
        return f"{value} > 1"
    if dtype.kind == "f":
        slack = SLACK * ((leaf.high or 0) - (leaf.low or 0))
        ends = [None if end is None else end + sign * slack for end, sign in ((leaf.low, -1), (leaf.high, 1))]
        wide = f"nq_half({value})" if leaf.dtype == "float16" else value
        kind = _C_TYPES[leaf.dtype].replace("uint16_t", "float")
        with np.errstate(over="ignore"):
            limits = [math.inf if end is None else float(dtype.type(end)) for end in ends]
        return _outside(wide, [literal(end, kind) if math.isfinite(end) else None for end in limits])
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    low = None if leaf.low is None or leaf.low <= least else literal(math.ceil(leaf.low), f"{leaf.dtype}_t")
    high = None if leaf.high is None or leaf.high >= most else literal(math.floor(leaf.high), f"{leaf.dtype}_t")
    return _outside(value, [low, high])


def _outside(value: str, ends: Sequence[str | None]) -> str:
    return " || ".join(f"{value} {sign} {end}" for sign, end in zip("<>", ends, strict=True) if end is not None)


def literal(value: Any, kind: str) -> str:
    """A number in C, of the type ``kind``."""
    if kind in ("float", "double"):
        text = f"{float(value):.{9 if kind == 'float' else 17}g}"
        text = text if any(mark in text for mark in ".en") else f"{text}.0"
        return f"{text}f" if kind == "float" else text
    if kind in ("int64_t", "uint64_t"):
        wide = f"{'U' if kind[0] == 'u' else ''}INT64_C"
        return f"{wide}({value})" if value > -(2**63) else "INT64_MIN"
    return str(value) if value > -(2**31) else "(-2147483647 - 1)"


def _offsets(name: str, leaf: Box) -> list[str]:
    """What is subtracted; of whole numbers also its whole part, modulo 2^64."""
    offset = np.array(leaf.offset)
    made = [array_of_doubles(f"{name}_offset", offset)]
    if np.dtype(leaf.dtype).kind in "iu":
        taken = ", ".join(f"UINT64_C({int(value) % (1 << 64)})" for value in np.rint(offset))
        made.append(array_of_doubles(f"{name}_rounded", np.rint(offset)))
        made.append(f"static const uint64_t {name}_whole[{len(offset)}] = {{{taken}}};\n")
    return made


def array_of_doubles(name: str, values: Any) -> str:
    """Definition of a constant array whose numbers read back as the same bits."""
    return f"static const double {name}[{len(values)}] = {{{', '.join(literal(v, 'double') for v in values)}}};\n"


def _loop(head: str, lines: list[str]) -> list[str]:
    return [f"{head}{lines[0].replace('    ', ' ', 1)}"] if len(lines) == 1 else [f"{head} {{", *lines, "}"]
