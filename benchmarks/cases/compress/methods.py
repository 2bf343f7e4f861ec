"""The methods ★ of the leaderboard: every recipe; on the teacher as it is, every number format and kind of range."""

from __future__ import annotations

from dataclasses import dataclass

from nimbleq.compress.passes.quantize import WEIGHTS
from nimbleq.compress.quantize.methods import METHODS as RANGES
from nimbleq.compress.search.ladder import RECIPES

_AS_IT_IS = ("fold", "prune=1", "fold")
_VECTORS = ("last-bytes", "tree", "axis-tree", "widths")
_PICTURES = ("mobilenet", "shufflenet")


@dataclass(frozen=True)
class Method:
    """A row of `METHODS`.

    Attributes:
        words: options of ``nimbleq compress``.
        pictures: whether it is for teachers that see pictures (None: for all).
    """

    words: tuple[str, ...]
    pictures: bool | None = None

    def suits(self, pictures: bool) -> bool:
        """Whether it can be tried."""
        return self.pictures in (None, pictures)


def _only(recipe: str) -> bool | None:
    return True if recipe in _PICTURES else False if recipe in _VECTORS else None


METHODS: dict[str, Method] = {
    **{name: Method(("--recipe", name), _only(name)) for name in RECIPES},
    **{f"teacher {name}": Method(("--passes", *_AS_IT_IS, name)) for name in WEIGHTS},
    **{f"teacher act4 {name}": Method(("--passes", *_AS_IT_IS, f"int8={name},act4")) for name in RANGES},
    "teacher int8 pow2": Method(("--passes", *_AS_IT_IS, "int8=pow2")),
    "teacher ternary encoded": Method(("--passes", *_AS_IT_IS, "ternary", "encode")),
}
"""Name → method."""
