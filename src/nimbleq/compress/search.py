"""The search: among a ladder of sizes, the smallest candidate that passes selection and is then certified."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from math import ceil, log2, sqrt
from typing import Literal

import numpy as np

from nimbleq.compress.certify import Certificate, certify, check_keep, random_returns
from nimbleq.compress.distill import DistillConfig
from nimbleq.compress.noninferiority import ALPHA, Returns, plan
from nimbleq.compress.recipe import Context, Distill, Fold, FreezeNorms, Int8, Prune, Recipe, Student, apply, describe
from nimbleq.compress.result import Candidate, Compression, Status
from nimbleq.compress.states import compare_graphs
from nimbleq.errors import ConfigError
from nimbleq.graph import ops
from nimbleq.graph.cost import cost
from nimbleq.graph.graph import Graph
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.graph.rewrites.mask import with_mask, without_mask
from nimbleq.seeds import episode_seeds
from nimbleq.types import Array, Evaluate, Tick, no_tick

_ATTEMPT_SHARES = (0.6, 0.25, 0.15)
"""Alpha of each attempt to certify, as shares of 5 %. All attempts together err with at most 5 % (Bonferroni), so they
may share seeds: the teacher's episodes are played once."""
_LADDER: tuple[tuple[int, ...], ...] = (
    (), (4,), (8,), (16,), (12, 12), (16, 16), (24, 24), (32, 32), (48, 48), (64, 64), (96, 96), (128, 128),
)  # fmt: skip
_SHARES = (0.0625, 0.125, 0.25, 0.5)
_GOLDEN = 256


@dataclass(frozen=True)
class CompressConfig:
    """Attributes:
    keep: share of the teacher's return over random play to keep, in (0, 1].
    recipe: ``auto`` tries float32 and int8; or one of them only; or a tuple of passes that is the only candidate.
    hidden: widths of the students to try, from small to large (None: a ladder from a linear policy upward).
    seed: of students and of all episode seeds.
    select_episodes: paired episodes that a candidate has to pass before it may be certified.
    max_episodes: of the certificate.
    distill: settings of distillation.
    """

    keep: float = 0.99
    recipe: Literal["auto", "int8", "float32"] | Recipe = "auto"
    hidden: tuple[tuple[int, ...], ...] | None = None
    seed: int = 0
    select_episodes: int = 1_000
    max_episodes: int = 4_000
    distill: DistillConfig = field(default_factory=DistillConfig)


@dataclass(frozen=True)
class _Trial:
    """A recipe to try, with its name."""

    name: str
    recipe: Recipe


def compress(
    teacher: Graph, evaluate: Evaluate, config: CompressConfig | None = None, tick: Tick = no_tick
) -> Compression:
    """The smallest policy found that provably keeps ``config.keep`` of the teacher's return.

    The ladder of sizes is halved until the smallest that suffices is found. Each candidate plays the ``select`` seeds
    beside the teacher, and is dropped as soon as it is hopeless, or when its worst tenth loses what the mean hides. The
    smallest that passes is certified on ``certify``
    seeds; when that is refused, the next larger one gets what is left of the 5 % of error.

    Args:
        teacher: float policy.
        evaluate: plays episodes.
        tick: progress in candidates.

    Raises:
        ConfigError: a setting is out of range.
    """
    config = config or CompressConfig()
    check_keep(config.keep)
    if config.select_episodes < 2 or config.max_episodes < 2:
        raise ConfigError("select_episodes and max_episodes have to be at least 2")
    return _Search(teacher, evaluate, config, tick).run()


class _Search:
    """State of one search."""

    def __init__(self, teacher: Graph, evaluate: Evaluate, config: CompressConfig, tick: Tick) -> None:
        self.teacher, self.evaluate, self.config, self.tick = teacher, evaluate, config, tick
        self.context = Context(without_mask(teacher), evaluate, config.distill, config.seed)
        self.returns = Returns(GraphPolicy(teacher), evaluate)
        self.rand = random_returns(evaluate, config.seed)
        self.seeds = episode_seeds("select", config.seed, config.select_episodes)
        self.tried: list[Candidate] = []
        self.certificates: dict[str, Certificate] = {}  # by the candidate's name
        self.made = 0  # families

    def run(self) -> Compression:
        families = list(self._families())
        # Whether a size suffices is taken to grow with the size: halve the ladder instead of climbing it. The linear
        # policy comes first: it is cheap, and where it holds there is nothing to search.
        low, high, middle = 0, len(families), 0
        while low < high:
            if self._passing(families, middle):
                high = middle
            else:
                low = middle + 1
            middle = (low + high) // 2
        for number in range(high, len(families)):
            for best in self._passing(families, number):
                if not self._attempts_left():
                    return self._result(self._best_effort())
                if self._certify(best).certified:
                    return self._result(self._mark(best, "chosen"))
                self._mark(best, "refused")
        return self._result(self._best_effort())

    def _passing(self, families: list[tuple[_Trial, ...]], number: int) -> list[Candidate]:
        """The candidates of a family that pass selection, smallest first; made when they are asked for."""
        family = families[number]
        names = [trial.name for trial in family]
        if not any(candidate.name in names for candidate in self.tried):
            self.context.tick = partial(self._within, families=len(families), note=family[0].name)
            for trial in family:
                smaller = cost(apply(trial.recipe, self.context)).size_bytes
                # What is larger than a sibling that passes can never be chosen.
                if all(c.status != "passed" or smaller < c.size_bytes for c in self.tried if c.name in names):
                    self.tried.append(self._try(trial))
            self.made += 1
        passing = [c for c in self.tried if c.name in names and c.status == "passed"]
        return sorted(passing, key=lambda c: c.size_bytes)

    def _within(self, done: float, total: float, _: str = "", *, families: int, note: str) -> None:
        """Progress inside a family; the search is expected to make the linear one and a logarithm of the rest."""
        expected = max(2 + ceil(log2(families)), self.made + 1)
        self.tick(self.made + done / total, expected, note)

    def _families(self) -> Iterator[tuple[_Trial, ...]]:
        """Groups of candidates that share their expensive beginning, from small to large."""
        recipe = self.config.recipe
        if isinstance(recipe, tuple):
            yield (_Trial("recipe", recipe),)
            return
        if recipe not in ("auto", "int8", "float32"):
            raise ConfigError(f"there is no recipe {recipe!r}; choose from auto, int8, float32")
        affordable = cost(self.teacher).macs // 2
        if _is_mlp(self.teacher) or self.config.hidden is not None:
            for hidden in self.config.hidden or _LADDER:
                start: Recipe = (Student(hidden), Distill(), Fold())
                trials = self._formats("x".join(map(str, hidden)) or "linear", start)
                if self.config.hidden is not None or _mlp_macs(self.teacher, hidden) <= affordable:
                    yield trials
        else:
            for share in _SHARES:
                yield self._formats(f"pruned-{share:g}", (Fold(), FreezeNorms(), Prune(share), Distill(), Fold()))
        whole: Recipe = (Fold(), Prune(1.0), Fold())
        yield self._formats("teacher", whole)

    def _formats(self, name: str, start: Recipe) -> tuple[_Trial, ...]:
        """int8 first (a weight is smaller), then float32, as the recipe allows."""
        made = {"int8": _Trial(f"{name}-int8", (*start, Int8())), "float32": _Trial(f"{name}-float32", start)}
        return tuple(trial for kind, trial in made.items() if self.config.recipe in ("auto", kind))

    def _try(self, trial: _Trial) -> Candidate:
        """Make a candidate and play it on the selection seeds, in growing portions."""
        graph = apply(trial.recipe, self.context)
        if self.teacher.masked:
            graph = with_mask(graph)  # passes work on the values; what is judged and kept takes the mask
        compared = compare_graphs(self.teacher, graph, self.context.visited(graph))
        student = Returns(GraphPolicy(graph), self.evaluate)
        total = self.config.select_episodes
        status: Status = "failed"
        for played in sorted({max(2, total // part) for part in (30, 10, 3, 1)}):
            seeds = self.seeds[:played]
            teacher_return = self.returns(seeds)
            difference = student(seeds) - teacher_return
            margin = (1 - self.config.keep) * float(teacher_return.mean() - self.rand.mean())
            error = float(difference.std(ddof=1)) / sqrt(played)
            if float(difference.mean()) + 2 * error < -margin or margin < 0:
                break
        else:
            needed = plan(difference, max(margin, 0.0), self.config.keep, ALPHA * _ATTEMPT_SHARES[0])
            holds = needed.episodes <= self.config.max_episodes and tail_holds(student(seeds), teacher_return, margin)
            status = "passed" if holds else "failed"
        spent = cost(graph)
        return Candidate(
            name=trial.name,
            recipe=describe(trial.recipe),
            hidden=_hidden(graph),
            bits=min(
                8 * graph.weights[n.op.weight].itemsize
                for n in graph.nodes
                if isinstance(n.op, ops.Linear | ops.Conv2d)
            ),
            graph=graph,
            size_bytes=spent.size_bytes,
            macs=spent.macs,
            returns=student(self.seeds[:played]),
            agreement=compared.agreement,
            regret=compared.regret,
            status=status,
        )

    def _attempts_left(self) -> bool:
        return len(self.certificates) < len(_ATTEMPT_SHARES)

    def _certify(self, candidate: Candidate) -> Certificate:
        alpha = ALPHA * _ATTEMPT_SHARES[len(self.certificates)]
        self.certificates[candidate.name] = certify(
            self.teacher,
            candidate.graph,
            self.evaluate,
            self.config.keep,
            nonce=self.config.seed,
            alpha=alpha,
            max_episodes=self.config.max_episodes,
            teacher_returns=self.returns,
            rand=self.rand,
        )
        return self.certificates[candidate.name]

    def _mark(self, candidate: Candidate, status: Status) -> Candidate:
        marked = replace(candidate, status=status)
        self.tried[[c.name for c in self.tried].index(candidate.name)] = marked
        return marked

    def _best_effort(self) -> Candidate:
        """Nothing holds: the refusal that came closest, or else the refusal of what did best on the selection seeds."""
        refused = [c for c in self.tried if c.name in self.certificates]
        if refused:
            return max(refused, key=lambda c: self.certificates[c.name].difference_lower95)
        best = max(self.tried, key=lambda c: (len(c.returns), float(c.returns.mean())))
        certificate = self._certify(best)
        return self._mark(best, "chosen" if certificate.certified else "refused")

    def _result(self, chosen: Candidate) -> Compression:
        certificate = self.certificates[chosen.name]
        linear = next((c for c in self.tried if not c.hidden), None) or self._try(
            _Trial("linear-float32", (Student(()), Distill(), Fold()))
        )
        teacher_cost = cost(self.teacher)
        obs = self.context.visited(chosen.graph)
        return Compression(
            best=chosen,
            certificate=certificate,
            candidates=tuple(sorted(self.tried, key=lambda c: c.size_bytes)),
            linear=linear,
            golden_obs=obs[np.linspace(0, len(obs) - 1, min(_GOLDEN, len(obs))).astype(np.int64)],
            teacher_size_bytes=teacher_cost.size_bytes,
            teacher_macs=teacher_cost.macs,
            teacher_return_mean=certificate.teacher_return_mean,
        )


def tail_holds(student: Array, teacher: Array, margin: float) -> bool:
    """Whether the worst tenth of the episodes lost no more than ``margin`` either, by two standard errors.

    A mean can be kept while a few episodes are lost altogether; nobody who ships a policy means that by "kept".

    Args:
        student, teacher: ``[n]`` returns; the tenths are taken of each by itself.
    """
    count = max(2, len(student) // 10)
    own, other = np.sort(student)[:count], np.sort(teacher)[:count]
    error = sqrt((float(own.var(ddof=1)) + float(other.var(ddof=1))) / count)
    return float(own.mean() - other.mean()) >= -margin - 2 * error


def _is_mlp(graph: Graph) -> bool:
    return not any(isinstance(node.op, ops.Conv2d) for node in graph.nodes)


def _hidden(graph: Graph) -> tuple[int, ...]:
    widths = [graph.types[n.output].shape[0] for n in graph.nodes if isinstance(n.op, ops.Linear | ops.Conv2d)]
    return tuple(widths[:-1])


def _mlp_macs(teacher: Graph, hidden: tuple[int, ...]) -> int:
    """Multiply-accumulates of a student of these widths."""
    return sum(a * b for a, b in pairwise((teacher.obs_type.size, *hidden, teacher.actions)))
