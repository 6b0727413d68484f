"""Recipes ready to be applied: effects in order, each with its settings at every severity, all of them checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .effects import Effect, Setting
from .recipes import SEVERITIES, DegradationError


@dataclass(frozen=True)
class Step:
    """An effect with its settings at the five severities; a [low, high] pair is drawn anew for each image."""

    name: str
    effect: Effect
    rows: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Recipe:
    """A named degradation: one step, or a chain of them applied in order."""

    name: str
    steps: tuple[Step, ...]
    source: str = ""
    fixed: bool = False  # a published setting under its own name: the same at every severity

    @property
    def moves_pixels(self) -> bool:
        """Whether boxes and masks of the clean image no longer fit the degraded one."""
        return any(step.effect.moves_pixels for step in self.steps)

    @property
    def uses_depth(self) -> bool:
        """Whether a depth map changes the result."""
        return any(step.effect.uses_depth for step in self.steps)

    def key(self, index: int, name: str) -> str:
        """The record's key of a setting: bare for a single step, `<number>-<effect>.<setting>` in a chain."""
        return name if len(self.steps) == 1 else f"{index + 1}-{self.steps[index].name}.{name}"

    def at(self, severity: int) -> "Recipe":
        """The same recipe with the settings of one severity at every severity."""
        rows = [(step.rows[severity - 1],) * len(SEVERITIES) for step in self.steps]
        return replace(self, steps=tuple(replace(s, rows=r) for s, r in zip(self.steps, rows, strict=True)))


def make_recipe(
    name: str, effects: Sequence[tuple[str, Effect]], settings: Sequence[Mapping[str, Any]], fixed: bool = False
) -> Recipe:
    """A recipe of effects in order.

    Args:
        name: of the recipe, for messages and manifests.
        effects: the effect of each step, with its name.
        settings: those of each step that differ from the effect's severities; the key `effect` is skipped.
        fixed: see `Recipe`.

    Raises:
        DegradationError: a setting or an order that cannot be; the text names the step and the key.
    """
    steps = []
    for number, ((effect_name, effect), changes) in enumerate(zip(effects, settings, strict=True), start=1):
        steps.append(_make_step(effect_name, effect, changes, f"{name}, step {number} ({effect_name})"))
    recipe = Recipe(name, tuple(steps), source="; ".join(dict.fromkeys(s.effect.source for s in steps)), fixed=fixed)
    _check_order(recipe)
    return recipe


def require_still_pixels(recipe: Recipe) -> None:
    """Refuse a recipe for labelled data where boxes and masks would no longer fit.

    Raises:
        DegradationError: naming the step that moves pixels.
    """
    for number, step in enumerate(recipe.steps, start=1):
        if step.effect.moves_pixels:
            raise DegradationError(
                f"{recipe.name}, step {number} ({step.name}) moves pixels, so boxes and masks of the clean "
                "images would be wrong: leave the step out, or use the recipe on images without labels"
            )


def _make_step(name: str, effect: Effect, changes: Mapping[str, Any], where: str) -> Step:
    unknown = [key for key in changes if key != "effect" and key not in effect.settings]
    if unknown:
        choices = ", ".join(effect.settings) or "no settings"
        raise DegradationError(f"{where}: no setting {unknown[0]!r}; it has {choices}")
    values = {**effect.severities, **changes}
    return Step(name, effect, tuple(_row(effect, values, severity, where) for severity in SEVERITIES))


def _row(effect: Effect, values: Mapping[str, Any], severity: int, where: str) -> dict[str, Any]:
    """The settings at one severity, in the effect's own order, checked."""
    row = {}
    for key, setting in effect.settings.items():
        value = values[key]
        if setting.type is not list and isinstance(value, list | tuple) and len(value) == len(SEVERITIES):
            value = value[severity - 1]
        row[key] = _check(value, setting, f"{where}, {key}")
    return row


def _check(value: Any, setting: Setting, where: str) -> Any:
    if setting.type is list or not isinstance(value, list | tuple):
        return setting.check(value, where)
    if setting.type is str:
        return [setting.check(word, where) for word in value]
    if len(value) != 2:
        raise DegradationError(f"{where}: expected 1 value, 2 (a range) or 5 (severities), got {value!r}")
    low, high = (setting.check(end, where) for end in value)
    if low > high:
        raise DegradationError(f"{where}: expected a range [low, high] with low <= high, got {value!r}")
    return [low, high]


def _check_order(recipe: Recipe) -> None:
    """Depth describes the clean image's pixels, and the result must have the clean image's size."""
    moved, small = "", ""
    for step in recipe.steps:
        if step.effect.uses_depth and (moved or small):
            raise DegradationError(
                f"{recipe.name}: {step.name} uses the depth map, which does not fit after {moved or small}; "
                f"put {step.name} before it"
            )
        moved = step.name if step.effect.moves_pixels else moved
        small = _size_after(step, small)
    if small:
        raise DegradationError(f"{recipe.name}: after {small} the chain must end with `enlarge`")


def _size_after(step: Step, small: str) -> str:
    """The name of the step that has made the image smaller, or nothing at the clean image's size."""
    if not step.effect.changes_size:
        return small
    return "" if "height" in step.effect.drawn else step.name
