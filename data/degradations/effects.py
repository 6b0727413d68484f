"""The contract of an effect: settings with units, severities, and seeded random streams.

An effect has two halves. *Drawing* turns settings (fixed values, or ranges to draw from) into a flat record of
numbers and words. *Applying* is a pure function of the image, that record and a seeded stream for pixel-wise noise.
The manifest keeps the record, so that each image can be made again alone.
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
METRIC, PSEUDO = "metric", "ia-yolo-pseudo"  # the depth that an image was made with: a depth map, or pseudo-depth


@dataclass(frozen=True)
class Setting:
    """One setting of an effect.

    Attributes:
        type: float, int, str or list.
        unit: unit or meaning, for documents and error messages.
        low: smallest value.
        high: largest value.
        choices: the allowed values; empty if all are allowed.
    """

    type: type
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[Any, ...] = ()

    def check(self, value: Any, where: str) -> Any:
        """Convert a value to the type of this setting.

        Args:
            value: a number, word or list, or its text as read from a table.
            where: names the setting in error messages.

        Raises:
            DegradationError: the value has another type or is not allowed.
        """
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
        """The allowed values in words, for error messages."""
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        words = {int: "a whole number", float: "a number", str: "a word", list: "a list"}[self.type]
        if self.low > -math.inf or self.high < math.inf:
            words += f" from {self.low:g} to {self.high:g}"
        return f"{words} ({self.unit})" if self.unit else words


def keep(parameters: Parameters, rng: Rng, size: tuple[int, int]) -> Parameters:
    """Return the drawn settings unchanged: the default of `Effect.complete`."""
    return parameters


@dataclass(frozen=True)
class Effect:
    """One physical or published degradation.

    Attributes:
        apply: makes the degraded image from the clean image, its record, a random stream and depth (or None).
        settings: the settings by name; units are part of the names.
        severities: the value of each setting. A tuple of five has one value for each severity; any other value is
            used at all severities. A list [low, high] is drawn uniformly for each image; from a list of words, one is.
        source: publications of formulas and values.
        complete: adds values beyond the settings to the record, such as a motion path. Its arguments are the drawn
            settings, a random stream and the image's (height, width).
        drawn: the settings that `complete` adds.
        moves_pixels: whether boxes and masks of the clean image no longer fit.
        uses_depth: whether a depth map changes the result.
        changes_size: whether the result has another size than the image.
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
        """All entries of a record: the settings and the additions of `complete`."""
        return {**self.settings, **self.drawn}


def draw(value: Any, setting: Setting, rng: Rng) -> Any:
    """The value itself, or a uniform draw from a list [low, high] (both ends included for whole numbers)."""
    if setting.type is list or not isinstance(value, list | tuple):
        return value
    if setting.type is str:
        return str(value[rng.integers(len(value))])
    if setting.type is int:
        return int(rng.integers(value[0], value[1], endpoint=True))
    return float(rng.uniform(value[0], value[1]))


def stream(seed: int, step: int, purpose: int) -> Rng:
    """The random generator for one purpose (`DRAWN` or `FIELD`) of one step of one image."""
    return np.random.default_rng(np.random.SeedSequence([seed, step, purpose]))
