"""What a cell of the leaderboard is measured with: when that changes, the cell is measured again."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.cases.compress.measure import SCRATCH
from benchmarks.cases.compress.methods import METHODS
from benchmarks.cases.compress.peers import EPISODES
from benchmarks.cases.compress.peers import ROWS as PEERS
from benchmarks.cases.compress.teachers import TEACHERS, Teacher
from nimbleq.files import sha256

_PROTOCOL = "1"
"""Changed by hand where the code of the leaderboard measures something else than before."""


def settings_of(teacher: str, method: str, teachers: Mapping[str, Teacher] = TEACHERS) -> str:
    """Stands for the options of training, of the method, and those of what all methods share that it heeds."""
    row = teachers[teacher]
    own = METHODS[method].words if method in METHODS else PEERS.get(method, ())
    pairs = list(zip(row.compress[::2], row.compress[1::2], strict=True))
    if method in PEERS:
        pairs = [("episodes", str(EPISODES)), *(pair for pair in pairs if pair[0].startswith("--distill."))]
    if not own and method != SCRATCH:
        pairs = []  # the teacher itself
    if not teaches(method):
        pairs = [pair for pair in pairs if not pair[0].startswith("--distill.")]
    words = (_PROTOCOL, *row.train, "", *(word for pair in pairs for word in pair), "", *own)
    return sha256("\n".join(words).encode())[:12]


def teaches(method: str) -> bool:
    """Whether it heeds the options of distillation; a teacher in another number format, for one, does not."""
    if method in METHODS:
        words = METHODS[method].words
        return words[0] != "--passes" or any(word.startswith(("distill", "qat", "finetune")) for word in words[1:])
    return method == SCRATCH or PEERS.get(method, ("",))[0] == "torch-pruning"
