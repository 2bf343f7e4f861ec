"""Candidates on disk: a search that is stopped goes on with those that it has made and played."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from nimbleq.compress.search.result import Candidate
from nimbleq.errors import FileError
from nimbleq.graph.artefact import load_artefact, save_artefact
from nimbleq.graph.graph import Graph
from nimbleq.graph.tensor import Float32
from nimbleq.types import Array

_FACTS = {field.name for field in fields(Candidate)} - {"name", "graph", "returns", "hidden"}


@dataclass(frozen=True)
class Played:
    """A finished candidate, with the teacher's returns on the seeds that it played and perhaps more, ``float64[E]``."""

    candidate: Candidate
    teacher: Array


@dataclass(frozen=True)
class Store:
    """``folder/NAME/`` is the artefact of a candidate; ``provenance.json`` in it has its returns, once it has played.

    One folder belongs to one search: same teacher, same settings, same environment.
    """

    folder: Path

    def graph(self, name: str) -> Graph | None:
        """The policy of a candidate; None where it has not been made.

        Raises:
            FileError: it is damaged.
        """
        path = self.folder / name
        return load_artefact(path).graph if path.exists() else None

    def save_graph(self, name: str, graph: Graph) -> None:
        """Raises `FileError` where it cannot be written."""
        self._save(name, graph, {})

    def played(self, name: str) -> Played | None:
        """A candidate that has played; None where it has not.

        Raises:
            FileError: it is damaged.
        """
        path = self.folder / name
        if not path.exists():
            return None
        stored = load_artefact(path)
        facts: Any = stored.provenance.get("candidate")
        if facts is None:
            return None
        try:
            student, teacher = (np.array(facts[key], np.float64) for key in ("returns", "teacher_returns"))
            plain = {key: facts[key] for key in _FACTS}
            candidate = Candidate(
                name=name, graph=stored.graph, returns=student, hidden=tuple(facts["hidden"]), **plain
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise FileError(f"{path} is not a candidate of this nimbleq ({error}): delete that folder") from None
        return Played(candidate, teacher)

    def save_played(self, played: Played) -> None:
        """Raises `FileError` where it cannot be written."""
        made = played.candidate
        facts = {key: getattr(made, key) for key in _FACTS} | {"hidden": list(made.hidden)}
        returns = {"returns": made.returns.tolist(), "teacher_returns": played.teacher.tolist()}
        self._save(made.name, made.graph, {"candidate": facts | returns})

    def _save(self, name: str, graph: Graph, facts: dict[str, Any]) -> None:
        """The golden observation is one of zeros: nothing but this search reads the folder."""
        dtype = np.float32 if isinstance(graph.obs_type.qtype, Float32) else np.uint8
        save_artefact(self.folder / name, graph, np.zeros((1, *graph.obs_type.shape), dtype), facts)
