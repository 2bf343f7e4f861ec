"""What plays an artefact when it is judged."""

from __future__ import annotations

from typing import cast

from nimbleq.graph.artefact import Artefact
from nimbleq.graph.guard_codec import guard_hash
from nimbleq.graph.guard_state import GuardedPolicy
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.types import Policy


def playing(student: Artefact) -> tuple[Policy, str]:
    """Its network, behind its guard if it has one, and the hash of all that decides what it answers."""
    from nimbleq.compress.certify.stream import graph_hash

    own = graph_hash(student.graph)
    if student.guard is None:
        return GraphPolicy(student.graph), own
    return cast(Policy, GuardedPolicy(student.graph, student.guard)), guard_hash(student.guard, own)
