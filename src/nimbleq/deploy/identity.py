"""The mark of an artefact in what is made from it: eight bytes of read-only data, found again in any binary file.

The first four say that it is a mark, the last four are the beginning of the artefact's digest. In 1 MB of random bytes
something looks like a mark once in 4,000 files (2^20 places, 2^-32 each); two of 1,000 artefacts share a mark with a
chance of 1.2e-4 (n² / 2^33), and then `nimbleq identify` names both. It tells artefacts apart, it does not
prove anything: who wants to can write any mark into a file.
"""

from __future__ import annotations

MAGIC = b"nQid"
BYTES = 8
"""Of a mark: the magic, and the first four of the artefact's digest."""


def mark(digest: str) -> bytes:
    """The mark of the artefact with a SHA-256 ``digest`` in hexadecimal."""
    return MAGIC + bytes.fromhex(digest)[: BYTES - len(MAGIC)]


def marks(data: bytes) -> tuple[str, ...]:
    """Beginnings of digests, in hexadecimal, of the marks in a binary file; each once, in order."""
    found, at = [], data.find(MAGIC)
    while at >= 0:
        whole = data[at : at + BYTES]
        if len(whole) == BYTES:
            found.append(whole[len(MAGIC) :].hex())
        at = data.find(MAGIC, at + 1)
    return tuple(dict.fromkeys(found))
