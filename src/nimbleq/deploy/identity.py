"""The mark of an artefact in what is made from it: sixteen bytes of read-only data, found again in any binary file."""

from __future__ import annotations

MAGIC = b"nQid"
BYTES = 16
"""Of a mark: the magic, and the first twelve of the artefact's digest."""


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
