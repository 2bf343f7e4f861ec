"""The search: among a ladder of sizes, the smallest candidate that passes selection and is then certified."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import takewhile
from math import ceil, log2

import numpy as np

from nimbleq.compress.certify.attempts import FixedSequence, Number, in_order
from nimbleq.compress.certify.certificate import Certificate, Claim
from nimbleq.compress.certify.forecast import Pilot
from nimbleq.compress.certify.judge import play_on, start_of
from nimbleq.compress.certify.ranges import ReturnRange, observed_range
from nimbleq.compress.certify.stream import Player, Players, graph_hash, random_player, stream_nonce
from nimbleq.compress.certify.wealth import ALPHA
from nimbleq.compress.passes.context import Context
from nimbleq.compress.passes.recipe import apply, describe
from nimbleq.compress.search.config import CompressConfig, check_config
from nimbleq.compress.search.ladder import Ladder, Trial, ladders, trials
from nimbleq.compress.search.limits import Measure
from nimbleq.compress.search.result import Candidate, Compression, Status, hidden_widths, is_linear, weight_bits
from nimbleq.compress.search.rungs import student_family
from nimbleq.compress.search.select import LARGER, clearly_no_worse, falls_short, hopeless, out_of_reach
from nimbleq.compress.search.store import Played, Store
from nimbleq.errors import ConfigError
from nimbleq.graph.cost import cost
from nimbleq.graph.graph import Graph
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.graph.rewrites.floats import with_float_weights
from nimbleq.graph.rewrites.mask import with_mask, without_mask
from nimbleq.seeds import episode_seeds
from nimbleq.types import Evaluate, Tick, no_tick

_SEQUENCE = 3
"""Candidates of one attempt: judged from the largest to the smallest, each at the attempt's full α, until one fails
(a fixed-sequence test: the first false claim in the order is the only one that can be certified first)."""
_ATTEMPTS = 3
"""Fixed sequences that a search may judge; each has its share of α and seeds of its own."""
_RANDOM_EPISODES = 200
_FEWEST = 200
"""Episodes before a candidate is taken for good; and of one that is judged only to say how far it is from a
certificate."""
_GOLDEN = 256
_PATIENCE_S = 1_800.0
(_CONTROL,) = trials(student_family(()), ("float32",))


OnStart = Callable[[str, Certificate], None]
OnCandidate = Callable[[Candidate], None]


def compress_policy(
    teacher: Graph,
    evaluate: Evaluate,
    config: CompressConfig | None = None,
    tick: Tick = no_tick,
    on_start: OnStart | None = None,
    store: Store | None = None,
    measure: Measure | None = None,
    on_candidate: OnCandidate | None = None,
    number: Number = in_order,
    control: Store | None = None,
) -> Compression:
    """The smallest policy found that provably keeps ``config.keep`` of the teacher's return.

    Each ladder of sizes is halved until the smallest that suffices is found; what exceeds a limit counts as if it did,
    and is not played; nor is what must be larger than one that suffices. Each candidate plays the ``select`` seeds
    beside the teacher, and is dropped as soon as it is hopeless, or when its worst tenth loses what the mean hides.
    Then the smallest that pass are put into a fixed order, largest first, and certified one after the other on seeds
    that follow from their hashes, until one is not certified; the last one before it is the result. When the first is
    refused already, larger candidates get further attempts on new seeds.

    Args:
        teacher: float policy.
        evaluate: plays episodes.
        tick: progress in candidates.
        on_start: receives a candidate's name and its certificate, with the forecast, before it is judged.
        store: takes each candidate as it is finished, and gives those of an earlier search for the same.
        measure: of the cost that ``config.limits`` bounds.
        on_candidate: receives each candidate that has played.
        number: of an attempt, where some of these policies may have been judged before.
        control: keeps the linear policy that every result shows, and the teacher's returns, for the next search of the
            same teacher.

    Raises:
        ConfigError: a setting is out of range, no candidate could be certified with so few episodes, or every one
            exceeds a limit.
        FileError: what is stored is damaged, or cannot be written.
    """
    config = config or CompressConfig()
    check_config(config)
    return _Search(teacher, evaluate, config, tick, on_start, store, measure, on_candidate, number, control).run()


class _Search:
    """State of one search."""

    def __init__(
        self,
        teacher: Graph,
        evaluate: Evaluate,
        config: CompressConfig,
        tick: Tick,
        on_start: OnStart | None,
        store: Store | None,
        measure: Measure | None,
        on_candidate: OnCandidate | None,
        number: Number,
        control: Store | None,
    ) -> None:
        self.teacher, self.evaluate, self.config, self.tick = teacher, evaluate, config, tick
        self.on_start, self.store, self.measure, self.on_candidate = on_start, store, measure, on_candidate
        self.number, self.control = number, control
        # What passes make is judged with `evaluate`; on the way they may play something cheaper.
        cheaper = getattr(evaluate, "low_fidelity", evaluate) if config.distill.low_fidelity else evaluate
        self.context = Context(without_mask(teacher), cheaper, config.distill, config.seed, direct=config.direct)
        seeds = episode_seeds("random", config.seed, _RANDOM_EPISODES)
        self.rand = random_player(evaluate)(seeds)
        self.returns = Player(GraphPolicy(teacher), evaluate, float(self.rand.min()))
        self.seeds = episode_seeds("select", config.seed, config.select_episodes)
        self.tried: list[Candidate] = []
        self.certificates: dict[str, Certificate] = {}  # by the candidate's name
        self.attempts = 0
        self.made = self.families = 0
        self.episode_seconds = 0.0
        self.too_large: dict[str, str] = {}  # candidates that exceed a limit, by name: which

    def run(self) -> Compression:
        self._check_reach()
        self._recall()
        ladders = self._ladders()
        self.families = sum(map(len, ladders))
        larger = [family for ladder in ladders for family in self._halve(ladder)]
        larger.sort(key=lambda family: family[0].about_bytes)
        judged = 0  # bytes of the largest that was refused
        while self.attempts < _ATTEMPTS:
            sequence = self._passed(judged)[:_SEQUENCE] or self._climb(larger, judged)
            if not sequence:
                break
            chosen = self._certify(sequence[::-1])
            if chosen is not None:
                return self._result(self._mark(chosen, "chosen"))
            judged = max(c.size_bytes for c in sequence)
        if not self.tried:
            name, why = next(iter(self.too_large.items()))  # the first is the smallest
            raise ConfigError(f"nothing that is asked for is small enough: {name} has {why}")
        return self._result(self._best_effort())

    def _recall(self) -> None:
        """The teacher's returns that an earlier search has played."""
        known = self.control.played(_CONTROL.name) if self.control else None
        if known is not None:
            self.returns.known.update(zip(self.seeds.tolist(), known.teacher.tolist(), strict=False))

    def _linear(self) -> Candidate | None:
        """The linear policy that the result shows: one of the candidates, that of an earlier search, or a new one; none
        of a teacher that remembers, as single observations do not say what it would do."""
        if self.teacher.units:
            return None
        found = next((c for c in self.tried if is_linear(c.graph)), None)
        known = self.control.played(_CONTROL.name) if self.control and found is None else None
        found = found or (known.candidate if known else self._try(_CONTROL))
        if self.control and known is None and found.name == _CONTROL.name:
            played = [
                self.returns.known[seed] for seed in takewhile(self.returns.known.__contains__, self.seeds.tolist())
            ]
            self.control.save_played(Played(found, np.array(played)))
        return found

    def _halve(self, ladder: Ladder) -> Ladder:
        """Try families until the smallest of the ladder that suffices is found; that and the larger ones.

        Whether a size suffices is taken to grow with the size, so the ladder is halved. Its smallest comes first: it is
        cheap, and where it holds there is nothing to search. What must be larger than one that passes is not made.
        """
        low, high, middle = 0, len(ladder), 0
        while low < high:
            passed = self._passed()
            needless = passed and ladder[middle][0].about_bytes >= passed[0].size_bytes
            if needless or self._passing(ladder[middle]) or self._all_too_large(ladder[middle]):
                high = middle
            else:
                low = middle + 1
            middle = (low + high) // 2
        return ladder[high:]

    def _all_too_large(self, family: tuple[Trial, ...]) -> bool:
        return all(trial.name in self.too_large for trial in family)

    def _passed(self, above: int = -1) -> list[Candidate]:
        """What has passed selection and has more than ``above`` bytes, smallest first."""
        passed = (c for c in self.tried if c.status == "passed" and c.size_bytes > above)
        return sorted(passed, key=lambda c: c.size_bytes)

    def _climb(self, families: Ladder, above: int) -> list[Candidate]:
        """The candidates of the next family that pass and have more than ``above`` bytes."""
        for family in families:
            if found := [c for c in self._passing(family) if c.size_bytes > above]:
                return found
        return []

    def _passing(self, family: tuple[Trial, ...]) -> list[Candidate]:
        """The candidates of a family that pass selection, smallest first; made when they are asked for."""
        names = [trial.name for trial in family]
        if not self._all_too_large(family) and not any(candidate.name in names for candidate in self.tried):
            self.context.tick = partial(self._within, note=family[0].name)
            for trial in family:
                passed = {c.name for c in self.tried if c.status == "passed"}
                if (trial.after and trial.after not in passed) or passed.intersection(trial.unless):
                    continue
                graph = self._make(trial)
                size_bytes = cost(graph).size_bytes
                if exceeded := self.config.limits.exceeded(graph, self.measure):
                    self.too_large[trial.name] = exceeded
                    continue
                # What is larger than a sibling that passes can never be chosen.
                if all(c.status != "passed" or size_bytes < c.size_bytes for c in self.tried if c.name in names):
                    self.tried.append(self._try(trial))
            self.made += 1
        passing = [c for c in self.tried if c.name in names and c.status == "passed"]
        return sorted(passing, key=lambda c: c.size_bytes)

    def _within(self, done: float, total: float, words: str = "", *, note: str) -> None:
        """Progress inside a family; the search is expected to make the linear one and a logarithm of the rest."""
        expected = max(2 + ceil(log2(self.families)), self.made + 1)
        self.tick(self.made + done / total, expected, f"{note}: {words}" if words else note)

    def _ladders(self) -> list[Ladder]:
        """Ladders of families, which share their expensive beginning, each from small to large."""
        recipe = self.config.recipe
        if not isinstance(recipe, str):
            return [[(Trial("recipe", recipe),)]]
        found = ladders(with_float_weights(self.teacher), recipe, self.config.hidden or None)
        if recipe != "auto":
            return found
        # What plays for long has to be asked for by name.
        return [
            [family for family in each if family[0].episodes * self.episode_seconds < _PATIENCE_S] for each in found
        ]

    def _check_reach(self) -> None:
        """Raise `ConfigError` where even a candidate that loses nothing would need more episodes than it may have."""
        begun = time.monotonic()
        teacher = self.returns(self.seeds[: self._portions()[0]])
        self.episode_seconds = (time.monotonic() - begun) / len(teacher)
        span = self._range([Pilot(teacher, teacher, self.rand)]).span
        why = out_of_reach(teacher, self.rand, self.config.keep, span, self.config.max_episodes)
        if why:
            raise ConfigError(why)

    def _portions(self) -> list[int]:
        """Episodes after which a candidate may be dropped, growing."""
        total = self.config.select_episodes
        return sorted({max(2, total // part) for part in (30, 10, 5, 3, 1)})

    def _make(self, trial: Trial) -> Graph:
        """The policy of a candidate: the stored one, or else made, and stored."""
        known = self.store.graph(trial.name) if self.store else None
        if known is not None:
            return known
        graph = apply(trial.recipe, self.context)
        if self.teacher.masked:
            graph = with_mask(graph)  # passes work on the values; what is judged and saved takes the mask
        if self.store:
            self.store.save_graph(trial.name, graph)
        return graph

    def _try(self, trial: Trial) -> Candidate:
        """A candidate that has played the selection seeds: the stored one, or else played now, and stored."""
        known = self.store.played(trial.name) if self.store else None
        if known is not None:
            self.returns.known.update(zip(self.seeds.tolist(), known.teacher.tolist(), strict=False))
            return known.candidate
        candidate = self._play(trial, self._make(trial))
        if self.store:
            self.store.save_played(Played(candidate, self._pilot(candidate).teacher))
        if self.on_candidate is not None:
            self.on_candidate(candidate)
        return candidate

    def _play(self, trial: Trial, graph: Graph) -> Candidate:
        """Play a candidate on the selection seeds, in growing portions."""
        compared = self.context.compared(graph)
        student = Player(GraphPolicy(graph), self.evaluate, float(self.rand.min()))
        for played in self._portions():
            seeds = self.seeds[:played]
            pilot = Pilot(self.returns(seeds), student(seeds), self.rand)
            why = hopeless(pilot, self.config.keep)
            if why or (played >= _FEWEST and clearly_no_worse(pilot)):
                break
        span = self._range([pilot]).span
        why, advice = (why, LARGER) if why else falls_short(pilot, self.config.keep, span, self.config.max_episodes)
        spent = cost(graph)
        return Candidate(
            name=trial.name,
            recipe=describe(trial.recipe),
            hidden=hidden_widths(graph),
            bits=weight_bits(graph),
            graph=graph,
            size_bytes=spent.size_bytes,
            macs=spent.macs,
            returns=pilot.student,
            agreement=compared.agreement,
            regret=compared.regret,
            status="failed" if why else "passed",
            why=why,
            advice=advice,
        )

    def _range(self, pilots: list[Pilot]) -> ReturnRange:
        """Fixed before anything is certified: as configured, else from the selection's episodes, widened."""
        if self.config.return_range is not None:
            return self.config.return_range
        judged = [certificate.returns for certificate in self.certificates.values()]
        pairs = [(p.teacher, p.student) for p in pilots] + [(r.teacher, r.student) for r in judged]
        seen = [self.rand, *(returns for pair in pairs for returns in pair), *(r.random for r in judged)]
        count = sum(map(len, seen))
        return observed_range(*seen, of=f"{count:,} episodes of selection and random play that certify nothing")

    def _certify(self, sequence: list[Candidate]) -> Candidate | None:
        """Judge candidates in the order given, all on the same new seeds; the last before the first that is refused."""
        self.attempts += 1
        extent = self._range([self._pilot(c) for c in sequence])
        hashes, own = [graph_hash(c.graph) for c in sequence], graph_hash(self.teacher)
        attempt = self.number(FixedSequence(tuple(hashes), own, self.config.keep, *extent.ends), self.attempts)
        nonce = stream_nonce(hashes, attempt)
        used = np.array([seed for one in self.certificates.values() for seed in one.returns.seeds], np.int64)
        teacher = Player(GraphPolicy(self.teacher), self.evaluate, extent.low)
        random = random_player(self.evaluate, extent.low)
        certified: Candidate | None = None
        for candidate, student in zip(sequence, hashes, strict=True):
            claim = Claim(
                keep=self.config.keep, return_range=extent, attempt=attempt, total_alpha=ALPHA,
                purpose="certify", nonce=nonce, teacher=own, student=student,
            )  # fmt: skip
            pilot = self._pilot(candidate)
            begun = start_of(claim, pilot, self.teacher, candidate.graph, self.evaluate)
            if self.on_start is not None:
                self.on_start(candidate.name, begun)
            needed = pilot.forecast_as_seen(self.config.keep, extent.span, claim.alpha)
            affordable = needed is not None and needed <= self.config.max_episodes
            episodes = self.config.max_episodes if affordable else min(_FEWEST, self.config.max_episodes)
            students = Player(GraphPolicy(candidate.graph), self.evaluate, extent.low)
            done = play_on(begun, Players(teacher, students, random), episodes, used=used)
            self.certificates[candidate.name] = done
            if not done.certified:
                self._mark(candidate, "refused", done.reason.removeprefix("refused: "))
                break
            certified = self._mark(candidate, "passed")
        return certified

    def _pilot(self, candidate: Candidate) -> Pilot:
        """The selection's episodes of a candidate."""
        return Pilot(self.returns(self.seeds[: len(candidate.returns)]), candidate.returns, self.rand)

    def _mark(self, candidate: Candidate, status: Status, why: str | None = None) -> Candidate:
        marked = replace(candidate, status=status, why=candidate.why if why is None else why)
        self.tried[[c.name for c in self.tried].index(candidate.name)] = marked
        return marked

    def _best_effort(self) -> Candidate:
        """Nothing holds: the refusal that came closest, or else the refusal of what did best on the selection seeds."""
        refused = [c for c in self.tried if c.name in self.certificates and not self.certificates[c.name].certified]
        if refused:
            return max(refused, key=lambda c: _bound(self.certificates[c.name]))
        best = max(self.tried, key=lambda c: (len(c.returns), float(c.returns.mean())))
        certified = self._certify([best])
        return self._mark(certified, "chosen") if certified else next(c for c in self.tried if c.name == best.name)

    def _result(self, chosen: Candidate) -> Compression:
        certificate = self.certificates[chosen.name]
        teacher_cost = cost(self.teacher)
        obs = self.context.visited(chosen.graph).obs
        return Compression(
            best=chosen,
            certificate=certificate,
            candidates=tuple(sorted(self.tried, key=lambda c: c.size_bytes)),
            linear=self._linear(),
            golden_obs=obs[np.linspace(0, len(obs) - 1, min(_GOLDEN, len(obs))).astype(np.int64)],
            teacher_size_bytes=teacher_cost.size_bytes,
            teacher_macs=teacher_cost.macs,
            teacher_return_mean=float(certificate.returns.teacher.mean()),
        )


def _bound(certificate: Certificate) -> float:
    """The lower bound of the difference, −∞ where there is none."""
    return -np.inf if certificate.difference_lower95 is None else certificate.difference_lower95
