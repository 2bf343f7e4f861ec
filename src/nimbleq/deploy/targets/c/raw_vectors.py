"""Golden vectors as the environment gives them, for the self-test."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Self

import numpy as np

from nimbleq.deploy.target import Source
from nimbleq.deploy.targets.c import text
from nimbleq.deploy.targets.c.entries import Entry, entries, mask_member
from nimbleq.deploy.targets.c.raw import action_type, has_action, has_raw
from nimbleq.graph.golden import Golden
from nimbleq.graph.interface import Interface
from nimbleq.graph.inverse import raw_of


@dataclass(frozen=True, eq=False)
class RawVectors:
    """Attributes:
    golden: those vectors that an observation of the environment gives.
    interface: of the environment.
    raws: the observations.
    """

    golden: Golden
    interface: Interface
    raws: tuple[Any, ...]

    @classmethod
    def of(cls, source: Source, golden: Golden) -> Self | None:
        """None where there is no other form, or screens, of which a picture keeps too little to find them again."""
        interface = source.interface
        if interface is None or not has_raw(interface) or interface.frames is not None:
            return None
        raws = [raw_of(interface, obs) for obs in golden.obs]
        good = [at for at, raw in enumerate(raws) if raw is not None]
        if not good:
            return None
        mask = None if golden.mask is None else golden.mask[good]
        kept = Golden(golden.obs[good], golden.q[good], golden.action[good], mask)
        return cls(kept, interface, tuple(raws[at] for at in good))

    @property
    def arrays(self) -> list[str]:
        """The values of each entry, one observation after the other."""
        return [text.array(f"given_{part.name}", self._values(part), False) for part in entries(self.interface)]

    def _values(self, part: Entry) -> Any:
        return np.concatenate([part.values(raw) for raw in self.raws])

    def lines(self, name: str, legal: str) -> list[str]:
        """C that decides on vector ``i``: declares ``observation`` and ``action``."""
        members = [
            f"given_{part.name}[i]" if part.single else f"given_{part.name} + i * {part.count}"
            for part in entries(self.interface)
        ]
        inside = bool(mask_member(self.interface))
        members += [legal.removeprefix(", ")] if inside else []
        taken, more = "", []
        if has_action(self.interface):
            width = prod(self.interface.action_shape)
            more, taken = [f"{action_type(self.interface)} taken[{width}];"], ", taken"
        return [
            f"static {name}_state state;",
            f"const {name}_raw raw = {{{', '.join(members)}}};",
            *more,
            f"const int action = {name}_act_raw(&state, &raw{'' if inside else legal}{taken});",
            f"const {'uint8_t' if self.interface.obs.dtype == 'uint8' else 'float'} *const observation = state.obs;",
        ]
