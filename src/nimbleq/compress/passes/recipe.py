"""Recipes: a compression is a tuple of passes."""

from __future__ import annotations

from collections.abc import Sequence

from nimbleq.compress.passes import PASSES
from nimbleq.compress.passes.base import Pass
from nimbleq.compress.passes.context import Context
from nimbleq.errors import ConfigError, GraphError
from nimbleq.graph.graph import ACTION, Graph, Q
from nimbleq.graph.rewrites.floats import with_float_weights

Recipe = tuple[Pass, ...]


def apply(recipe: Recipe, context: Context) -> Graph:
    """Run the passes on the teacher, its weights as floats, from the longest beginning that was made before.

    Raises:
        GraphError: a pass made something that is not a policy for the same environment; names the pass.
    """
    if not recipe:
        return with_float_weights(context.teacher)
    if recipe not in context.made:
        before = apply(recipe[:-1], context)
        context.made[recipe] = _checked(recipe[-1](before, context), before, recipe[-1])
    return context.made[recipe]


def _checked(made: Graph, before: Graph, step: Pass) -> Graph:
    """``made``, if it takes and gives what ``before`` did. That its layers fit each other is checked by `Graph`."""
    if (made.obs_type, made.masked) != (before.obs_type, before.masked):
        raise GraphError(f"the pass {step} changed what the policy reads: {before.obs_type} became {made.obs_type}")
    for name in (Q, ACTION):
        if name not in made.outputs or made.types[name].shape != before.types[name].shape:
            raise GraphError(f"the pass {step} changed or lost the output {name!r} of the policy")
    return made


def describe(recipe: Recipe) -> str:
    """Names of the passes, e.g. ``"student 32-32 → distill → fold → int8"``."""
    return " → ".join(str(step) for step in recipe)


def parse_recipe(words: Sequence[str]) -> Recipe:
    """The passes named, each as NAME or NAME=SETTING, e.g. ``fold prune=0.5 distill fold int8``.

    Raises:
        ConfigError: there is no such pass, or it cannot have that setting.
    """
    steps: list[Pass] = []
    for word in words:
        name, _, setting = word.partition("=")
        if name not in PASSES:
            known = ", ".join(f"{key}={row.example}" if row.example else key for key, row in PASSES.items())
            raise ConfigError(f"there is no pass {name!r}; choose from {known}")
        steps.append(PASSES[name].make(setting))
    return tuple(steps)
