"""HTML and SVG source that cannot be injected into: every plain string is escaped where it enters."""

from __future__ import annotations

import html
import re

Attribute = str | float | int | None

# Control characters, lone surrogates and bidirectional overrides: not allowed in XML, or able to reorder what is shown.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
_VOID = frozenset({"br", "hr", "link", "meta"})


class Markup(str):
    """Source that is safe as it stands. Only made by this module's functions (and from files of this package)."""

    __slots__ = ()


def escape(value: str) -> Markup:
    """Text as source; what is already `Markup` stays as it is."""
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(_UNSAFE.sub("\ufffd", value), quote=True))


def tag(element: str, *children: str, **attributes: Attribute) -> Markup:
    """``<element …>children</element>``.

    Attribute names: ``class_`` is ``class``, ``stroke_width`` is ``stroke-width``; None leaves an attribute out.
    """
    words = [element, *(_attribute(name, value) for name, value in attributes.items() if value is not None)]
    if element in _VOID:
        return Markup(f"<{' '.join(words)}>")
    return Markup(f"<{' '.join(words)}>{join(*children)}</{element}>")


def join(*parts: str) -> Markup:
    """Parts one after the other."""
    return Markup("".join(escape(part) for part in parts))


def number(value: float) -> str:
    """A coordinate: at most two decimals, no exponent."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _attribute(name: str, value: str | float) -> str:
    shown = escape(value) if isinstance(value, str) else number(value)
    return f'{name.rstrip("_").replace("_", "-")}="{shown}"'
