"""The recipes that have a name, as plain data: their effects, and settings where they differ from the effects' own.

This module imports nothing but the standard library, so that the effects behind a name are known in milliseconds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

SEVERITIES = (1, 2, 3, 4, 5)
ONLY_IN_CHAINS = ("shrink", "enlarge")  # effects that change the image's size: alone they are no recipe
COCO_C = "coco-c-"


class DegradationError(ValueError):
    """A recipe, setting, image or depth map that cannot be used; the text names it and what was expected."""


@dataclass(frozen=True)
class NamedRecipe:
    """A recipe by name.

    Attributes:
        steps: the effects in order, each a mapping as in params.yaml.
        fixed: a published setting: the same at every severity.
        severity: the severity of the effect's own table that a fixed recipe has; None: `steps` has all settings.
    """

    steps: tuple[Mapping[str, Any], ...]
    fixed: bool = False
    severity: int | None = None


# Published chains: EDTR, ICCV 2025; Mix-A is SR4IR's. Mix-B's "kernel up to 41" is read as the largest support of a
# round blur on 8-bit values.
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


def named_recipes(effects: Iterable[str]) -> dict[str, NamedRecipe]:
    """All recipes by name: every effect alone, then the published settings.

    Args:
        effects: the names of the effects.
    """
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
