"""The attempts of a run: every claim that was begun about a student, with the number that decides its share of α."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nimbleq.errors import FileError
from nimbleq.files import read_json, write_json


@dataclass(frozen=True)
class FixedSequence:
    """A claim about students that are judged one after the other.

    Attributes:
        students: their hashes, in that order.
        teacher: its hash.
        keep, low, high: share of the return to keep, and the range of returns.
    """

    students: tuple[str, ...]
    teacher: str
    keep: float
    low: float
    high: float


Number = Callable[[FixedSequence, int], int]
"""``(claim, least) → number of its attempt``, at least ``least``."""


def in_order(claim: FixedSequence, least: int) -> int:
    """Nothing is known of earlier attempts."""
    return least


@dataclass(frozen=True)
class Attempts:
    """``attempts.json`` of a run. It outlives the artefacts, which another search may replace: without it a policy that
    was refused could be judged again at the full share of α, or under a range chosen after its returns were seen."""

    path: Path

    def last(self, *students: str) -> int:
        """Number of the last attempt about any of these students; 0 when there was none.

        Raises:
            FileError: the file is damaged.
        """
        return max((number for claim, number in self._begun() if set(claim.students) & set(students)), default=0)

    def number(self, claim: FixedSequence, least: int = 1) -> int:
        """The number of this very claim if it was begun before (it plays the same seeds), else the next one, noted.

        Raises:
            FileError: the file is damaged, or cannot be written.
        """
        begun = self._begun()
        known = [number for one, number in begun if one == claim and number >= least]
        if known:
            return max(known)
        number = max(least, 1 + self.last(*claim.students))
        self.note(claim, number)
        return number

    def note(self, claim: FixedSequence, number: int) -> None:
        """Add an attempt.

        Raises:
            FileError: it cannot be written.
        """
        rows = [*self._begun(), (claim, number)]
        write_json(self.path, [{**asdict(one), "attempt": attempt} for one, attempt in rows])

    def _begun(self) -> list[tuple[FixedSequence, int]]:
        if not self.path.exists():
            return []
        rows: Any = read_json(self.path)
        try:
            return [
                (
                    FixedSequence(
                        tuple(map(str, row["students"])), str(row["teacher"]),
                        float(row["keep"]), float(row["low"]), float(row["high"]),
                    ),
                    int(row["attempt"]),
                )
                for row in rows
            ]  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise FileError(f"{self.path} is damaged ({error!r}): it lists the attempts at a certificate") from None
