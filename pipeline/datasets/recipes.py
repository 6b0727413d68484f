"""The recipes and severities that the section `degrade` of params.yaml asks for."""

from collections.abc import Sequence
from dataclasses import replace

from data.degradations import build_chain, get_recipe
from data.degradations.recipes import Recipe
from pipeline.running.seeds import seed_for
from pipeline.settings.data import Degrade, RandomSeverity


def recipe_of(settings: Degrade, name: str) -> Recipe:
    """The recipe of that name: a chain or a sweep of params.yaml, or a built-in one.

    Raises:
        data.degradations.DegradationError: no such recipe, or a chain or sweep with a mistake in it.
    """
    if sweep := settings.sweeps.get(name):
        return replace(recipe_of(settings, sweep.recipe).swept(sweep.setting, sweep.values, sweep.severity), name=name)
    chain = settings.recipes.get(name)
    return get_recipe(name) if chain is None else build_chain(chain, name)


def severities(settings: Degrade, recipe: Recipe) -> tuple[int, ...]:
    """The severities that images of a recipe can have: one if the recipe is fixed, as published recipes are.

    Those of a sweep are the numbers of its values, from 1.
    """
    if recipe.name in settings.sweeps:
        return tuple(range(1, recipe.severities + 1))
    if isinstance(settings.severity, int):
        return (settings.severity,)
    choices = settings.severity.random if isinstance(settings.severity, RandomSeverity) else settings.severity
    return choices[:1] if recipe.fixed else choices


def has_copies(settings: Degrade, recipe: Recipe) -> bool:
    """Whether the evaluation split is degraded once for each severity, instead of one severity for each image."""
    if recipe.name in settings.sweeps:
        return True
    return not isinstance(settings.severity, RandomSeverity) and len(severities(settings, recipe)) > 1


def with_random_severity(settings: Degrade) -> Degrade:
    """The settings, with one of their severities drawn for every image."""
    if isinstance(settings.severity, tuple):
        return settings.model_copy(update={"severity": RandomSeverity(random=settings.severity)})
    return settings


def draw_severity(choices: Sequence[int], seed: int, recipe: str, split: str, image_id: str) -> int:
    """One of the severities for one image, with equal chances."""
    return choices[seed_for(seed, "severity", recipe, split, image_id) % len(choices)]
