"""Recipes: chains of effects with their settings at every severity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from . import SEVERITIES, DegradationError
from .effects import Effect, Setting


@dataclass(frozen=True)
class Step:
    """An effect with its settings at each of the five severities; lists [low, high] are drawn for each image."""

    name: str
    effect: Effect
    rows: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Recipe:
    """A degradation: one step, or a chain of steps applied in order.

    Attributes:
        name: the name in error messages and manifests.
        steps: the steps in order.
        source: publications of formulas and values.
        fixed: whether it is a published setting, which is the same at every severity.
    """

    name: str
    steps: tuple[Step, ...]
    source: str = ""
    fixed: bool = False

    @property
    def moves_pixels(self) -> bool:
        """Whether boxes and masks of the clean image no longer fit the degraded one."""
        return any(step.effect.moves_pixels for step in self.steps)

    @property
    def uses_depth(self) -> bool:
        """Whether a depth map changes the result."""
        return any(step.effect.uses_depth for step in self.steps)

    def key(self, index: int, name: str) -> str:
        """The key of a setting in the record: its name, or `<number>-<effect>.<setting>` in a chain."""
        return name if len(self.steps) == 1 else f"{index + 1}-{self.steps[index].name}.{name}"

    @property
    def severities(self) -> int:
        """The number of severities: five, or the values of a sweep."""
        return len(self.steps[0].rows)

    def swept(self, setting: str, values: Sequence[float], severity: int) -> "Recipe":
        """This recipe with a setting at each of some values, in the place of severities 1, 2, ...

        Args:
            setting: its name, or `<number>-<effect>.<setting>` if several steps of a chain have one of this name.
            values: at least one.
            severity: of all other settings.

        Raises:
            DegradationError: no step or several steps have this setting, or a value is not allowed.
        """
        keys = {
            self.key(index, name): (index, name) for index, s in enumerate(self.steps) for name in s.effect.settings
        }
        matches = [key for key, (_, name) in keys.items() if setting in (key, name)]
        if len(matches) != 1:
            which = "several settings" if matches else "no setting"
            raise DegradationError(f"{self.name}: there is {which} {setting!r}. Choose from {', '.join(keys)}")
        place, name = keys[matches[0]]
        checked = [self.steps[place].effect.settings[name].check(value, f"{self.name}, {setting}") for value in values]
        steps = []
        for index, step in enumerate(self.steps):
            row = step.rows[severity - 1]
            rows = [{**row, name: value} if index == place else row for value in checked]
            steps.append(replace(step, rows=tuple(rows)))
        return replace(self, steps=tuple(steps), fixed=False)

    def at(self, severity: int) -> "Recipe":
        """A copy of this recipe that uses the settings of one severity at every severity."""
        rows = [(step.rows[severity - 1],) * len(SEVERITIES) for step in self.steps]
        return replace(self, steps=tuple(replace(s, rows=r) for s, r in zip(self.steps, rows, strict=True)))


def make_recipe(
    name: str, effects: Sequence[tuple[str, Effect]], settings: Sequence[Mapping[str, Any]], fixed: bool = False
) -> Recipe:
    """Build and check a recipe.

    Args:
        name: the name of the recipe.
        effects: name and effect of each step.
        settings: settings of each step that replace the effect's severities; the key `effect` is ignored.
        fixed: whether it is a published setting.

    Raises:
        DegradationError: a setting or the order of the steps is not valid; the message names step and key.
    """
    steps = []
    for number, ((effect_name, effect), changes) in enumerate(zip(effects, settings, strict=True), start=1):
        steps.append(_make_step(effect_name, effect, changes, f"{name}, step {number} ({effect_name})"))
    recipe = Recipe(name, tuple(steps), source="; ".join(dict.fromkeys(s.effect.source for s in steps)), fixed=fixed)
    _check_order(recipe)
    return recipe


def require_still_pixels(recipe: Recipe) -> None:
    """Check that boxes and masks of the clean images fit the degraded images, too.

    Raises:
        DegradationError: a step moves pixels; the message names it.
    """
    for number, step in enumerate(recipe.steps, start=1):
        if step.effect.moves_pixels:
            raise DegradationError(
                f"{recipe.name}, step {number} ({step.name}): moves pixels, so that boxes and masks of the clean "
                "images would be wrong. Remove the step, or use the recipe on images without labels"
            )


def _make_step(name: str, effect: Effect, changes: Mapping[str, Any], where: str) -> Step:
    unknown = [key for key in changes if key != "effect" and key not in effect.settings]
    if unknown:
        choices = ", ".join(effect.settings) or "no settings"
        raise DegradationError(f"{where}: there is no setting {unknown[0]!r}. Choose from {choices}")
    values = {**effect.severities, **changes}
    return Step(name, effect, tuple(_row(effect, values, severity, where) for severity in SEVERITIES))


def _row(effect: Effect, values: Mapping[str, Any], severity: int, where: str) -> dict[str, Any]:
    """The checked settings at one severity, in the order of the effect's settings."""
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
    """Check that depth is used before pixels move, and that the result has the size of the clean image."""
    moved, small = "", ""
    for step in recipe.steps:
        if step.effect.uses_depth and (moved or small):
            raise DegradationError(
                f"{recipe.name}: {step.name} uses the depth map, which does not fit after {moved or small}. "
                f"Put {step.name} before it"
            )
        moved = step.name if step.effect.moves_pixels else moved
        small = _size_after(step, small)
    if small:
        raise DegradationError(
            f"{recipe.name}: the chain does not restore the size after {small}. Add the effect `enlarge` at its end"
        )


def _size_after(step: Step, small: str) -> str:
    """The name of the step that made the image smaller, or "" if it has the size of the clean image."""
    if not step.effect.changes_size:
        return small
    return "" if "height" in step.effect.drawn else step.name
