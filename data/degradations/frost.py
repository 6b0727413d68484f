"""Frost pictures: ferns of ice drawn from the seed, or the photos that come with imagecorruptions."""

from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from data.degradations.effects import DegradationError, Parameters, Rng

TEXTURES = ("drawn", "imagecorruptions")
_PHOTOS = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg", "frost6.jpg")
# Mean colour and contrast (standard deviation of green) of those photos, measured: drawn ice takes them over.
_MEANS = ((78, 149, 166), (201, 205, 214), (201, 205, 214), (138, 153, 165), (112, 123, 135), (71, 95, 105))
_DEVIATIONS = (16, 22, 22, 28, 43, 43)
_FERNS, _BRANCHES, _SHADES = 300, 10, 6
_OVERSIZE = 1.1  # the original enlarges a photo to at least this much more than it needs
_SHIFT = 4  # fractional bits of a drawn coordinate


def frost_texture(size: tuple[int, int], parameters: Parameters, rng: Rng) -> NDArray[np.float32]:
    """A frost picture of (H, W), float32 (H, W, 3) with levels from 0 to 255.

    Raises:
        DegradationError: the photos are asked for, but imagecorruptions is not installed.
    """
    if parameters["texture"] == "imagecorruptions":
        photo = _photo(parameters["picture"])
        return _crop(photo, size, parameters["top"], parameters["left"]).astype(np.float32)
    ice = _draw(size, rng)
    ice -= ice.mean()
    ice /= max(float(ice.std()), 1e-6)
    ice *= _DEVIATIONS[parameters["picture"] - 1]
    return np.clip(ice[..., None] + np.array(_MEANS[parameters["picture"] - 1], np.float32), 0, 255)


def _draw(size: tuple[int, int], rng: Rng) -> NDArray[np.float32]:
    """Ferns in several shades, one over the other, on a soft ground; (H, W)."""
    height, width = size
    scale = max(size) / 480
    ground = cv2.resize(rng.random((7, 7), dtype=np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    canvas = np.clip(ground * 120, 0, 255).astype(np.uint8)
    for shade in range(_SHADES):
        segments = _ferns(size, _FERNS // _SHADES, scale, rng)
        ends = np.rint(segments * (1 << _SHIFT)).astype(np.int32)
        level = 70 + 150 * shade // (_SHADES - 1)
        cv2.polylines(canvas, list(ends), False, level, max(1, round(scale)), cv2.LINE_AA, _SHIFT)
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), 0.6), dtype=np.float32)


def _ferns(size: tuple[int, int], count: int, scale: float, rng: Rng) -> NDArray[np.float64]:
    """(segments, 2, 2) ends of stems and of the branches on both sides, which shorten towards the tip."""
    root = rng.uniform((0, 0), (size[1], size[0]), (count, 2))
    heading = rng.uniform(0, 2 * np.pi, count)
    length = scale * rng.uniform(25, 80, count)
    along = np.linspace(0.08, 1, _BRANCHES)
    starts = root[:, None] + along[None, :, None] * (length[:, None] * _direction(heading))[:, None]
    reach = (length[:, None] * 0.35 * (1.1 - along))[..., None]
    sides = [starts + reach * _direction(heading + turn)[:, None] for turn in (0.9, -0.9)]
    branches = [np.stack([starts, side], axis=2).reshape(-1, 2, 2) for side in sides]
    return np.concatenate([np.stack([root, starts[:, -1]], axis=1), *branches])


def _direction(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def _photo(number: int) -> NDArray[np.uint8]:
    package = find_spec("imagecorruptions")  # found, not imported: its import needs packages of its own
    if package is None or package.origin is None:
        raise DegradationError(
            "coco-c-frost, texture: the photos come with imagecorruptions, which is not installed; "
            "install it without its dependencies, or use texture: drawn"
        )
    return np.asarray(Pillow.open(Path(package.origin).parent / "frost" / _PHOTOS[number - 1]).convert("RGB"))


def _crop(photo: NDArray[np.uint8], size: tuple[int, int], top: float, left: float) -> NDArray[np.uint8]:
    """Enlarge where the photo is too small, then cut at a place given as shares of the slack."""
    factor = _OVERSIZE * max(1.0, size[0] / photo.shape[0], size[1] / photo.shape[1])
    height, width = (int(np.ceil(side * factor)) for side in photo.shape[:2])
    enlarged = np.asarray(cv2.resize(photo, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
    row, column = int(top * (height - size[0])), int(left * (width - size[1]))
    return enlarged[row : row + size[0], column : column + size[1]]
