"""What every degradation is made of: settings with units, one effect, seeded streams.

An effect works in two halves. *Drawing* turns settings (fixed numbers, or ranges to draw from) into a flat
record of numbers and words. *Applying* is a pure function of the image, that record and a seeded stream for
pixel-wise noise. The record goes into the manifest, so that an image can be made again alone.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from . import DegradationError

Image: TypeAlias = NDArray[np.uint8]  # (H, W, 3) RGB
Depth: TypeAlias = NDArray[np.float32]  # (H, W) metres
Parameters: TypeAlias = dict[str, Any]  # JSON-able: float, int, str, list
Rng: TypeAlias = np.random.Generator
Apply: TypeAlias = Callable[[Image, Parameters, Rng, Depth | None], Image]
Complete: TypeAlias = Callable[[Parameters, Rng, tuple[int, int]], Parameters]

DRAWN, FIELD = 0, 1  # the two random streams of a step
METRIC, PSEUDO = "metric", "ia-yolo-pseudo"  # where a depth-using effect took its depth from


@dataclass(frozen=True)
class Setting:
    """One setting of an effect: its type, unit and allowed values."""

    type: type
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[Any, ...] = ()

    def check(self, value: Any, where: str) -> Any:
        """Return `value` as this setting's type, or raise DegradationError naming `where`."""
        try:
            if isinstance(value, bool) or (self.type is not list and isinstance(value, list | tuple | dict)):
                raise ValueError
            if self.type is list and isinstance(value, str):
                value = json.loads(value)  # a record read from a table
            if self.type is int and float(value) != int(float(value)):
                raise ValueError
            typed = int(float(value)) if self.type is int else self.type(value)
        except (TypeError, ValueError, OverflowError):
            raise DegradationError(f"{where}: expected {self.expected()}, got {value!r}") from None
        outside = self.type in (int, float) and not self.low <= typed <= self.high
        if outside or (self.choices and typed not in self.choices):
            raise DegradationError(f"{where}: expected {self.expected()}, got {value!r}")
        return typed

    def expected(self) -> str:
        """The allowed values in words."""
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        words = {int: "a whole number", float: "a number", str: "a word", list: "a list"}[self.type]
        if self.low > -math.inf or self.high < math.inf:
            words += f" from {self.low:g} to {self.high:g}"
        return f"{words} ({self.unit})" if self.unit else words


def keep(parameters: Parameters, rng: Rng, size: tuple[int, int]) -> Parameters:
    """The usual `complete`: nothing to add to the drawn settings."""
    return parameters


@dataclass(frozen=True)
class Effect:
    """One physical or published degradation.

    Attributes:
        apply: the image from its record.
        settings: the settings by name; units are part of the names.
        severities: the value of each setting. A tuple of five holds one value for each severity; anything else holds
            for all of them. A list [low, high] is drawn anew, uniformly, for each image (a list of words: one of them).
        source: where formulas and values come from.
        complete: adds to the record what is drawn or derived beyond the settings (a motion path).
        drawn: describes those additions.
        moves_pixels: boxes and masks of the clean image no longer fit.
        uses_depth: a depth map changes the result.
        changes_size: the result has another size than the image.
    """

    apply: Apply
    settings: Mapping[str, Setting]
    severities: Mapping[str, Any]
    source: str
    complete: Complete = keep
    drawn: Mapping[str, Setting] = field(default_factory=dict)
    moves_pixels: bool = False
    uses_depth: bool = False
    changes_size: bool = False

    @property
    def record(self) -> dict[str, Setting]:
        """Everything `apply` needs: the settings and what `complete` adds."""
        return {**self.settings, **self.drawn}


def draw(value: Any, setting: Setting, rng: Rng) -> Any:
    """One value: fixed as given, or uniform from a [low, high] pair (whole numbers include both ends)."""
    if setting.type is list or not isinstance(value, list | tuple):
        return value
    if setting.type is str:
        return str(value[rng.integers(len(value))])
    if setting.type is int:
        return int(rng.integers(value[0], value[1], endpoint=True))
    return float(rng.uniform(value[0], value[1]))


def stream(seed: int, step: int, purpose: int) -> Rng:
    """The generator of one step of one image; nothing else ever draws from it."""
    return np.random.default_rng(np.random.SeedSequence([seed, step, purpose]))
