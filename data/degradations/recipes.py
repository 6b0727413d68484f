"""The table of recipes: every name that params.yaml may give, and where published names come from."""

from typing import Any

from data.degradations.chains import COCO_C_EFFECTS, EFFECTS, TABLE, build_chain
from data.degradations.effects import SEVERITIES, DegradationError, Recipe

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
