"""Settings of a search for a smaller policy."""

from __future__ import annotations

from dataclasses import dataclass, field

from nimbleq.compress.certify.judge import MAX_EPISODES
from nimbleq.compress.certify.ranges import ReturnRange
from nimbleq.compress.certify.wealth import check_keep
from nimbleq.compress.passes.recipe import Recipe
from nimbleq.compress.passes.settings import DistillConfig, check_distill
from nimbleq.compress.refine.config import DirectConfig, check_direct
from nimbleq.compress.search.ladder import RECIPES
from nimbleq.compress.search.limits import Limits, check_limits
from nimbleq.compress.search.rungs import Widths
from nimbleq.errors import ConfigError

SELECT_EPISODES = 1_000


@dataclass(frozen=True)
class CompressConfig:
    """How the smallest policy is searched.

    Attributes:
        keep: share of the teacher's return over random play to keep, in (0, 1].
        recipe: a name in `RECIPES`; or a tuple of passes that is the only candidate.
        hidden: widths of the students to try, from small to large (None: a ladder from a linear policy upward).
        seed: of students and of all episode seeds.
        select_episodes: paired episodes that a candidate has to pass before it may be certified.
        max_episodes: that the certificate of a candidate may take.
        return_range: between which returns lie (None: what the selection's episodes show, widened).
        distill: settings of distillation.
        direct: settings of direct search.
        limits: what the policy may cost.
    """

    keep: float = 0.99
    recipe: str | Recipe = "auto"
    hidden: tuple[Widths, ...] | None = None
    seed: int = 0
    select_episodes: int = SELECT_EPISODES
    max_episodes: int = MAX_EPISODES
    return_range: ReturnRange | None = None
    distill: DistillConfig = field(default_factory=DistillConfig)
    direct: DirectConfig = field(default_factory=DirectConfig)
    limits: Limits = field(default_factory=Limits)


def check_recipe(recipe: str | Recipe) -> None:
    """Raise `ConfigError` where there is no such recipe."""
    if isinstance(recipe, str) and recipe not in RECIPES:
        raise ConfigError(f"there is no recipe {recipe!r}; choose from {', '.join(RECIPES)}")
    if not recipe:
        raise ConfigError("a recipe needs at least one pass")


def check_config(config: CompressConfig) -> None:
    """Raise `ConfigError` for what cannot be asked."""
    check_keep(config.keep)
    check_recipe(config.recipe)
    if config.select_episodes < 2 or config.max_episodes < 2:
        raise ConfigError("select_episodes and max_episodes have to be at least 2")
    check_distill(config.distill)
    check_direct(config.direct)
    check_limits(config.limits)
