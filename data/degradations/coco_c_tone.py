"""COCO-C: noise, tone and compression, after the formulas of imagecorruptions 1.1.2 (Apache-2.0).

An independent, vectorised and seeded implementation. As in the original, values are truncated, not rounded.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from .effects import Depth, Effect, Image, Parameters, Rng, Setting
from .light import count_photons
from .resampling import apply_jpeg, resize

SOURCE = "Michaelis et al. 2019 (COCO-C), imagecorruptions 1.1.2"
SHARE = Setting(float, "0 to 1", 0, 1)
SIGMA = Setting(float, "standard deviation, white = 1", 0, 10)
FACTOR = Setting(float, "", 0, 1000)


def cut_to_uint8(values: NDArray[np.floating]) -> Image:
    """Clip to 0..255 and truncate to uint8. Overwrites its argument."""
    return np.clip(values, 0, 255, out=values).astype(np.uint8)


def apply_gaussian_noise(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Add Gaussian noise."""
    noisy = rng.standard_normal(image.shape, dtype=np.float32)
    noisy *= 255 * parameters["sigma"]
    noisy += image
    return cut_to_uint8(noisy)


def apply_shot_noise(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Add Poisson noise to the encoded values."""
    photons = parameters["photons_at_white"]
    counts = count_photons(image, np.arange(256) / 255 * photons, rng)
    levels = cut_to_uint8(np.arange(int(counts.max()) + 1) / photons * 255)
    return levels.take(counts)


def apply_impulse_noise(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Add salt and pepper noise, independently in each channel."""
    chance = rng.random(image.shape, dtype=np.float32)
    noisy = image.copy()
    noisy[chance < parameters["share"]] = 255
    noisy[chance < parameters["share"] / 2] = 0
    return noisy


def apply_speckle_noise(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Add Gaussian noise in proportion to the value."""
    noisy = rng.standard_normal(image.shape, dtype=np.float32)
    noisy *= parameters["sigma"]
    noisy += 1
    noisy *= image
    return cut_to_uint8(noisy)


def apply_brightness(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Raise V of HSV: all channels grow by the same factor, and black becomes grey."""
    value = image.max(axis=2, keepdims=True).astype(np.float32)
    raised = np.minimum(value + 255 * parameters["shift"], 255).astype(np.float32)
    return cut_to_uint8(np.where(value > 0, image * (raised / np.maximum(value, 1)), raised))


def apply_saturate(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Scale and shift S of HSV; grey has the hue of red, as in every common HSV conversion."""
    value = image.max(axis=2, keepdims=True).astype(np.float32)
    below = value - image
    reach = below.max(axis=2, keepdims=True)
    saturation = reach / np.maximum(value, 1)
    wanted = np.clip(saturation * parameters["factor"] + parameters["shift"], 0, 1)
    grey_as_red = np.array([0, 1, 1], dtype=np.float32)
    below = np.where(reach > 0, below / np.maximum(reach, 1), grey_as_red)
    return cut_to_uint8(value - below * wanted * value)


def apply_contrast(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Scale the difference to each channel's mean."""
    levels = np.arange(256)[:, None]
    means = image.reshape(-1, 3).mean(axis=0)
    table = cut_to_uint8((levels - means) * parameters["factor"] + means)
    return np.asarray(cv2.LUT(image, table[:, None, :]), dtype=np.uint8)


def apply_pixelate(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Shrink with a box filter and enlarge by repeating pixels."""
    height, width = image.shape[:2]
    small = resize(image, int(height * parameters["share"]), int(width * parameters["share"]), "box")
    return resize(small, height, width, "nearest")


GAUSSIAN_NOISE = Effect(
    apply_gaussian_noise,
    {"sigma": SIGMA},
    {"sigma": (0.08, 0.12, 0.18, 0.26, 0.38)},
    SOURCE,
)
SHOT_NOISE = Effect(
    apply_shot_noise,
    {"photons_at_white": Setting(float, "photons", 0.1, 50_000)},
    {"photons_at_white": (60.0, 25.0, 12.0, 5.0, 3.0)},
    SOURCE,
)
IMPULSE_NOISE = Effect(
    apply_impulse_noise,
    {"share": SHARE},
    {"share": (0.03, 0.06, 0.09, 0.17, 0.27)},
    SOURCE,
)
SPECKLE_NOISE = Effect(
    apply_speckle_noise,
    {"sigma": SIGMA},
    {"sigma": (0.15, 0.2, 0.35, 0.45, 0.6)},
    SOURCE,
)
BRIGHTNESS = Effect(
    apply_brightness,
    {"shift": SHARE},
    {"shift": (0.1, 0.2, 0.3, 0.4, 0.5)},
    SOURCE,
)
CONTRAST = Effect(
    apply_contrast,
    {"factor": FACTOR},
    {"factor": (0.4, 0.3, 0.2, 0.1, 0.05)},
    SOURCE,
)
SATURATE = Effect(
    apply_saturate,
    {"factor": FACTOR, "shift": SHARE},
    {
        "factor": (0.3, 0.1, 2.0, 5.0, 20.0),
        "shift": (0.0, 0.0, 0.0, 0.1, 0.2),
    },
    SOURCE,
)
JPEG_COMPRESSION = Effect(
    apply_jpeg,
    {"quality": Setting(int, "libjpeg quality", 1, 100)},
    {"quality": (25, 18, 15, 10, 7)},
    SOURCE,
)
PIXELATE = Effect(
    apply_pixelate,
    {"share": Setting(float, "of each side that is kept", 0.05, 1)},
    {"share": (0.6, 0.5, 0.4, 0.3, 0.25)},
    SOURCE,
)
