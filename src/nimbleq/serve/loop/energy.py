"""Energy that the processor says it took: RAPL, where the kernel lets us read it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Meter:
    """The packages of a machine: everything on them, idle cores and other programs included.

    Attributes:
        zones: counter, and where it wraps around, both in microjoules.
        why_not: one line where there is nothing to read.
    """

    zones: tuple[tuple[Path, int], ...]
    why_not: str = ""

    @classmethod
    def here(cls, root: Path = POWERCAP) -> Meter:
        """That of this machine."""
        zones = []
        for zone in sorted(root.glob("intel-rapl:?")) if root.is_dir() else []:
            try:
                int((zone / "energy_uj").read_text())
                zones.append((zone / "energy_uj", int((zone / "max_energy_range_uj").read_text())))
            except PermissionError:
                return cls((), f"{zone / 'energy_uj'} may be read by root only")
            except (OSError, ValueError):
                continue
        return cls(tuple(zones), "" if zones else f"this machine shows no RAPL counters in {root}")

    def read(self) -> list[int]:
        """Microjoules of each zone."""
        return [int(path.read_text()) for path, _ in self.zones]

    def joules(self, before: list[int], after: list[int]) -> float | None:
        """Between two readings less than one turn of the counters apart; None where nothing can be read."""
        if not self.zones:
            return None
        spans = [span for _, span in self.zones]
        return sum((b - a) % (span + 1) for a, b, span in zip(before, after, spans, strict=True)) / 1e6
