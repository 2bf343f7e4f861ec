"""A console's screens in C: grey, the larger of two, resized by area as OpenCV does it, stacked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.deploy.targets.c import text as c_text
from nimbleq.graph.frames import GREY, Axis, Frames, axis, margin
from nimbleq.graph.interface import Interface
from nimbleq.graph.space import Box


@dataclass(frozen=True, eq=False)
class Screens:
    """Attributes:
    frames: how screens are read.
    shape: ``(S, height, width)`` of the stack.
    """

    frames: Frames
    shape: tuple[int, ...]

    @classmethod
    def of(cls, interface: Interface) -> Screens:
        """Of an interface with frames."""
        assert isinstance(interface.space, Box)
        assert interface.frames is not None
        return cls(interface.frames, interface.space.shape)

    @property
    def members(self) -> tuple[str, ...]:
        """Of the observation."""
        sides = " x ".join(map(str, self.frames.shape))
        skip = self.frames.skip
        return (
            f"    {'const uint8_t *before;':<32} /* uint8 {sides}: the last but one of the last action's {skip} */",
            f"    {'const uint8_t *screen;':<32} /* the last of them; at the start of an episode both are its first */",
        )

    @property
    def largest(self) -> int:
        """What an ``int`` has to count to."""
        return self.frames.height * self.frames.width * self.frames.colours

    def _axes(self) -> tuple[Axis, Axis]:
        return axis(self.frames.height, self.shape[1]), axis(self.frames.width, self.shape[2])

    def constants(self) -> list[str]:
        """The shares of each axis."""
        made = []
        for name, one in zip(("row", "column"), self._axes(), strict=True):
            kind = np.uint8 if one.parts.max() < 256 else np.uint16
            made += [
                c_text.array(f"nq_{name}_first", one.first.astype(np.int16), False),
                c_text.array(f"nq_{name}_parts", one.parts.astype(kind), False),
                c_text.array(f"nq_{name}_shares", one.floats, False),
            ]
        return made

    @property
    def functions(self) -> list[str]:
        """Grey of a pixel, and the mean of an area."""
        rows, columns = self._axes()
        (down, across), width = (rows.parts.shape[1], columns.parts.shape[1]), self.frames.width
        red, green, blue = GREY
        if self.frames.colours == 3:
            grey = f"""/* Grey of the pixel at `at`: 0.2989 red + 0.587 green + 0.114 blue, to the nearest. */
static int nq_grey(const uint8_t *screen, const int at)
{{
    const uint8_t *const pixel = screen + 3 * (int32_t)at;
    const uint32_t mixed = {red}u * pixel[0] + {green}u * pixel[1] + {blue}u * pixel[2];
    const uint32_t level = (mixed + 5000u) / 10000u;
    return level < 255 ? (int)level : 255;
}}
"""
        else:
            grey = """static int nq_grey(const uint8_t *screen, const int at)
{
    return screen[at];
}
"""
        total, near = rows.total * columns.total, margin(rows, columns)
        between = f"from_tie >= -{near} && from_tie <= {near}" if near else "from_tie == 0"
        inside = f"&& left + j < {width}" if (columns.first + across > width).any() else ""
        below = f" && top + i < {self.frames.height}" if (rows.first + down > self.frames.height).any() else ""
        return [
            grey,
            f"""/* The pixel of the last two screens that is larger. */
static int nq_larger(const nq_raw *raw, const int at)
{{
    const int one = nq_grey(raw->before, at), other = nq_grey(raw->screen, at);
    return one > other ? one : other;
}}

/* sum + pixel share, each rounded to float, also where the compiler would fuse them or use more bits. */
static float nq_more(const float sum, const float pixel, const float share)
{{
    const volatile float part = pixel * share;
    const volatile float made = sum + part;
    return made;
}}

/* The mean over an area in float, added up as OpenCV's INTER_AREA does: decides where the exact mean is a tie. */
static uint8_t nq_mean_as_opencv(const nq_raw *raw, const int y, const int x)
{{
    const int top = nq_row_first[y], left = nq_column_first[x];
    float mean = 0.0f;
    for (int i = 0; i < {down}{below}; ++i) {{
        float line = 0.0f;
        for (int j = 0; j < {across}{" " + inside if inside else ""}; ++j)
            line = nq_more(
                line, (float)nq_larger(raw, (top + i) * {width} + left + j), nq_column_shares[x * {across} + j]);
        mean = nq_more(mean, line, nq_row_shares[y * {down} + i]);
    }}
    const int whole = (int)mean;
    const float rest = mean - (float)whole;
    return (uint8_t)(whole + (rest > 0.5f || (!(rest < 0.5f) && whole % 2 == 1)));
}}

/* The mean over an area, to the nearest level. */
static uint8_t nq_mean(const nq_raw *raw, const int y, const int x)
{{
    const int top = nq_row_first[y], left = nq_column_first[x];
    int32_t sum = 0;
    for (int i = 0; i < {down}{below}; ++i)
        for (int j = 0; j < {across}{" " + inside if inside else ""}; ++j)
            sum += (int32_t)nq_larger(raw, (top + i) * {width} + left + j)
                * ((int32_t)nq_row_parts[y * {down} + i] * nq_column_parts[x * {across} + j]);
    const int32_t level = sum / {total}, from_tie = 2 * (sum % {total}) - {total};
    if ({between}) return nq_mean_as_opencv(raw, y, x);
    return (uint8_t)(level + (from_tie > 0));
}}
""",
        ]

    @property
    def code(self) -> list[str]:
        """Lines that add a picture to the stack ``obs``."""
        stack, height, width = self.shape
        return [
            f"for (int32_t i = 0; i < {(stack - 1) * height * width}; ++i) obs[i] = obs[i + {height * width}];",
            f"for (int y = 0; y < {height}; ++y)",
            f"    for (int x = 0; x < {width}; ++x)",
            f"        obs[{(stack - 1) * height * width} + y * {width} + x] = nq_mean(raw, y, x);",
        ]
