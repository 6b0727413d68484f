"""Recipes from settings: the effects by name, their rows by severity, and a user's own chains, checked."""

from collections.abc import Mapping, Sequence
from typing import Any

from . import blur, noise, resampling
from .coco_c_blur import BLUR_EFFECTS
from .coco_c_tone import TONE_EFFECTS
from .coco_c_weather import WEATHER_EFFECTS
from .effects import SEVERITIES, DegradationError, Effect, Recipe, Setting, Step
from .fog import FOG, IA_YOLO_FOG
from .lowlight import LOWLIGHT, NIGHT
from .precipitation import RAIN, SNOW
from .severities import COCO_C_TABLE, SEVERITY_TABLE

EFFECTS: dict[str, Effect] = {
    "lowlight": LOWLIGHT,
    "night": NIGHT,
    "fog": FOG,
    "rain": RAIN,
    "snow": SNOW,
    "noise": noise.GAUSSIAN_NOISE,
    "noise-poisson": noise.POISSON_NOISE,
    "noise-iso": noise.ISO_NOISE,
    "blur": blur.DEFOCUS,
    "blur-motion": blur.MOTION,
    "blur-gaussian": blur.GAUSSIAN,
    "jpeg": resampling.JPEG,
    "lowres": resampling.LOWRES,
    "shrink": resampling.SHRINK,
    "enlarge": resampling.ENLARGE,
    "shear": resampling.SHEAR,
    "ia-yolo-fog": IA_YOLO_FOG,
}
COCO_C_EFFECTS: dict[str, Effect] = {**TONE_EFFECTS, **BLUR_EFFECTS, **WEATHER_EFFECTS}
EFFECTS |= {f"coco-c-{name}": effect for name, effect in COCO_C_EFFECTS.items()}
TABLE = SEVERITY_TABLE | {f"coco-c-{name}": settings for name, settings in COCO_C_TABLE.items()}


def build_chain(steps: Sequence[Mapping[str, Any]], name: str = "chain", fixed: bool = False) -> Recipe:
    """A recipe from a list of steps, applied in order; each step is a mapping as it stands in params.yaml.

    A step names an `effect` and any of its settings. A setting is one value, a list of two (drawn uniformly
    for each image) or a list of five (one for each severity, each of them a value or a list of two). What a
    step leaves out follows the severity table.

    Raises:
        DegradationError: naming the step, the key, and what was expected.
    """
    if not isinstance(steps, Sequence) or isinstance(steps, str) or not steps:
        raise DegradationError(f"{name}: expected a list of steps, each with an `effect`, got {steps!r}")
    built = tuple(_build_step(step, f"{name}, step {number}") for number, step in enumerate(steps, start=1))
    recipe = Recipe(name, built, source="; ".join(dict.fromkeys(s.effect.source for s in built)), fixed=fixed)
    _check_order(recipe)
    return recipe


def _build_step(step: Mapping[str, Any], where: str) -> Step:
    if not isinstance(step, Mapping) or "effect" not in step:
        raise DegradationError(f"{where}: expected a mapping with the key `effect`, got {step!r}")
    name = step["effect"]
    if not isinstance(name, str) or name not in EFFECTS:
        raise DegradationError(f"{where}: no effect {name!r}; there are {', '.join(EFFECTS)}")
    effect = EFFECTS[name]
    unknown = [key for key in step if key != "effect" and key not in effect.settings]
    if unknown:
        choices = ", ".join(effect.settings) or "no settings"
        raise DegradationError(f"{where} ({name}): no setting {unknown[0]!r}; it has {choices}")
    table = TABLE[name] | {key: value for key, value in step.items() if key != "effect"}
    rows = tuple(_row(effect, table, severity, f"{where} ({name})") for severity in SEVERITIES)
    return Step(name, effect, rows)


def _row(effect: Effect, table: Mapping[str, Any], severity: int, where: str) -> dict[str, Any]:
    """One severity's settings, in the effect's own order, checked."""
    row = {}
    for key, setting in effect.settings.items():
        value = table[key]
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


# Settings published as chains: EDTR, ICCV 2025; Mix-A is SR4IR's. Mix-B's "kernel up to 41" is read as the
# largest support of a round blur on 8-bit values.
EDTR: dict[str, list[dict[str, Any]]] = {
    "edtr-mix-a": [
        {"effect": "shrink", "factor": 8, "down": "bicubic"},
        {"effect": "jpeg", "quality": 75},
        {"effect": "enlarge", "up": "bicubic"},
    ],
    "edtr-mix-b": [
        {
            "effect": "blur-gaussian",
            "sigma_pixels": [0.1, 8.0],
            "kernel_pixels": 41,
            "ratio": 1.0,
            "light": "encoded",
        },
        {"effect": "shrink", "factor": [1.0, 16.0], "down": "bicubic"},
        {"effect": "noise", "sigma_levels": [0.0, 10.0]},
        {"effect": "jpeg", "quality": [50, 100]},
        {"effect": "enlarge", "up": "bicubic"},
    ],
}


def _own() -> dict[str, Recipe]:
    """Every effect alone, at its five severities."""
    alone = {name: effect for name, effect in EFFECTS.items() if not effect.changes_size}
    return {name: build_chain([{"effect": name}], name) for name in alone}


def _ia_yolo() -> dict[str, Recipe]:
    """IA-YOLO's ten fogs: A = 0.5, beta = 0.05 + 0.01 i."""
    return {
        name: build_chain([{"effect": "ia-yolo-fog", "beta": round(0.05 + 0.01 * i, 2)}], name, fixed=True)
        for i in range(10)
        for name in [f"ia-yolo-fog-{i}"]
    }


def _coco_c() -> dict[str, Recipe]:
    """coco-c-<corruption>-<severity>: the published severity under its own name."""
    return {
        name: build_chain([_at_severity(f"coco-c-{corruption}", severity)], name, fixed=True)
        for corruption in COCO_C_EFFECTS
        for severity in SEVERITIES
        for name in [f"coco-c-{corruption}-{severity}"]
    }


def _at_severity(effect: str, severity: int) -> dict[str, Any]:
    settings = {key: value[severity - 1] if isinstance(value, tuple) else value for key, value in TABLE[effect].items()}
    return {"effect": effect, **settings}


RECIPES: dict[str, Recipe] = {
    **_own(),
    **_ia_yolo(),
    **{name: build_chain(steps, name, fixed=True) for name, steps in EDTR.items()},
    **_coco_c(),
}
_SPELLINGS = {name.replace("_", "-"): name for name in RECIPES}  # coco-c-gaussian-noise-3 is understood too


def get_recipe(recipe: str | Recipe) -> Recipe:
    """The recipe of that name; a recipe is passed through.

    Raises:
        DegradationError: no such name; the text lists what exists.
    """
    if isinstance(recipe, Recipe):
        return recipe
    name = _SPELLINGS.get(str(recipe).replace("_", "-"))
    if name is None:
        raise DegradationError(f"no recipe {recipe!r}; there are {', '.join(_overview())}")
    return RECIPES[name]


def _overview() -> list[str]:
    """All names, a published family of fixed ones as a pattern."""
    families = ["ia-yolo-fog-0..9", "coco-c-<corruption>-1..5", *EDTR]
    return sorted(name for name, recipe in RECIPES.items() if not recipe.fixed) + families
