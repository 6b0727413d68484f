"""Rain and snow: layers of motion-blurred particles at several distances, and a veil of fog."""

from itertools import pairwise
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from .effects import Depth, Effect, Image, Parameters, Rng, Setting
from .fog import CONTRAST_THRESHOLD, scene_depth, veiled_light
from .light import decode, in_all_channels, to_codes

SMALLEST_DROP = 1.5  # mm; smaller drops are too faint to be seen singly and are part of the veil
FLAKE_SPEED = 1.0  # m/s, dry aggregates (Locatelli and Hobbs 1974: 0.8 to 1.5)
_RAIN_EDGES = (0.7, 1.5, 3.0, 5.0)  # m: edges of the layers of rain, as distances from the camera
_SNOW_EDGES = (0.5, 1.0, 2.0, 4.0, 8.0)  # m: edges of the layers of snow
_SHIFT = 4  # fractional bits of a drawn coordinate

Layer: TypeAlias = tuple[float, float, NDArray[np.uint8]]

_COMMON = {
    "exposure_milliseconds": Setting(float, "ms", 0.1, 1000),
    "angle_degrees": Setting(float, "from vertical, positive = blown to the right", -89, 89),
    "opacity": Setting(float, "of a particle wider than a pixel, 0 to 1", 0, 1),
    "brightness": Setting(float, "sRGB value of the particles and of the veil, 0 to 1", 0, 1),
    "visibility_metres": Setting(float, "m, of the veil: Koschmieder, beta = 3.912 / visibility", 1, 100_000),
}


def rain_drops(rate: float) -> tuple[float, float, float]:
    """Number of visible drops per m^3, their mean diameter in mm and fall speed in m/s, for a rate in mm/h.

    Marshall and Palmer 1948: N(D) = 8000 exp(-4.1 R^-0.21 D) per m^3 and mm; Atlas et al. 1973:
    v = 9.65 - 10.3 exp(-0.6 D).
    """
    slope = 4.1 * rate**-0.21
    count = 8000 / slope * np.exp(-slope * SMALLEST_DROP)
    diameter = SMALLEST_DROP + 1 / slope
    return float(count), float(diameter), float(9.65 - 10.3 * np.exp(-0.6 * diameter))


def apply_rain(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Add rain: a streak is as long as the way that a drop falls during the exposure."""
    density, diameter, speed = rain_drops(parameters["rate_millimetres_per_hour"])
    layers = _layers(image.shape[:2], _RAIN_EDGES, density, diameter, speed, parameters, rng)
    return _composite(image, layers, parameters, depth)


def apply_snow(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Add snow: near flakes are soft, and each is smeared along its way during the exposure."""
    layers = _layers(
        image.shape[:2],
        _SNOW_EDGES,
        parameters["flakes_per_cubic_metre"],
        parameters["flake_millimetres"],
        FLAKE_SPEED,
        parameters,
        rng,
    )
    return _composite(image, layers, parameters, depth)


def _layers(
    size: tuple[int, int],
    edges: tuple[float, ...],
    density: float,
    diameter: float,
    speed: float,
    parameters: Parameters,
    rng: Rng,
) -> list[Layer]:
    """(near, far, coverage) of each layer: two distances in metres and (H, W) from 0 to 255.

    The camera is a pin-hole camera whose focal length is the longer side in pixels (53 degrees of view).
    """
    focal = max(size)
    layers = []
    for near, far in pairwise(edges):
        distance = (near + far) / 2
        volume = size[0] * size[1] / focal**2 * (far**3 - near**3) / 3
        width = diameter / 1000 / distance * focal
        length = speed * parameters["exposure_milliseconds"] / 1000 / distance * focal
        segments = _segments(size, density * volume, length, parameters["angle_degrees"], rng)
        layers.append((near, far, _draw(size, segments, width, parameters["opacity"])))
    return layers


def _segments(size: tuple[int, int], expected: float, length: float, angle: float, rng: Rng) -> NDArray[np.float64]:
    """Ends of streaks in pixels, (count, 2, 2) as x and y. The picture contains `expected` streaks on average."""
    height, width = size
    margin = length + 2
    count = rng.poisson(expected * (1 + 2 * margin / width) * (1 + 2 * margin / height))
    start = rng.uniform((-margin, -margin), (width + margin, height + margin), (count, 2))
    jitter = rng.uniform(-2, 2, count) + angle
    fall = length * rng.uniform(0.6, 1.4, count)
    heading = np.stack([np.sin(np.deg2rad(jitter)), np.cos(np.deg2rad(jitter))], axis=1)
    return np.stack([start, start + heading * fall[:, None]], axis=1)


def _draw(size: tuple[int, int], segments: NDArray[np.float64], width: float, opacity: float) -> NDArray[np.uint8]:
    """Draw streaks of `width` pixels as coverage (H, W); a width below 1 makes them fainter instead of thinner."""
    layer = np.zeros(size, dtype=np.uint8)
    level = round(255 * opacity * min(1.0, width))
    ends = np.rint(segments * (1 << _SHIFT)).astype(np.int32)
    if len(ends) and level:
        cv2.polylines(layer, list(ends), False, level, max(1, round(width)), cv2.LINE_AA, _SHIFT)
    if width > 1.5:
        cv2.GaussianBlur(layer, (0, 0), 0.3 * width, dst=layer)
    return layer


def _composite(image: Image, layers: list[Layer], parameters: Parameters, depth: Depth | None) -> Image:
    """Apply the veil by distance, then the layers. A surface is covered by the share of a layer in front of it."""
    beta = CONTRAST_THRESHOLD / parameters["visibility_metres"]
    light = veiled_light(image, scene_depth(image, depth), beta, parameters["brightness"])
    through = np.ones(image.shape[:2], dtype=np.float32)
    for near, far, layer in layers:
        covered = layer * np.float32(1 / 255)
        if depth is not None:
            covered *= np.clip((depth - near) / (far - near), 0, 1, dtype=np.float32)
        through *= 1 - covered
    ambient = np.float32(decode(parameters["brightness"]))
    light -= ambient
    light *= in_all_channels(through)
    light += ambient
    return to_codes(light)


RAIN = Effect(
    apply_rain,
    {"rate_millimetres_per_hour": Setting(float, "mm/h", 0.1, 500), **_COMMON},
    {
        "rate_millimetres_per_hour": (5.0, 12.0, 28.0, 55.0, 100.0),
        "exposure_milliseconds": [8.0, 14.0],
        "angle_degrees": [-20.0, 20.0],
        "opacity": (0.2, 0.25, 0.3, 0.35, 0.4),
        "brightness": [0.75, 0.85],
        "visibility_metres": (2000.0, 900.0, 450.0, 250.0, 140.0),
    },
    "drop sizes: Marshall and Palmer 1948; fall speed: Atlas et al. 1973; streaks after Garg and Nayar 2007; "
    "veil: Koschmieder",
    uses_depth=True,
)
SNOW = Effect(
    apply_snow,
    {
        "flakes_per_cubic_metre": Setting(float, "1/m^3", 0, 5000),
        "flake_millimetres": Setting(float, "mm", 0.1, 50),
        **_COMMON,
    },
    {
        "flakes_per_cubic_metre": (10.0, 25.0, 50.0, 90.0, 150.0),
        "flake_millimetres": (5.0, 6.0, 7.0, 8.0, 9.0),
        "exposure_milliseconds": [5.0, 12.0],
        "angle_degrees": [-50.0, 50.0],
        "opacity": 0.9,
        "brightness": [0.85, 0.95],
        "visibility_metres": (1000.0, 500.0, 250.0, 150.0, 90.0),
    },
    "flakes at 1 m/s (Locatelli and Hobbs 1974) in a layered depth; veil: Koschmieder",
    uses_depth=True,
)
