"""Blur: defocus, camera motion and Gaussian, by convolution with kernels of any size."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from . import DegradationError
from .effects import Depth, Effect, Image, Parameters, Rng, Setting
from .light import round_to_uint8, to_codes, to_light

_TILE = 11  # OpenCV filters kernels up to this side directly and skips zeros; it uses a DFT for larger ones
_SPARSE = 0.25  # below this share of non-zeros several small filters are faster than one DFT


def convolve(
    values: NDArray[np.float32],
    kernel: NDArray[np.float32],
    centre: tuple[int, int] | None = None,
    border: int = cv2.BORDER_REFLECT_101,
) -> NDArray[np.float32]:
    """Convolve float values with a kernel of any size.

    Args:
        values: (H, W) or (H, W, 3).
        kernel: (h, w); a point becomes an upright picture of the kernel (convolution, not correlation).
        centre: (row, column) of the kernel cell with offset 0; None: the middle cell.
        border: an OpenCV border mode.

    Returns:
        float32 of the shape of `values`.
    """
    rows, columns = kernel.shape
    row, column = centre or (rows // 2, columns // 2)
    flipped = np.ascontiguousarray(kernel[::-1, ::-1])
    anchor = (columns - 1 - column, rows - 1 - row)
    if max(kernel.shape) > _TILE and np.count_nonzero(kernel) < _SPARSE * kernel.size:
        return _by_tiles(values, flipped, anchor, border)
    return np.asarray(cv2.filter2D(values, cv2.CV_32F, flipped, anchor=anchor, borderType=border), np.float32)


def _by_tiles(
    values: NDArray[np.float32], kernel: NDArray[np.float32], anchor: tuple[int, int], border: int
) -> NDArray[np.float32]:
    """Convolve with one small tile of the kernel at a time, and skip empty tiles."""
    height, width = values.shape[:2]
    left, top = anchor
    rows, columns = kernel.shape
    padded = cv2.copyMakeBorder(values, top, rows - 1 - top, left, columns - 1 - left, border)
    total = np.zeros_like(values)
    for row in range(0, rows, _TILE):
        for column in range(0, columns, _TILE):
            tile = kernel[row : row + _TILE, column : column + _TILE]
            if tile.any():
                lower, right = row + height + tile.shape[0] - 1, column + width + tile.shape[1] - 1
                part = cv2.filter2D(padded[row:lower, column:right], cv2.CV_32F, tile, anchor=(0, 0))
                total += part[:height, :width]
    return total


_OVERSAMPLING = 8  # sub-pixel steps at a disc's edge and along a path
_PATH_POINTS = 17


def disc_kernel(radius: float) -> NDArray[np.float32]:
    """Defocus kernel: a disc of `radius` pixels with a soft edge, (2r + 1, 2r + 1); its sum is 1."""
    reach = int(np.ceil(radius))
    side = (2 * reach + 1) * _OVERSAMPLING
    position = (np.arange(side) + 0.5) / _OVERSAMPLING - (reach + 0.5)
    inside = position[:, None] ** 2 + position[None, :] ** 2 <= (radius + 0.5) ** 2
    cells = inside.reshape(2 * reach + 1, _OVERSAMPLING, 2 * reach + 1, _OVERSAMPLING).sum(axis=(1, 3))
    return (cells / cells.sum()).astype(np.float32)


def path_kernel(path: NDArray[np.float64]) -> NDArray[np.float32]:
    """Motion kernel of a point that moves along `path`, (P, 2) x and y in pixels, at constant speed; its sum is 1.

    The path is centred on its mean position, so that the picture as a whole does not shift.
    """
    steps = np.hypot(*np.diff(path, axis=0).T)
    travelled = np.concatenate([[0.0], np.cumsum(steps)])
    at = np.linspace(0, travelled[-1], int(np.ceil(travelled[-1] * _OVERSAMPLING)) + 1)
    points = np.stack([np.interp(at, travelled, path[:, axis]) for axis in (0, 1)], axis=1)
    points -= points.mean(axis=0)
    reach = int(np.ceil(np.abs(points).max())) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    corner = np.floor(points).astype(int)
    right, down = (points - corner).T
    columns, rows = (corner + reach).T
    for dy, vertical in enumerate((1 - down, down)):
        for dx, horizontal in enumerate((1 - right, right)):
            np.add.at(kernel, (rows + dy, columns + dx), vertical * horizontal)
    return (kernel / kernel.sum()).astype(np.float32)


def gaussian_kernel(sigma: float, ratio: float, angle: float, size: int) -> NDArray[np.float32]:
    """Gaussian kernel of `sigma` pixels along `angle` degrees and `ratio * sigma` across it; its sum is 1.

    `size` is the side in pixels, reduced by 1 if even; 0 means 4 sigma in each direction.
    """
    reach = max((size - 1) // 2, 0) if size else int(np.ceil(4 * sigma))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(float)
    cosine, sine = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    along, across = x * cosine + y * sine, y * cosine - x * sine
    kernel = np.exp(-0.5 * ((along / sigma) ** 2 + (across / (ratio * sigma)) ** 2))
    return (kernel / kernel.sum()).astype(np.float32)


def blur(image: Image, kernel: NDArray[np.float32], light: str = "linear") -> Image:
    """Convolve linear light (`linear`, physical) or the 8-bit values (`encoded`); the border is mirrored."""
    if light == "linear":
        return to_codes(convolve(to_light(image), kernel))
    return round_to_uint8(convolve(image.astype(np.float32), kernel))


def apply_defocus(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Blur the whole image as if it were equally out of focus."""
    return blur(image, disc_kernel(parameters["radius_pixels"]))


def apply_motion(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Blur the image as if the camera moved along the recorded path during the exposure."""
    path = np.asarray(parameters["path"], dtype=np.float64)
    return blur(image, path_kernel(path))


def apply_gaussian(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Apply a Gaussian blur, round or elongated."""
    keys = ("sigma_pixels", "ratio", "angle_degrees", "kernel_pixels")
    return blur(image, gaussian_kernel(*(parameters[key] for key in keys)), parameters["light"])


def complete_path(parameters: Parameters, rng: Rng, size: tuple[int, int]) -> Parameters:
    """Keep the path of the settings, or draw one of `length_pixels`, from straight (bend 0) to wandering."""
    if parameters["path"]:
        return parameters | {"path": _checked_path(parameters["path"])}
    heading = rng.uniform(0, 2 * np.pi) + parameters["bend"] * np.cumsum(rng.normal(0, 0.6, _PATH_POINTS - 1))
    stride = parameters["length_pixels"] / (_PATH_POINTS - 1)
    moves = stride * np.stack([np.cos(heading), np.sin(heading)], axis=1)
    path = np.concatenate([np.zeros((1, 2)), np.cumsum(moves, axis=0)])
    return parameters | {"path": np.round(path, 4).tolist()}


def _checked_path(path: Any) -> list[list[float]]:
    try:
        points = np.asarray(path, dtype=np.float64)
    except (TypeError, ValueError):
        points = np.zeros(0)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 2 or not np.isfinite(points).all():
        raise DegradationError(f"path: expected a list of at least two [x, y] in pixels, got {path!r}")
    return points.tolist()


DEFOCUS = Effect(
    apply_defocus,
    {"radius_pixels": Setting(float, "pixels", 0, 100)},
    {"radius_pixels": (1.0, 2.0, 3.5, 5.5, 8.0)},
    "geometric optics: a point becomes a disc, in linear light",
)
MOTION = Effect(
    apply_motion,
    {
        "length_pixels": Setting(float, "pixels", 0, 200),
        "bend": Setting(float, "0 = straight, 1 = wandering", 0, 5),
        "path": Setting(list, "[x, y] in pixels; empty = drawn"),
    },
    {
        "length_pixels": (5.0, 9.0, 15.0, 22.0, 32.0),
        "bend": [0.0, 0.6],
        "path": [],
    },
    "camera shake along a path at constant speed, in linear light; the path is a random walk of headings",
    complete=complete_path,
)
GAUSSIAN = Effect(
    apply_gaussian,
    {
        "sigma_pixels": Setting(float, "pixels, along the longer axis", 0.05, 100),
        "ratio": Setting(float, "shorter axis / longer axis", 0.05, 1),
        "angle_degrees": Setting(float, "of the longer axis", -360, 360),
        "kernel_pixels": Setting(int, "side of the kernel, 0 = 4 sigma each way", 0, 401),
        "light": Setting(str, "linear is physical", choices=("linear", "encoded")),
    },
    {
        "sigma_pixels": (0.8, 1.5, 2.5, 4.0, 6.0),
        "ratio": [0.5, 1.0],
        "angle_degrees": [0.0, 180.0],
        "kernel_pixels": 0,
        "light": "linear",
    },
    "Gaussian point spread function, in linear light",
)
