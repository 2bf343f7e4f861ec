"""Direct search of a linear policy's integers: first on regret, which costs nothing, then on returns.

Every candidate that is scored is the integer policy that would ship. The distilled policy is the start; without it the
search does not get anywhere. Seeds are common to the candidates of a generation and new in the next, so that what wins
is not the luck of its seeds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from nimbleq.cma import Cma
from nimbleq.compress.refine.codes import Codes, Rounding, Widths, exponents, neighbours, without_one
from nimbleq.compress.refine.config import DirectConfig
from nimbleq.compress.refine.race import Returns, halved, race, scores_of
from nimbleq.compress.states import States, legal_values
from nimbleq.types import Array, Evaluate, Tick, no_tick

_STATES = 2_000
_MOST_ZEROS, _SINGLES = 8, 4
"""Weights that become zero together, and each by itself, in one round."""
_LONGER = 2  # times the episodes of a generation: the sparsest of a dozen that seem no worse is often a lucky one
_HOPELESS, _SLACK = 1.5, 0.25
"""Standard errors by which a sparser policy may seem to return less after half of its episodes, and after all."""
_STEADY = 5  # generations whose mean return decides whether to stop


def direct_search(
    weight: Array,
    bias: Array,
    states: States,
    teacher_q: Array,
    evaluate: Evaluate,
    widths: Widths,
    levels: float,
    aim: float,
    config: DirectConfig,
    nonce: int,
    tick: Tick = no_tick,
) -> Codes:
    """The best codes found.

    Args:
        weight, bias: ``float64[A, F]``, ``float64[A]`` of the policy to start from, of the raw observation.
        states: visited states.
        teacher_q: ``[K, A]`` the teacher's values in them.
        evaluate: plays episodes.
        widths, levels: see `Rounding`.
        aim: a mean return that is enough.
        config: how long and how wide.
        nonce: of seeds and of candidates.
        tick: progress.
    """
    rng = np.random.default_rng(nonce)
    play = Returns(evaluate, nonce)
    some = rng.permutation(len(states))[:_STATES]
    judge = Regret.of(states[some], teacher_q[some])
    rounding, start = _best_form(weight, bias, judge, widths, levels)
    tick(0, 1, "direct search on regret")
    taught = _search_regret(rounding, start, judge, config, rng)
    first = scores_of(play([rounding(start), rounding(taught)], 2 * config.episodes), config.risk)
    pool = _search_returns(rounding, (start, taught)[int(first.argmax())], play, aim, config, rng, tick)
    best, mean = halved(pool, play, config.risk)
    for _ in range(config.rounds):
        tick(1, 1, "moves of single integers")
        moved = neighbours(best, widths)
        some = rng.permutation(len(moved))[: 2 * config.population]
        best, mean = halved([best, *(moved[i] for i in some)], play, config.risk, config.episodes)
    sparsest = best
    for _ in range(config.zeros if mean >= aim else 0):  # who returns less has nothing to give away
        tick(1, 1, "setting weights to zero")
        sparser = _sparser(sparsest, best, judge, play, _LONGER * config.episodes)
        if sparser is None:
            break
        sparsest = sparser
    return sparsest


@dataclass(frozen=True, eq=False)
class Regret:
    """What candidates lose, by the teacher's values, in the same states.

    Attributes:
        states: visited.
        loss: ``float[K, A]`` of each action beside the teacher's.
    """

    states: States
    loss: Array

    @classmethod
    def of(cls, states: States, teacher_q: Array) -> Self:
        """With the teacher's values ``[K, A]``."""
        legal = legal_values(teacher_q, states.mask)
        return cls(states, legal.max(axis=1, keepdims=True) - legal)

    def __call__(self, codes: Codes) -> float:
        """See `nimbleq.compress.states.Comparison.regret`."""
        action = codes(self.states.obs, self.states.mask)
        return float(self.loss[np.arange(len(action)), action].mean())


def _best_form(weight: Array, bias: Array, judge: Regret, widths: Widths, levels: float) -> tuple[Rounding, Array]:
    """Of all choices of the row that becomes zero, the one whose rounding loses least."""
    obs = judge.states.obs
    forms = [
        Rounding(len(weight), free, exponents(obs, levels, weight - weight[free]), levels, widths)
        for free in range(len(weight))
    ]
    starts = [form.vector(weight, bias) for form in forms]
    losses = [judge(form(start)) for form, start in zip(forms, starts, strict=True)]
    best = int(np.argmin(losses))
    return forms[best], starts[best]


def _sigma(rounding: Rounding, start: Array, config: DirectConfig) -> float:
    """Below half a level most candidates would round to the same codes."""
    return max(config.sigma, rounding.level(start) / 2)


def _search_regret(
    rounding: Rounding, start: Array, judge: Regret, config: DirectConfig, rng: np.random.Generator
) -> Array:
    """The vector with the least regret that CMA-ES finds."""
    search, best, least = Cma.start(start, _sigma(rounding, start, config)), start, judge(rounding(start))
    for _ in range(config.regret_generations):
        candidates = search.ask(config.population, rng)
        losses = np.array([judge(rounding(candidate)) for candidate in candidates])
        if losses.min() < least:
            best, least = candidates[losses.argmin()], float(losses.min())
        search = search.tell(candidates, -losses)
    return best


def _search_returns(
    rounding: Rounding,
    start: Array,
    play: Returns,
    aim: float,
    config: DirectConfig,
    rng: np.random.Generator,
    tick: Tick,
) -> list[Codes]:
    """What CMA-ES on returns finds worth a longer look, the most promising first.

    The rounded mean plays along in every generation; as it averages over many it is less a product of luck than the
    best candidate.
    """
    search = Cma.start(start, _sigma(rounding, start, config))
    pool: dict[bytes, tuple[float, Codes]] = {}
    middle: list[float] = []
    for generation in range(config.generations):
        candidates = search.ask(config.population, rng)
        codes = [rounding(search.mean), *map(rounding, candidates)]
        raced = race(codes, play, config.episodes, config.risk)
        middle.append(raced.first)
        # Returns of different generations are of different seeds: what the mean had is the measure.
        for index in {0, int(raced.order[0])}:
            pool[codes[index].key] = (generation + 0.5 * (index == 0), codes[index])
        search = search.tell(candidates, -np.argsort(raced.order)[1:].astype(np.float64))
        tick(generation + 1, config.generations, f"direct search: return {middle[-1]:.0f}")
        steady = np.convolve(middle, np.full(_STEADY, 1 / _STEADY), "valid") if len(middle) >= _STEADY else np.zeros(0)
        if steady.size and (steady[-1] >= aim or len(steady) - 1 - int(steady.argmax()) >= config.patience):
            break
    last = rounding(search.mean)
    pool[last.key] = (config.generations, last)
    return [codes for _, codes in sorted(pool.values(), key=lambda entry: -entry[0])]


def _sparser(codes: Codes, best: Codes, judge: Regret, play: Returns, episodes: int) -> Codes | None:
    """The sparsest of a few forms of ``codes`` with more zeros that seems to return no less than ``best``, or None.

    All rounds are judged beside that policy, the one before the first zero: what each may lose must not add up.
    Weights become zero in the order in which the regret grows least, one at a time or many together.
    """
    singles = without_one(codes)
    if not singles:
        return None
    order = np.argsort([judge(one) for one in singles], kind="stable")
    together, tried = codes, dict[bytes, Codes]()
    for place, index in enumerate(order[:_MOST_ZEROS].tolist()):
        zero = singles[index].weight == 0
        together = replace(together, weight=np.where(zero & (codes.weight != 0), 0, together.weight))
        for one in (together, *((singles[index],) if place < _SINGLES else ())):
            tried[one.key] = one
    candidates = sorted(tried.values(), key=lambda one: np.count_nonzero(one.weight))
    half = max(1, episodes // 2)
    first = play([best, *candidates], half)
    left = np.flatnonzero(_no_worse(first, _HOPELESS))
    if not left.size:
        return None
    more = play([best, *(candidates[index] for index in left)], max(1, episodes - half))
    same = left[_no_worse(np.concatenate([first[[0, *(left + 1)]], more], axis=1), _SLACK)]
    return candidates[int(same[0])] if same.size else None


def _no_worse(returns: Array, errors: float) -> Array:
    """``bool[P − 1]`` whether each of ``returns [P, E]`` but the first is at most so many standard errors below it."""
    difference = returns[1:] - returns[0]
    error = difference.std(axis=1) / difference.shape[1] ** 0.5
    return np.asarray(difference.mean(axis=1) >= -errors * error)
