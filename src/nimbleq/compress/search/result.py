"""What a search for a smaller policy gives back."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal

from nimbleq.compress.certify.certificate import Certificate
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph
from nimbleq.types import Array

Status = Literal["failed", "passed", "refused", "chosen"]


@dataclass(frozen=True, eq=False)
class Candidate:
    """One thing that was tried.

    Attributes:
        name: short and unique.
        recipe: passes in words.
        hidden: widths of its layers before the last.
        bits: of its weights.
        graph: the policy.
        size_bytes, macs: what it costs.
        returns: ``float64[E]`` on the first ``E`` selection seeds; fewer when it was hopeless early.
        agreement, regret: beside the teacher, on states that the candidate visits.
        status: ``failed`` selection, ``passed`` it, ``refused`` the certificate, or ``chosen``.
        why: it failed or was refused; empty otherwise.
        advice: what would help; empty when nothing is known to.
    """

    name: str
    recipe: str
    hidden: tuple[int, ...]
    bits: int
    graph: Graph
    size_bytes: int
    macs: int
    returns: Array
    agreement: float
    regret: float
    status: Status
    why: str = ""
    advice: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, the graph left out; the latency is for the one who measures it."""
        mean, half = float(self.returns.mean()), 1.96 * float(self.returns.std(ddof=1)) / sqrt(len(self.returns))
        return {
            "name": self.name,
            "recipe": self.recipe,
            "hidden": list(self.hidden),
            "bits": self.bits,
            "size_bytes": self.size_bytes,
            "macs": self.macs,
            "episodes": len(self.returns),
            "return_mean": mean,
            "return_ci95": [mean - half, mean + half],
            "agreement": self.agreement,
            "regret": self.regret,
            "latency_us": None,
            "status": self.status,
            "why": self.why,
            "advice": self.advice,
        }


@dataclass(frozen=True)
class Compression:
    """Result of `compress_policy`.

    Attributes:
        best: the chosen candidate; when nothing was certified, the best that was tried (see ``certificate``).
        certificate: of ``best``.
        candidates: all that was tried, smallest first.
        linear: the linear policy, always tried, as a baseline; None of a teacher that remembers.
        golden_obs: ``[K, *O]`` states that ``best`` visits.
        teacher_size_bytes, teacher_macs: cost of the teacher.
        teacher_return_mean: on the seeds of the certificate.
    """

    best: Candidate
    certificate: Certificate
    candidates: tuple[Candidate, ...]
    linear: Candidate | None
    golden_obs: Array
    teacher_size_bytes: int
    teacher_macs: int
    teacher_return_mean: float

    def to_dict(self) -> dict[str, Any]:
        """The ``compress`` result without the artefact's place and the time it took."""
        return {
            "size_bytes": self.best.size_bytes,
            "teacher_size_bytes": self.teacher_size_bytes,
            "macs": self.best.macs,
            "teacher_macs": self.teacher_macs,
            "return_mean": float(self.certificate.returns.student.mean()),
            "teacher_return_mean": self.teacher_return_mean,
            "random_return_mean": float(self.certificate.returns.random.mean()),
            "keep": self.certificate.claim.keep,
            "certified": self.certificate.certified,
            "reason": self.certificate.reason,
            "wealth": self.certificate.verdict.wealth,
            "episodes": self.certificate.verdict.episodes,
            "return_range": list(self.certificate.claim.return_range.ends),
            "candidates": [candidate.to_dict() for candidate in self.candidates],
            "baselines": {"linear": None if self.linear is None else self.linear.to_dict(), "scratch": None},
        }


def hidden_widths(graph: Graph) -> tuple[int, ...]:
    """Units or channels of the layers before the last."""
    widths = [graph.types[n.output].shape[0] for n in graph.nodes if isinstance(n.op, ops.Linear | ops.Conv2d)]
    return tuple(widths[:-1])


def weight_bits(graph: Graph) -> int:
    """Bits of a weight in the layer (of a threshold in a tree) that has the fewest."""
    names = [node.op.weight for node in graph.nodes if isinstance(node.op, ops.Linear | ops.Conv2d)]
    names += [node.op.threshold for node in graph.nodes if isinstance(node.op, ops.AxisTree)]
    names += [node.op.split for node in graph.nodes if isinstance(node.op, ops.ObliqueTree)]
    return min(graph.stored(name).format.bits for name in names)


def is_linear(graph: Graph) -> bool:
    """Whether a single Linear is all that decides."""
    deciding = ops.Linear | ops.Conv2d | ops.ObliqueTree | ops.AxisTree
    layers = [node.op for node in graph.nodes if isinstance(node.op, deciding)]
    return len(layers) == 1 and isinstance(layers[0], ops.Linear)
