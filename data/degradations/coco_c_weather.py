"""COCO-C: fog, snow, frost and spatter, after the formulas of imagecorruptions 1.1.2 (Apache-2.0).

Frost pictures are drawn from the seed as ferns of ice, or are the photos that come with imagecorruptions.
"""

from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from . import DegradationError
from .coco_c_blur import ANGLE, PIXELS, REACH, smear, smooth, stretch
from .coco_c_tone import FACTOR, SHARE, SIGMA, SOURCE, cut_to_uint8
from .effects import Depth, Effect, Image, Parameters, Rng, Setting
from .light import in_all_channels

TEXTURES = ("drawn", "imagecorruptions")
_PHOTOS = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg", "frost6.jpg")
# Measured mean colour and contrast (standard deviation of green) of those photos, which drawn ice reproduces.
_MEANS = ((78, 149, 166), (201, 205, 214), (201, 205, 214), (138, 153, 165), (112, 123, 135), (71, 95, 105))
_DEVIATIONS = (16, 22, 22, 28, 43, 43)
_FERNS, _BRANCHES, _SHADES = 300, 10, 6
_OVERSIZE = 1.1  # the original enlarges a photo to at least this much more than it needs
_SHIFT = 4  # fractional bits of a drawn coordinate


def frost_texture(size: tuple[int, int], parameters: Parameters, rng: Rng) -> NDArray[np.float32]:
    """A frost picture, float32 (H, W, 3) with levels from 0 to 255, for a `size` of (H, W).

    Raises:
        DegradationError: the setting asks for photos, but imagecorruptions is not installed.
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
    """Draw ferns in several shades on a smooth background, float32 (H, W)."""
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
    """Ends of line segments, (segments, 2, 2) as x and y: stems, and branches that shorten towards the tip."""
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
    package = find_spec("imagecorruptions")  # not imported, because its import needs more packages
    if package is None or package.origin is None:
        raise DegradationError(
            "coco-c-frost, texture: the photos come with imagecorruptions, which is not installed. "
            "Install it without its dependencies, or use texture: drawn"
        )
    return np.asarray(Pillow.open(Path(package.origin).parent / "frost" / _PHOTOS[number - 1]).convert("RGB"))


def _crop(photo: NDArray[np.uint8], size: tuple[int, int], top: float, left: float) -> NDArray[np.uint8]:
    """Enlarge the photo if needed and crop it; `top` and `left` in [0, 1] place the crop."""
    factor = _OVERSIZE * max(1.0, size[0] / photo.shape[0], size[1] / photo.shape[1])
    height, width = (int(np.ceil(side * factor)) for side in photo.shape[:2])
    enlarged = np.asarray(cv2.resize(photo, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
    row, column = int(top * (height - size[0])), int(left * (width - size[1]))
    return enlarged[row : row + size[0], column : column + size[1]]


_COLOURS = {"water": np.array([175, 238, 238], np.float32), "mud": np.array([63, 42, 20], np.float32)}
_LUMA = np.array([[0.299, 0.587, 0.114]], dtype=np.float32)


def plasma(side: int, decay: float, rng: Rng) -> NDArray[np.float32]:
    """A cloud (side, side) in [0, 1] by the diamond-square algorithm on a torus; `side` is a power of two.

    Each level fills the centres of squares, then of diamonds, with the mean of four neighbours plus uniform noise
    of +-(100 / decay^level)^2. A larger `decay` makes a smoother cloud.
    """
    cloud = np.zeros((1, 1), dtype=np.float32)
    reach = 100.0
    while len(cloud) < side:
        cloud = _finer(cloud, np.float32(reach**2), rng)
        reach /= decay
    cloud -= cloud.min()
    cloud /= cloud.max()
    return cloud


def _finer(cloud: NDArray[np.float32], reach: np.float32, rng: Rng) -> NDArray[np.float32]:
    """One level of the diamond-square algorithm: (n, n) to (2n, 2n)."""
    n = len(cloud)
    finer = np.empty((n, 2, n, 2), dtype=np.float32)
    corners = np.asarray(cv2.copyMakeBorder(cloud, 0, 1, 0, 1, cv2.BORDER_WRAP), dtype=np.float32)
    below = corners[:-1] + corners[1:]
    middle = _noisy_mean(reach, rng, below[:, :-1], below[:, 1:])
    around = np.asarray(cv2.copyMakeBorder(middle, 1, 0, 1, 0, cv2.BORDER_WRAP), dtype=np.float32)
    finer[:, 0, :, 0], finer[:, 1, :, 1] = cloud, middle
    finer[:, 0, :, 1] = _noisy_mean(reach, rng, middle, around[:-1, 1:], cloud, corners[:-1, 1:])
    finer[:, 1, :, 0] = _noisy_mean(reach, rng, middle, around[1:, :-1], below[:, :-1])
    return finer.reshape(2 * n, 2 * n)


def _noisy_mean(reach: np.float32, rng: Rng, *sums: NDArray[np.float32]) -> NDArray[np.float32]:
    """A quarter of the sum of all terms, which add up four neighbours, plus uniform noise of +-reach."""
    total = rng.random(sums[0].shape, dtype=np.float32)
    total -= np.float32(0.5)
    total *= 8 * reach
    for term in sums:
        total += term
    total *= np.float32(0.25)
    return total


def apply_fog(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Add a cloud of light without depth, then dim the result to the image's maximum."""
    height, width = image.shape[:2]
    side = 1 << (max(height, width) - 1).bit_length()
    cloud = in_all_channels(plasma(side, parameters["decay"], rng)[:height, :width])
    thickness, brightest = parameters["thickness"], float(image.max()) / 255
    dim = brightest / (brightest + thickness)
    return cut_to_uint8(image * np.float32(dim) + cloud * np.float32(255 * thickness * dim))


def apply_snow(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Whiten the image and add bright specks, stretched and smeared, twice (once rotated by 180 degrees)."""
    height, width = image.shape[:2]
    zoom = parameters["zoom"]
    specks = rng.standard_normal((int(np.ceil(height / zoom)), int(np.ceil(width / zoom))), dtype=np.float32)
    specks = stretch(specks * np.float32(parameters["sigma"]) + np.float32(parameters["mean"]), height, width, zoom)
    specks[specks < parameters["threshold"]] = 0
    layer = smear(
        np.minimum(specks, 1) * 255, parameters["reach_pixels"], parameters["sigma_pixels"], parameters["angle_degrees"]
    )
    layer = np.rint(layer)
    layer = layer + layer[::-1, ::-1]
    white = cv2.transform(image, _LUMA).astype(np.float32) * np.float32(1.5) + np.float32(127.5)
    keep = np.float32(parameters["keep"])
    whitened = np.maximum(image, in_all_channels(white)) * (1 - keep)
    whitened += image * keep
    whitened += in_all_channels(layer)
    return cut_to_uint8(whitened)


def apply_frost(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Add ice on the window: a weighted sum of the image and a frost picture."""
    ice = frost_texture(image.shape[:2], parameters, rng)
    frosted = image * np.float32(parameters["keep"])
    frosted += ice * np.float32(parameters["strength"])
    return cut_to_uint8(frosted)


def apply_spatter(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Add drops of water, which brighten, or of mud, which cover."""
    noise = rng.standard_normal(image.shape[:2], dtype=np.float32)
    liquid = smooth(
        noise * np.float32(parameters["sigma"]) + np.float32(parameters["mean"]), parameters["sigma_pixels"]
    )
    liquid[liquid < parameters["threshold"]] = 0
    colour = _COLOURS[parameters["liquid"]]
    if parameters["liquid"] == "water":
        shine = _shine((liquid * 255).astype(np.uint8)) * np.float32(parameters["strength"])
        return cut_to_uint8(image + in_all_channels(shine) * colour)
    cover = smooth(liquid > parameters["threshold"], parameters["strength"])
    cover[cover < 0.8] = 0
    covered = in_all_channels(cover)
    return cut_to_uint8(image * (1 - covered) + covered * colour)


def _shine(liquid: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Highlights (H, W) in [0, 1] of drops lit from one side, by an emboss of the distance to their edges."""
    distance = cv2.distanceTransform(255 - cv2.Canny(liquid, 50, 150), cv2.DIST_L2, 5)
    near = cv2.equalizeHist(cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8))
    emboss = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    relief = cv2.blur(cv2.filter2D(near, cv2.CV_8U, emboss), (3, 3)).astype(np.float32)
    shine = liquid * relief
    return shine / max(float(shine.max()), 1.0)


FOG = Effect(
    apply_fog,
    {"thickness": FACTOR, "decay": Setting(float, "per level of the cloud", 1, 10)},
    {
        "thickness": (1.5, 2.0, 2.5, 2.5, 3.0),
        "decay": (2.0, 2.0, 1.7, 1.5, 1.4),
    },
    SOURCE,
)
SNOW = Effect(
    apply_snow,
    {
        "mean": SIGMA,
        "sigma": SIGMA,
        "zoom": Setting(float, "", 1, 20),
        "threshold": SHARE,
        "reach_pixels": REACH,
        "sigma_pixels": PIXELS,
        "keep": SHARE,
        "angle_degrees": ANGLE,
    },
    {
        "mean": (0.1, 0.2, 0.55, 0.55, 0.55),
        "sigma": 0.3,
        "zoom": (3.0, 2.0, 4.0, 4.5, 2.5),
        "threshold": (0.5, 0.5, 0.9, 0.85, 0.85),
        "reach_pixels": (10, 12, 12, 12, 12),
        "sigma_pixels": (4.0, 4.0, 8.0, 8.0, 12.0),
        "keep": (0.8, 0.7, 0.7, 0.65, 0.55),
        "angle_degrees": [-135.0, -45.0],
    },
    SOURCE,
)
FROST = Effect(
    apply_frost,
    {
        "keep": SHARE,
        "strength": SHARE,
        "texture": Setting(str, choices=TEXTURES),
        "picture": Setting(int, "number of the photo", 1, 6),
        "top": SHARE,
        "left": SHARE,
    },
    {
        "keep": (1.0, 0.8, 0.7, 0.65, 0.6),
        "strength": (0.4, 0.6, 0.7, 0.7, 0.75),
        "texture": "drawn",
        "picture": [1, 5],
        "top": [0.0, 1.0],
        "left": [0.0, 1.0],
    },
    SOURCE,
)
SPATTER = Effect(
    apply_spatter,
    {
        "liquid": Setting(str, choices=tuple(_COLOURS)),
        "mean": SIGMA,
        "sigma": SIGMA,
        "sigma_pixels": PIXELS,
        "threshold": SHARE,
        "strength": FACTOR,
    },
    {
        "liquid": ("water", "water", "water", "mud", "mud"),
        "mean": (0.65, 0.65, 0.65, 0.65, 0.67),
        "sigma": (0.3, 0.3, 0.3, 0.3, 0.4),
        "sigma_pixels": (4.0, 3.0, 2.0, 1.0, 1.0),
        "threshold": (0.69, 0.68, 0.68, 0.65, 0.65),
        "strength": (0.6, 0.6, 0.5, 1.5, 1.5),
    },
    SOURCE,
)
