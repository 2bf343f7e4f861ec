"""An extension of griffe: `Annotated[T, …]` is shown as T, since what else stands in it is for the command line."""

from __future__ import annotations

from typing import Any

import griffe


class Unannotated(griffe.Extension):
    """The types of settings, as a person reads them."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Replace the annotation, before dataclasses are made of it."""
        kind = attr.annotation
        if isinstance(kind, griffe.ExprSubscript) and kind.canonical_path == "typing.Annotated":
            attr.annotation = next(iter(kind.slice.elements)) if isinstance(kind.slice, griffe.ExprTuple) else kind
