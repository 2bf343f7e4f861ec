"""Linear and Conv2d whose weights are stored sparsely: loops over what is stored, in plain C99.

The constants are the bytes of the encoding (see `nimbleq.graph.encodings`): indices as whole numbers where they have 8,
16 or 32 bits, packed where they have fewer. What an encoding stores once (a count of entries) is a number in the code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from nimbleq.deploy.targets.c.ops.layer import Layer, coordinate
from nimbleq.deploy.targets.c.ops.readers import Stored
from nimbleq.deploy.targets.c.ops.sums import (
    activated,
    as_float,
    bias,
    check_int_source,
    real_weight,
    real_weights,
    requantized,
)
from nimbleq.graph.encodings import Bitmap, Block, Csr, Delta, Encoding, Index, NofM
from nimbleq.graph.encodings.sparse import extent, pack_bits


@dataclass(frozen=True, eq=False)
class Matrix:
    """A sparse weight as the loops see it.

    Attributes:
        layer: whose weight it is.
        encoding: how it is laid out.
        rows, columns: of the matrix.
        indices: of the encoding, by name.
        w: its codes.
    """

    layer: Layer
    encoding: Encoding
    rows: int
    columns: int
    indices: Mapping[str, Index]
    w: Stored

    def index(self, name: str) -> tuple[str, str]:
        """Defines the array of an index: its C name and element type."""
        index = self.indices[name]
        values = index.values if len(index.values) else np.zeros(1, np.int64)  # C has no empty arrays
        if index.bits in (8, 16, 32):
            return self.layer.constant(name, values.astype(f"uint{index.bits}")), f"uint{index.bits}_t"
        return self.layer.constant(name, np.frombuffer(pack_bits(values, index.bits), np.uint8)), "uint8_t"


@dataclass(frozen=True)
class Walk:
    """C that walks over the stored entries of the rows in order.

    Attributes:
        start: declarations before the first row.
        row: of row ``ROW``; it comes to ``ADD`` with the column ``k`` of each entry.
        weight: C expression of the weight there, evaluated once.
        height: outputs of a row, each with its own weight.
    """

    start: tuple[str, ...]
    row: tuple[str, ...]
    weight: str
    height: int = 1


def _csr(m: Matrix) -> Walk:
    (count, _), (column, element) = m.index("count"), m.index("column")
    row = (f"for (uint32_t n = {count}[ROW]; n > 0; --n) {{", "    const int k = (int)*column++;", "    ADD", "}")
    return Walk((m.w.start, f"const NQ_FLASH {element} *column = {column};"), row, m.w.next)


def _block(m: Matrix) -> Walk:
    assert isinstance(m.encoding, Block)
    walk = _csr(m)
    return Walk(walk.start, walk.row, walk.weight, m.encoding.height)


def _bitmap(m: Matrix) -> Walk:
    present, _ = m.index("present")
    row = (
        f"for (int k = 0; k < {m.columns}; ++k, ++bit) {{",
        f"    if (!((uint32_t){present}[bit >> 3] >> (bit & 7u) & 1u)) continue;",
        "    ADD",
        "}",
    )
    return Walk((m.w.start, "uint32_t bit = 0;"), row, m.w.next)


def _n_of_m(m: Matrix) -> Walk:
    assert isinstance(m.encoding, NofM)
    position, _ = m.index("position")
    n, of = m.encoding.n, m.encoding.m
    row = (
        f"for (int i = 0; i < {m.encoding.slots(m.columns)}; ++i, ++slot) {{",
        f"    const int k = i / {n} * {of} + (int)nq_code({position}, slot, {m.encoding.bits});",
        "    ADD",
        "}",
    )
    return Walk((m.w.start, "uint32_t slot = 0;"), row, m.w.next)


def _delta(m: Matrix) -> Walk:
    bits, entries = int(m.indices["bits"].values[0]), int(m.indices["stored"].values[0])
    zeros, _ = m.index("zeros")
    gap = f"nq_code({zeros}, entry, {bits})" if bits < 8 else f"{zeros}[entry]"
    row = (
        f"while (k < {m.columns}) {{",
        "    ADD",
        f"    if (++entry == {entries}) break;",
        f"    k += 1 + (int){gap};",
        "}",
        f"k -= {m.columns};",
    )
    return Walk(("uint32_t entry = 0;", f"int k = (int){gap};"), row, m.w.at("entry"))


WALKS: Mapping[type[Encoding], Callable[[Matrix], Walk]] = {
    Csr: _csr,
    Block: _block,
    Bitmap: _bitmap,
    NofM: _n_of_m,
    Delta: _delta,
}
"""Encoding → how C walks over it."""


def is_sparse(layer: Layer) -> bool:
    """Whether the layer's weight is stored sparsely, and not so small that its zeros take less than the code."""
    how = layer.layout.graph.storage.get(layer.op.weight)
    if how is None or type(how.encoding) not in WALKS:
        return False
    weight, values = layer.layout.graph.stored(layer.op.weight), layer.weight(layer.op.weight)
    return values.nbytes > weight.nbytes + layer.layout.unpacked


def _matrix(layer: Layer) -> Matrix:
    """Defines the array of the layer's weights."""
    weight = layer.layout.graph.stored(layer.op.weight)
    parts = weight.encoding.split(weight.codes, weight.format)
    values = weight.format.decode(parts.codes)
    w = layer.stored("weight", layer.op.weight, values if len(values) else np.zeros(1, values.dtype))
    indices = {index.name: index for index in parts.indices}
    return Matrix(layer, weight.encoding, *extent(weight.codes.shape), indices, w)


def sparse_linear(layer: Layer) -> list[str]:
    """Lines of a Linear, its epilogue included."""
    return _rows(layer, (), f"{layer.x}[k]", f"{layer.y}[o]")


def sparse_conv2d(layer: Layer) -> list[str]:
    """Lines of a Conv2d on ``(H, W, C)``, its epilogue included."""
    op, (channels, height, width) = layer.op, layer.source_type.shape
    out, rows, cols = layer.node_type.shape
    _, group_in, _, kw = layer.weight(op.weight).shape
    group = "" if op.groups == 1 else f" + o / {out // op.groups} * {group_in}"
    place = (
        f"const int h = {coordinate('r', f'k / {kw * group_in}', op, 0)};",
        f"const int v = {coordinate('s', f'k / {group_in} % {kw}', op, 1)};",
    )
    inside = f"{layer.x}[(h * {width} + v) * {channels} + k % {group_in}{group}]"
    if any(op.padding):
        outside = f"h < 0 || h >= {height} || v < 0 || v >= {width}"
        inside = f"({outside} ? ({layer.source_element}){op.pad_value} : {inside})"
    return [
        f"for (int r = 0; r < {rows}; ++r)",
        f"for (int s = 0; s < {cols}; ++s) {{",
        *(f"    {line}" for line in _rows(layer, place, inside, f"{layer.y}[(r * {cols} + s) * {out} + o]")),
        "}",
    ]


def _rows(layer: Layer, place: tuple[str, ...], x: str, y: str) -> list[str]:
    """Lines that compute every output ``o`` of the rows.

    Args:
        place: declarations that ``x`` needs.
        x: C expression of the input of column ``k``.
        y: C expression of the output.
    """
    real = real_weights(layer)
    if not real:
        check_int_source(layer)
    m = _matrix(layer)
    walk = WALKS[type(m.encoding)](m)
    kind, start = ("float" if real else "uint32_t"), bias(layer)
    value = as_float(layer, x) if real else f"(int32_t){x}"
    product = f"{value} * {real_weight(layer, walk.weight)}" if real else f"(uint32_t)({value} * {walk.weight})"
    result = activated(layer, "sum") if real else requantized(layer)
    if walk.height == 1:
        return [
            *walk.start,
            f"for (int o = 0; o < {m.rows}; ++o) {{",
            f"    {kind} sum = {start};",
            *_body(walk, "o", [*place, f"sum += {product};"]),
            f"    {y} = {result};",
            "}",
        ]
    outputs = f"for (int i = 0; i < {walk.height} && block * {walk.height} + i < {m.rows}; ++i) {{"
    output = f"    const int o = block * {walk.height} + i;"
    return [
        *walk.start,
        f"for (int block = 0; block < {-(-m.rows // walk.height)}; ++block) {{",
        f"    {kind} sums[{walk.height}] = {{ 0 }};",
        *_body(
            walk,
            "block",
            [
                outputs,
                *([output] if " o " in x else []),
                *(f"    {line}" for line in place),
                f"    sums[i] += {product};",
                "}",
            ],
        ),
        f"    {outputs}",
        f"    {output}",
        f"        const {kind} sum = sums[i] + {start};",
        f"        {y} = {result};",
        "    }",
        "}",
    ]


def _body(walk: Walk, row: str, add: list[str]) -> list[str]:
    """The walk over one row with the lines ``add`` at each entry."""
    lines: list[str] = []
    for line in walk.row:
        indent = line.removesuffix("ADD")
        lines += [f"    {indent}{each}" for each in add] if line.endswith("ADD") else [f"    {line}"]
    return [line.replace("[ROW]", f"[{row}]") for line in lines]
