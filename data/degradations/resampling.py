"""Low resolution, JPEG compression, and a shear, which moves pixels."""

import io

import cv2
import numpy as np
from PIL import Image as Pillow

from .effects import Depth, Effect, Image, Parameters, Rng, Setting

# Pillow's filters widen with the factor when shrinking (antialiasing), unlike OpenCV's of the same names.
_FILTERS = {
    "nearest": Pillow.Resampling.NEAREST,
    "box": Pillow.Resampling.BOX,
    "bilinear": Pillow.Resampling.BILINEAR,
    "bicubic": Pillow.Resampling.BICUBIC,
    "lanczos": Pillow.Resampling.LANCZOS,
}
_FILTER = Setting(str, "antialiased when shrinking", choices=tuple(_FILTERS))
_FACTOR = Setting(float, "clean side / degraded side", 1, 64)


def resize(image: Image, height: int, width: int, interpolation: str) -> Image:
    """Resize uint8 (H, W, 3) to (height, width, 3) with a filter named in `_FILTERS`."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Pillow.fromarray(image).resize((width, height), _FILTERS[interpolation]))


def compress(image: Image, quality: int) -> Image:
    """Compress and decompress as JPEG (libjpeg quality 1 to 100, chroma at half resolution)."""
    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Pillow.open(buffer))


def apply_jpeg(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Apply JPEG compression."""
    return compress(image, parameters["quality"])


def apply_shrink(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Make the image smaller; `enlarge` later in the chain restores its size."""
    height, width = (max(1, round(side / parameters["factor"])) for side in image.shape[:2])
    return resize(image, height, width, parameters["down"])


def apply_enlarge(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Resize the image to the size of the clean image."""
    return resize(image, parameters["height"], parameters["width"], parameters["up"])


def apply_lowres(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Shrink and enlarge the image, so that its labels stay valid."""
    height, width = image.shape[:2]
    small = apply_shrink(image, parameters, rng, depth)
    return resize(small, height, width, parameters["up"])


def apply_shear(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Shear the image horizontally about its centre; the border is mirrored."""
    height, width = image.shape[:2]
    slope = np.tan(np.deg2rad(parameters["shear_degrees"]))
    matrix = np.array([[1, slope, -slope * (height - 1) / 2], [0, 1, 0]])
    moved = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(moved, dtype=np.uint8)


def complete_size(parameters: Parameters, rng: Rng, size: tuple[int, int]) -> Parameters:
    """Add the size of the clean image to the record."""
    return parameters | {"height": int(size[0]), "width": int(size[1])}


JPEG = Effect(
    apply_jpeg,
    {"quality": Setting(int, "libjpeg quality", 1, 100)},
    {"quality": (50, 25, 15, 9, 5)},
    "JPEG by Pillow, 4:2:0",
)
SHRINK = Effect(
    apply_shrink,
    {"factor": _FACTOR, "down": _FILTER},
    {
        "factor": 2.0,
        "down": "bicubic",
    },
    "Pillow's resize",
    changes_size=True,
)
ENLARGE = Effect(
    apply_enlarge,
    {"up": _FILTER},
    {"up": "bicubic"},
    "Pillow's resize",
    complete=complete_size,
    drawn={"height": Setting(int, "pixels", 1), "width": Setting(int, "pixels", 1)},
    changes_size=True,
)
LOWRES = Effect(
    apply_lowres,
    {"factor": _FACTOR, "down": _FILTER, "up": _FILTER},
    {
        "factor": (1.5, 2.5, 4.0, 6.0, 8.0),
        "down": "bicubic",
        "up": "bicubic",
    },
    "Pillow's resize, down and up again",
)
SHEAR = Effect(
    apply_shear,
    {"shear_degrees": Setting(float, "degrees", -60, 60)},
    {"shear_degrees": (2.0, 4.0, 7.0, 11.0, 16.0)},
    "affine, bilinear",
    moves_pixels=True,
)
