"""The degradations that params.yaml asks for: recipes by name or as chains of its own, and severities. Not a stage."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from data.degradations import RECIPES, DegradationError, Recipe, build_chain, get_recipe
from pipeline import runtime
from pipeline.settings.degrade import Degrade, RandomSeverity


def recipe_of(settings: Degrade, name: str) -> Recipe:
    """The recipe of that name: one of params.yaml's own chains, or one of the table's.

    Raises:
        data.degradations.DegradationError: no such recipe, or a chain with a mistake in it.
    """
    chain = settings.recipes.get(name)
    return get_recipe(name) if chain is None else build_chain(chain, name)


def severities(settings: Degrade, recipe: Recipe) -> tuple[int, ...]:
    """The severities that images of a recipe have; one for a published recipe, whose setting is its name's."""
    if isinstance(settings.severity, int):
        return (settings.severity,)
    asked = settings.severity.random if isinstance(settings.severity, RandomSeverity) else settings.severity
    return asked[:1] if recipe.fixed else asked


def has_copies(settings: Degrade, recipe: Recipe) -> bool:
    """Whether the evaluation split is degraded once for each severity, instead of one severity for each image."""
    return not isinstance(settings.severity, RandomSeverity) and len(severities(settings, recipe)) > 1


def one_for_each_image(settings: Degrade) -> Degrade:
    """The same severities, of which every image gets one."""
    if isinstance(settings.severity, tuple):
        return settings.model_copy(update={"severity": RandomSeverity(random=settings.severity)})
    return settings


def draw_severity(choices: Sequence[int], seed: int, recipe: str, split: str, id: str) -> int:
    """One of the severities for one image, with equal chances."""
    return choices[runtime.seed_for(seed, "severity", recipe, split, id) % len(choices)]


def steps_of(recipe: Recipe) -> str:
    """The effects of a recipe as JSON: with the recorded parameters all that is needed to build it again."""
    return json.dumps([step.name for step in recipe.steps])


def recorded_recipe(row: Mapping[str, Any]) -> Recipe:
    """The recipe behind a row of a manifest, whatever params.yaml says today.

    Raises:
        data.degradations.DegradationError: it has effects that do not exist, or is no record.
    """
    try:
        effects = json.loads(row["steps"])
    except (ValueError, RecursionError):
        effects = None
    if not isinstance(effects, list):
        raise DegradationError(f"{row['recipe']}, steps: expected a list of effects, got {row['steps'][:60]!r}")
    known = RECIPES.get(row["recipe"])
    if known is not None and [step.name for step in known.steps] == effects:
        return known
    return build_chain([{"effect": name} for name in effects], row["recipe"])
