"""COCO-C: blurs and the elastic transform, after the formulas of imagecorruptions 1.1.2 (Apache-2.0)."""

import cv2
import numpy as np
from numpy.typing import NDArray

from .blur import convolve
from .coco_c_tone import SOURCE, cut_to_uint8
from .effects import Depth, Effect, Image, Parameters, Rng, Setting

PIXELS = Setting(float, "pixels", 0.01, 200)
REACH = Setting(int, "pixels", 1, 100)
ANGLE = Setting(float, "degrees", -180, 180)


def smooth(values: NDArray, sigma: float, truncate: float = 4.0) -> NDArray[np.float32]:
    """Blur as scikit-image's `gaussian` does: cut at `truncate` sigma, edges repeated; float32 of the input's scale."""
    side = 2 * int(truncate * sigma + 0.5) + 1
    blurred = cv2.GaussianBlur(values.astype(np.float32), (side, side), sigma, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(blurred, dtype=np.float32)


def motion_offsets(reach: int, sigma: float, angle: float) -> tuple[NDArray[np.float64], NDArray, NDArray]:
    """Weights, rows and columns (in whole pixels) of a motion blur: half a Gaussian along `angle` degrees."""
    at = np.arange(2 * reach + 1)
    weights = np.exp(-(at**2) / (2 * sigma**2))
    rows = np.ceil(at * np.sin(np.deg2rad(angle)) - 0.5).astype(int)
    columns = np.ceil(at * np.cos(np.deg2rad(angle)) - 0.5).astype(int)
    return weights / weights.sum(), rows, columns


def smear(values: NDArray, reach: int, sigma: float, angle: float) -> NDArray[np.float32]:
    """Motion blur of (H, W) or (H, W, 3), edges repeated; float32 of the input's scale."""
    weights, rows, columns = motion_offsets(reach, sigma, angle)
    inside = (np.abs(rows) < values.shape[0]) & (np.abs(columns) < values.shape[1])
    weights, rows, columns = weights[inside], rows[inside], columns[inside]
    centre = (int(rows.max()), int(columns.max()))
    kernel = np.zeros((int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1), dtype=np.float32)
    np.add.at(kernel, (centre[0] - rows, centre[1] - columns), weights)
    return convolve(values.astype(np.float32, copy=False), kernel, centre, cv2.BORDER_REPLICATE)


def stretch(values: NDArray, height: int, width: int, factor: float) -> NDArray:
    """Enlarge by `factor` with aligned corners, bilinear, and keep the upper left (height, width)."""
    matrix = np.zeros((2, 3))
    for axis, cut in enumerate((values.shape[1], values.shape[0])):
        matrix[axis, axis] = (cut - 1) / max(round(cut * factor) - 1, 1)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(values, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE))


def zoomed(image: Image, factor: float) -> Image:
    """The image zoomed about its centre by `factor` >= 1, at the same size."""
    height, width = image.shape[:2]
    cut = int(np.ceil(height / factor)), int(np.ceil(width / factor))
    top, left = (height - cut[0]) // 2, (width - cut[1]) // 2
    return stretch(image[top : top + cut[0], left : left + cut[1]], height, width, factor)


def apply_gaussian_blur(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Apply a Gaussian blur to the encoded values."""
    return cut_to_uint8(smooth(image, parameters["sigma_pixels"]))


def apply_glass_blur(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Blur, replace every pixel with a random neighbour, and blur again."""
    shuffled = cut_to_uint8(smooth(image, parameters["sigma_pixels"]))
    height, width = image.shape[:2]
    for _ in range(parameters["rounds"]):
        sources = neighbour_sources(height, width, parameters["reach_pixels"], rng)
        shuffled = shuffled.reshape(-1, 3)[sources].reshape(image.shape)
    return cut_to_uint8(smooth(shuffled, parameters["sigma_pixels"]))


def neighbour_sources(height: int, width: int, reach: int, rng: Rng) -> NDArray[np.int32]:
    """Flat index of the pixel that each pixel's colour comes from after one round, (H * W,).

    The original loops from the lower right corner to the upper left, so that a pixel may copy a colour that its
    neighbour has just copied. This function resolves all chains of copies at once, in a number of rounds that is
    logarithmic in their length.
    """
    index = np.arange(height * width, dtype=np.int32).reshape(height, width)
    offsets = rng.integers(-reach, reach, (2, height, width), dtype=np.int32)
    source = index.copy()
    inner = (slice(reach + 1, height - reach + 1), slice(reach + 1, width - reach + 1))
    source[inner] += (offsets[0] * np.int32(width) + offsets[1])[inner]
    target, walking = source.reshape(-1), (source > index).reshape(-1)  # walking: the source itself is a copy
    while (at := np.flatnonzero(walking)).size:
        via = target[at]
        target[at], walking[at] = target[via], walking[via]
    return target


def apply_defocus_blur(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Blur the encoded values with a disc whose edge is slightly softened."""
    radius = parameters["radius_pixels"]
    side, soft = (8, 3) if radius <= 8 else (radius, 5)
    at = np.arange(-side, side + 1)
    disc = (at[:, None] ** 2 + at[None, :] ** 2 <= radius**2).astype(np.float32)
    kernel = cv2.GaussianBlur(disc / disc.sum(), (soft, soft), parameters["edge_sigma_pixels"])
    return cut_to_uint8(np.asarray(cv2.filter2D(image.astype(np.float32), -1, kernel)))


def apply_motion_blur(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Apply a motion blur: half a Gaussian along a line."""
    settings = (parameters[key] for key in ("reach_pixels", "sigma_pixels", "angle_degrees"))
    return cut_to_uint8(smear(image, *settings))


def apply_zoom_blur(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Average the image and its zooms from 1 to the largest."""
    zooms = 1 + parameters["step"] * np.arange(round((parameters["largest_zoom"] - 1) / parameters["step"]) + 1)
    total = image.astype(np.uint16)
    for zoom in zooms:
        total += zoomed(image, float(zoom))
    return cut_to_uint8(total.astype(np.float32) / np.float32(len(zooms) + 1))


def apply_elastic(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Displace pixels smoothly at random; the displacement scales with the image's height, as published."""
    height, width = image.shape[:2]
    shifts = [_smooth_field(height, width, rng) * np.float32(parameters["strength"]) for _ in range(2)]
    columns = np.arange(width, dtype=np.float32)[None, :] + shifts[0]
    rows = np.arange(height, dtype=np.float32)[:, None] + shifts[1]
    moved = cv2.remap(image.astype(np.float32), columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return cut_to_uint8(np.asarray(moved))


def _smooth_field(height: int, width: int, rng: Rng) -> NDArray[np.float32]:
    limit = 0.005 * height
    field = rng.random((height, width), dtype=np.float32) * np.float32(2 * limit) - np.float32(limit)
    sigmas = 0.01 * width, 0.01 * height
    sides = [2 * int(3 * sigma + 0.5) + 1 for sigma in sigmas]
    return np.asarray(cv2.GaussianBlur(field, sides, sigmas[0], sigmaY=sigmas[1], borderType=cv2.BORDER_REFLECT))


GAUSSIAN_BLUR = Effect(
    apply_gaussian_blur,
    {"sigma_pixels": PIXELS},
    {"sigma_pixels": (1.0, 2.0, 3.0, 4.0, 6.0)},
    SOURCE,
)
GLASS_BLUR = Effect(
    apply_glass_blur,
    {"sigma_pixels": PIXELS, "reach_pixels": Setting(int, "pixels", 1, 10), "rounds": Setting(int, "", 1, 20)},
    {
        "sigma_pixels": (0.7, 0.9, 1.0, 1.1, 1.5),
        "reach_pixels": (1, 2, 2, 3, 4),
        "rounds": (2, 1, 3, 2, 2),
    },
    SOURCE,
)
DEFOCUS_BLUR = Effect(
    apply_defocus_blur,
    {"radius_pixels": REACH, "edge_sigma_pixels": PIXELS},
    {
        "radius_pixels": (3, 4, 6, 8, 10),
        "edge_sigma_pixels": (0.1, 0.5, 0.5, 0.5, 0.5),
    },
    SOURCE,
)
MOTION_BLUR = Effect(
    apply_motion_blur,
    {"reach_pixels": REACH, "sigma_pixels": PIXELS, "angle_degrees": ANGLE},
    {
        "reach_pixels": (10, 15, 15, 15, 20),
        "sigma_pixels": (3.0, 5.0, 8.0, 12.0, 15.0),
        "angle_degrees": [-45.0, 45.0],
    },
    SOURCE,
)
ZOOM_BLUR = Effect(
    apply_zoom_blur,
    {"largest_zoom": Setting(float, "", 1, 4), "step": Setting(float, "", 0.001, 1)},
    {
        "largest_zoom": (1.11, 1.15, 1.2, 1.24, 1.3),
        "step": (0.01, 0.01, 0.02, 0.02, 0.03),
    },
    SOURCE,
)
ELASTIC_TRANSFORM = Effect(
    apply_elastic,
    {"strength": Setting(float, "gain of the displacement", 0, 1000)},
    {"strength": (12.5, 16.25, 21.25, 25.0, 30.0)},
    SOURCE,
    moves_pixels=True,
)
