"""How a recipe degrades an image, and the record from which the same image is made again.

`draw_parameters` draws the record of an image: a flat mapping of numbers and words. `apply_parameters` makes the
degraded image from its record, so that each image of a dataset can be made again alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import DegradationError
from .effects import DRAWN, FIELD, METRIC, PSEUDO, Depth, Image, Parameters, draw, stream
from .recipes import Recipe

SMALLEST_SIDE = 32  # pixels


@dataclass(frozen=True)
class Degraded:
    """A degraded image, uint8 RGB (H, W, 3), and its record: every parameter that was used or drawn for it."""

    image: NDArray[np.uint8]
    parameters: Parameters


def degrade_and_record(image: Image, recipe: Recipe, severity: int, seed: int, depth: Depth | None = None) -> Degraded:
    """Degrade one image; the arguments are those of `data.degradations.degrade`.

    Raises:
        DegradationError: an argument is not valid.
    """
    _check_image(image, depth)
    parameters = draw_parameters(recipe, severity, seed, image.shape[:2], metric_depth=depth is not None)
    return Degraded(apply_parameters(image, recipe, parameters, seed, depth), parameters)


def draw_parameters(
    recipe: Recipe, severity: int, seed: int, size: tuple[int, int], metric_depth: bool = False
) -> Parameters:
    """Draw the record of an image without making the image.

    Args:
        recipe: the degradation.
        severity: 1 (light) to 5 (heavy), or the number of a sweep's value.
        seed: a whole number >= 0, different for each image.
        size: height and width in pixels.
        metric_depth: whether the image has a depth map in metres.

    Raises:
        DegradationError: an argument is not valid.
    """
    if not _is_whole(severity) or not 1 <= severity <= recipe.severities:
        raise DegradationError(f"severity: expected a whole number from 1 to {recipe.severities}, got {severity!r}")
    seed = _check_seed(seed)
    parameters: Parameters = {}
    for index, step in enumerate(recipe.steps):
        rng = stream(seed, index, DRAWN)
        settings = step.effect.settings
        drawn = {key: draw(value, settings[key], rng) for key, value in step.rows[severity - 1].items()}
        drawn = step.effect.complete(drawn, rng, size)
        parameters |= {recipe.key(index, key): value for key, value in drawn.items()}
    if recipe.uses_depth:
        parameters["depth"] = METRIC if metric_depth else PSEUDO
    return parameters


def apply_parameters(
    image: Image, recipe: Recipe, parameters: Mapping[str, Any], seed: int, depth: Depth | None = None
) -> NDArray[np.uint8]:
    """Make a degraded image from its record, with the bytes that `degrade` returned.

    Args:
        image: the same clean image.
        recipe: the same recipe.
        parameters: the record; numbers may be strings, as read from a table (`repr` of a float is exact).
        seed: the same seed, from which pixel-wise noise is drawn again.
        depth: the same depth map, if the record says `metric`.

    Raises:
        DegradationError: a parameter is missing or out of range, or the depth map does not fit the record.
    """
    _check_image(image, depth)
    _check_seed(seed)
    if recipe.uses_depth:
        depth = _recorded_depth(parameters, depth, recipe.name)
    result = np.ascontiguousarray(image)
    for index, step in enumerate(recipe.steps):
        recorded = {key: _recorded(parameters, recipe, index, key) for key in step.effect.record}
        result = step.effect.apply(result, recorded, stream(seed, index, FIELD), depth)
    return result.copy() if np.shares_memory(result, image) else result


def _recorded(parameters: Mapping[str, Any], recipe: Recipe, index: int, key: str) -> Any:
    name = recipe.key(index, key)
    if name not in parameters:
        known = ", ".join(parameters)
        raise DegradationError(f"{recipe.name}: the record has no parameter {name!r}, only {known}. Run degrade again")
    return recipe.steps[index].effect.record[key].check(parameters[name], f"{recipe.name}, {name}")


def _recorded_depth(parameters: Mapping[str, Any], depth: Depth | None, name: str) -> Depth | None:
    source = parameters.get("depth")
    if source not in (METRIC, PSEUDO):
        raise DegradationError(f"{name}, depth: expected {METRIC} or {PSEUDO} in the record, got {source!r}")
    if source == METRIC and depth is None:
        raise DegradationError(f"{name}: the record says metric depth, but there is no depth map. Pass the depth map")
    return np.asarray(depth, dtype=np.float32) if source == METRIC else None


def _check_seed(seed: int) -> int:
    if not _is_whole(seed) or seed < 0:
        raise DegradationError(f"seed: expected a whole number >= 0, got {seed!r}")
    return int(seed)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _check_image(image: Image, depth: Depth | None) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise DegradationError(f"image: expected uint8 RGB (H, W, 3), got {got}")
    if min(image.shape[:2]) < SMALLEST_SIDE:
        raise DegradationError(f"image: expected sides of {SMALLEST_SIDE} pixels or more, got {image.shape[:2]}")
    if depth is None:
        return
    if not isinstance(depth, np.ndarray) or depth.shape != image.shape[:2]:
        got = str(getattr(depth, "shape", type(depth).__name__))
        raise DegradationError(f"depth: expected metres of shape {image.shape[:2]}, got {got}")
    if not (depth >= 0).all():
        raise DegradationError("depth: expected metres >= 0 everywhere, got negative values or NaN")
