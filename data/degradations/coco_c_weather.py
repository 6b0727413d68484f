"""COCO-C: fog, snow, frost and spatter, after the formulas of imagecorruptions 1.1.2 (Apache-2.0)."""

import cv2
import numpy as np
from numpy.typing import NDArray

from data.degradations.coco_c_blur import ANGLE, PIXELS, REACH, smear, smooth, stretch
from data.degradations.coco_c_tone import FACTOR, SHARE, SIGMA, SOURCE, cut_to_uint8
from data.degradations.effects import Depth, Effect, Image, Parameters, Rng, Setting
from data.degradations.frost import TEXTURES, frost_texture
from data.degradations.light import in_all_channels

_COLOURS = {"water": np.array([175, 238, 238], np.float32), "mud": np.array([63, 42, 20], np.float32)}
_LUMA = np.array([[0.299, 0.587, 0.114]], dtype=np.float32)


def plasma(side: int, decay: float, rng: Rng) -> NDArray[np.float32]:
    """(side, side) cloud in [0, 1] by diamonds and squares on a torus; `side` is a power of two.

    Each level fills the middles of the squares and then those of the diamonds with the mean of four neighbours
    plus uniform noise of +-(100 / decay^level)^2; a larger `decay` makes a smoother cloud.
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
    """One level: (n, n) to (2n, 2n)."""
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
    """A quarter of the sum of all terms, which hold four neighbours, plus uniform noise of +-reach."""
    total = rng.random(sums[0].shape, dtype=np.float32)
    total -= np.float32(0.5)
    total *= 8 * reach
    for term in sums:
        total += term
    total *= np.float32(0.25)
    return total


def apply_fog(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """A cloud of light in front of the image, without depth; then dimmed to the image's own maximum."""
    height, width = image.shape[:2]
    side = 1 << (max(height, width) - 1).bit_length()
    cloud = in_all_channels(plasma(side, parameters["decay"], rng)[:height, :width])
    thickness, brightest = parameters["thickness"], float(image.max()) / 255
    dim = brightest / (brightest + thickness)
    return cut_to_uint8(image * np.float32(dim) + cloud * np.float32(255 * thickness * dim))


def apply_snow(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Bright specks, stretched and smeared, laid over twice (once turned), on a whitened image."""
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
    """Ice on the window: part of the image plus part of a frost picture."""
    ice = frost_texture(image.shape[:2], parameters, rng)
    frosted = image * np.float32(parameters["keep"])
    frosted += ice * np.float32(parameters["strength"])
    return cut_to_uint8(frosted)


def apply_spatter(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Drops of water that shine, or of mud that cover."""
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
    """(H, W) in [0, 1]: drops lit from one side, by an emboss of the distance to their edges."""
    distance = cv2.distanceTransform(255 - cv2.Canny(liquid, 50, 150), cv2.DIST_L2, 5)
    near = cv2.equalizeHist(cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8))
    emboss = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    relief = cv2.blur(cv2.filter2D(near, cv2.CV_8U, emboss), (3, 3)).astype(np.float32)
    shine = liquid * relief
    return shine / max(float(shine.max()), 1.0)


WEATHER_EFFECTS: dict[str, Effect] = {
    "fog": Effect(apply_fog, {"thickness": FACTOR, "decay": Setting(float, "per level of the cloud", 1, 10)}, SOURCE),
    "snow": Effect(
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
        SOURCE,
    ),
    "frost": Effect(
        apply_frost,
        {
            "keep": SHARE,
            "strength": SHARE,
            "texture": Setting(str, choices=TEXTURES),
            "picture": Setting(int, "number of the photo", 1, 6),
            "top": SHARE,
            "left": SHARE,
        },
        SOURCE,
    ),
    "spatter": Effect(
        apply_spatter,
        {
            "liquid": Setting(str, choices=tuple(_COLOURS)),
            "mean": SIGMA,
            "sigma": SIGMA,
            "sigma_pixels": PIXELS,
            "threshold": SHARE,
            "strength": FACTOR,
        },
        SOURCE,
    ),
}
