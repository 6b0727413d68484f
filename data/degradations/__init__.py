"""Degradations: pure functions from a clean image to a degraded one, named by recipes.

    degraded = degrade(image, "fog", severity=3, seed=7, depth=depth)

The same image, recipe, severity, seed and depth give the same bytes in any process, order or number of
workers. No global random state is read or written, and the input image is never changed.

An effect is a module that also holds its settings and severities, and a line in EFFECTS. A recipe is one effect or a
chain of them. Importing this package imports neither NumPy nor an effect: effects are imported when they are used.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .effects import Effect
    from .recipes import Recipe
    from .records import Degraded

__all__ = [
    "EFFECTS",
    "RECIPES",
    "SEVERITIES",
    "DegradationError",
    "build_chain",
    "degrade",
    "degrade_with_parameters",
    "effect_names",
    "get_effect",
    "get_recipe",
]

EFFECTS: dict[str, str] = {
    "lowlight": ".lowlight:LOWLIGHT",
    "night": ".lowlight:NIGHT",
    "fog": ".fog:FOG",
    "rain": ".precipitation:RAIN",
    "snow": ".precipitation:SNOW",
    "noise": ".noise:GAUSSIAN_NOISE",
    "noise-poisson": ".noise:POISSON_NOISE",
    "noise-iso": ".noise:ISO_NOISE",
    "blur": ".blur:DEFOCUS",
    "blur-motion": ".blur:MOTION",
    "blur-gaussian": ".blur:GAUSSIAN",
    "jpeg": ".resampling:JPEG",
    "lowres": ".resampling:LOWRES",
    "shrink": ".resampling:SHRINK",
    "enlarge": ".resampling:ENLARGE",
    "shear": ".resampling:SHEAR",
    "ia-yolo-fog": ".fog:IA_YOLO_FOG",
    "coco-c-gaussian_noise": ".coco_c_tone:GAUSSIAN_NOISE",
    "coco-c-shot_noise": ".coco_c_tone:SHOT_NOISE",
    "coco-c-impulse_noise": ".coco_c_tone:IMPULSE_NOISE",
    "coco-c-speckle_noise": ".coco_c_tone:SPECKLE_NOISE",
    "coco-c-brightness": ".coco_c_tone:BRIGHTNESS",
    "coco-c-contrast": ".coco_c_tone:CONTRAST",
    "coco-c-saturate": ".coco_c_tone:SATURATE",
    "coco-c-jpeg_compression": ".coco_c_tone:JPEG_COMPRESSION",
    "coco-c-pixelate": ".coco_c_tone:PIXELATE",
    "coco-c-gaussian_blur": ".coco_c_blur:GAUSSIAN_BLUR",
    "coco-c-glass_blur": ".coco_c_blur:GLASS_BLUR",
    "coco-c-defocus_blur": ".coco_c_blur:DEFOCUS_BLUR",
    "coco-c-motion_blur": ".coco_c_blur:MOTION_BLUR",
    "coco-c-zoom_blur": ".coco_c_blur:ZOOM_BLUR",
    "coco-c-elastic_transform": ".coco_c_blur:ELASTIC_TRANSFORM",
    "coco-c-fog": ".coco_c_weather:FOG",
    "coco-c-snow": ".coco_c_weather:SNOW",
    "coco-c-frost": ".coco_c_weather:FROST",
    "coco-c-spatter": ".coco_c_weather:SPATTER",
}
SEVERITIES = (1, 2, 3, 4, 5)
ONLY_IN_CHAINS = ("shrink", "enlarge")  # effects that change the image's size; they are not recipes
COCO_C = "coco-c-"


class DegradationError(ValueError):
    """A recipe, setting, image or depth map that is not valid; the message names it and what was expected."""


@dataclass(frozen=True)
class NamedRecipe:
    """A built-in recipe as plain data.

    Attributes:
        steps: the effects in order, each a mapping as in params.yaml.
        fixed: whether it is a published setting, which is the same at every severity.
        severity: the severity in the effect's table that a fixed recipe uses; None if `steps` has all settings.
    """

    steps: tuple[Mapping[str, Any], ...]
    fixed: bool = False
    severity: int | None = None


# Published chains: EDTR, ICCV 2025; Mix-A is that of SR4IR. We read Mix-B's "kernel up to 41" as the largest support
# of a round blur on 8-bit values.
EDTR = {
    "edtr-mix-a": NamedRecipe(
        (
            {"effect": "shrink", "factor": 8, "down": "bicubic"},
            {"effect": "jpeg", "quality": 75},
            {"effect": "enlarge", "up": "bicubic"},
        ),
        fixed=True,
    ),
    "edtr-mix-b": NamedRecipe(
        (
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
        ),
        fixed=True,
    ),
}
FAMILIES = ["ia-yolo-fog-0..9", "coco-c-<corruption>-1..5", *EDTR]  # the fixed recipes, as patterns of their names


def _named_recipes(effects: Iterable[str]) -> dict[str, NamedRecipe]:
    """All built-in recipes: each of the named effects alone, then the published settings."""
    names = list(effects)
    recipes = {name: NamedRecipe(({"effect": name},)) for name in names if name not in ONLY_IN_CHAINS}
    for index in range(10):  # IA-YOLO's ten fogs: A = 0.5, beta = 0.05 + 0.01 i
        fog = {"effect": "ia-yolo-fog", "beta": round(0.05 + 0.01 * index, 2)}
        recipes[f"ia-yolo-fog-{index}"] = NamedRecipe((fog,), fixed=True)
    recipes |= EDTR
    for name in names:
        if name.startswith(COCO_C):
            for severity in SEVERITIES:
                recipes[f"{name}-{severity}"] = NamedRecipe(({"effect": name},), fixed=True, severity=severity)
    return recipes


RECIPES = _named_recipes(EFFECTS)
_SPELLINGS = {name.replace("_", "-"): name for name in RECIPES}  # coco-c-gaussian-noise-3 is understood too


def degrade(
    image: "NDArray[np.uint8]",
    recipe: "str | Recipe",
    severity: int,
    seed: int,
    depth: "NDArray[np.float32] | None" = None,
) -> "NDArray[np.uint8]":
    """Degrade one image.

    Args:
        image: uint8 RGB (H, W, 3), both sides at least 32.
        recipe: a name in RECIPES, or a recipe that `build_chain` made.
        severity: 1 (light) to 5 (heavy). Presets with one published setting give the same at every severity.
        seed: a whole number >= 0, different for each image.
        depth: (H, W) metres >= 0, infinity allowed; None: effects that need depth use IA-YOLO's pseudo-depth.

    Returns:
        uint8 RGB (H, W, 3), a new array.

    Raises:
        DegradationError: an argument is not valid; the message names it.
    """
    return degrade_with_parameters(image, recipe, severity, seed, depth).image


def degrade_with_parameters(
    image: "NDArray[np.uint8]",
    recipe: "str | Recipe",
    severity: int,
    seed: int,
    depth: "NDArray[np.float32] | None" = None,
) -> "Degraded":
    """Degrade one image like `degrade`, and return the image with its record.

    `records.apply_parameters` makes the same image from the record.
    """
    from .records import degrade_and_record

    return degrade_and_record(image, get_recipe(recipe), severity, seed, depth)


def get_effect(name: str) -> "Effect":
    """The effect of a name in EFFECTS; imports its module."""
    module, attribute = EFFECTS[name].split(":")
    effect: Effect = getattr(import_module(module, __package__), attribute)
    return effect


def get_recipe(recipe: "str | Recipe") -> "Recipe":
    """The built-in recipe of a name in RECIPES; a `Recipe` is returned unchanged.

    Raises:
        DegradationError: there is no recipe of this name; the message lists the names.
    """
    from .recipes import Recipe

    return recipe if isinstance(recipe, Recipe) else _build_named(_known_name(recipe))


def build_chain(steps: Sequence[Mapping[str, Any]], name: str = "chain", fixed: bool = False) -> "Recipe":
    """A recipe that applies a list of steps in order.

    Args:
        steps: mappings with the key `effect` and any settings of that effect, as in params.yaml. A setting is one
            value, a list of two (drawn uniformly for each image) or a list of five (one for each severity, each a
            value or a list of two). Settings that a step leaves out follow the effect's severities.
        name: the name of the recipe, for error messages and manifests.
        fixed: whether it is a published setting, which is the same at every severity.

    Raises:
        DegradationError: a step is not valid; the message names the step, the key, and what was expected.
    """
    from .recipes import make_recipe

    effects = [(effect_name, get_effect(effect_name)) for effect_name in _step_effects(steps, name)]
    return make_recipe(name, effects, steps, fixed)


def effect_names(recipe: str, own_recipes: Mapping[str, Sequence[Mapping[str, Any]]] | None = None) -> tuple[str, ...]:
    """The names of a recipe's effects, each once, in order. Imports no effect.

    Args:
        recipe: a name in `own_recipes` or in RECIPES.
        own_recipes: chains by name, as in `degrade.recipes` of params.yaml.

    Raises:
        DegradationError: there is no such recipe or effect.
    """
    steps = (own_recipes or {}).get(recipe)
    if steps is None:
        steps = RECIPES[_known_name(recipe)].steps
    return tuple(dict.fromkeys(_step_effects(steps, recipe)))


@cache
def _build_named(name: str) -> "Recipe":
    named = RECIPES[name]
    recipe = build_chain(named.steps, name, named.fixed)
    return recipe if named.severity is None else recipe.at(named.severity)


def _known_name(name: str) -> str:
    known = _SPELLINGS.get(str(name).replace("_", "-"))
    if known is None:
        choices = sorted(name for name, named in RECIPES.items() if not named.fixed) + FAMILIES
        raise DegradationError(f"there is no recipe {name!r}. Choose from {', '.join(choices)}")
    return known


def _step_effects(steps: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    """The name of each step's effect, after checking the steps."""
    if not isinstance(steps, Sequence) or isinstance(steps, str) or not steps:
        raise DegradationError(f"{name}: expected a list of steps, each with an `effect`, got {steps!r}")
    effects = []
    for number, step in enumerate(steps, start=1):
        where = f"{name}, step {number}"
        if not isinstance(step, Mapping) or "effect" not in step:
            raise DegradationError(f"{where}: expected a mapping with the key `effect`, got {step!r}")
        effect = step["effect"]
        if not isinstance(effect, str) or effect not in EFFECTS:
            raise DegradationError(f"{where}: there is no effect {effect!r}. Choose from {', '.join(EFFECTS)}")
        effects.append(effect)
    return effects
