"""PSNR, SSIM and MS-SSIM: how near an image is to its clean counterpart."""

from collections.abc import Callable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (H, W, 3)
# Of an image and its clean counterpart. A measure that computes several metrics at once returns them by name.
Measure = Callable[[Image, Image], float | Mapping[str, float]]
Floats = NDArray[np.float32]

LARGEST_PSNR = 100.0  # of equal images, for which the formula gives infinity
MARGIN = 5  # pixels; the window of SSIM has 11 on each side, and stays inside the image
WINDOW = cv2.getGaussianKernel(2 * MARGIN + 1, 1.5).astype(np.float32)
LUMINANCE, CONTRAST = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # the constants C1 and C2
MIDDLE_GREY = 128  # variances are computed around it: float32 then keeps the digits that count
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of MS-SSIM, from fine to coarse
SMALLEST_SIDE = (2 * MARGIN + 1) * 2 ** (len(SCALE_WEIGHTS) - 1)  # pixels: the window fits in at the coarsest scale


def psnr(image: Image, clean: Image) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels of 8-bit images, at most 100."""
    error = np.mean((image.astype(np.float64) - clean) ** 2)
    return float(min(10 * np.log10(255**2 / error), LARGEST_PSNR)) if error else LARGEST_PSNR


def ssim(image: Image, clean: Image) -> float:
    """Structural similarity, Wang et al. 2004: a Gaussian window with sigma 1.5, the mean over pixels and channels.

    The value is scikit-image's `structural_similarity(..., gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False)` to 1e-4.

    Raises:
        ValueError: a side is shorter than 11 pixels.
    """
    luminance, contrast = _similarity(_around_grey(image), _around_grey(clean))
    return _mean(luminance * contrast)


def ssim_at_all_scales(image: Image, clean: Image) -> dict[str, float]:
    """{"SSIM": as `ssim`, "MS-SSIM": multi-scale structural similarity, 0 to 1}. The finest scale serves both.

    MS-SSIM has the five weights of Wang et al. 2003: contrast and structure at each scale, luminance at the coarsest.
    As in torchmetrics, the window reaches over the mirrored borders at the coarsest scale alone. The value is that of
    its `multiscale_structural_similarity_index_measure` to 1e-4.

    Raises:
        ValueError: a side is shorter than SMALLEST_SIDE.
    """
    if min(clean.shape[:2]) < SMALLEST_SIDE:
        raise ValueError(f"MS-SSIM needs at least {SMALLEST_SIDE} pixels on each side, got {clean.shape[:2]}")
    x, y = _around_grey(image), _around_grey(clean)
    luminance, contrast = _similarity(x, y)
    single, product = _mean(luminance * contrast), max(_mean(contrast), 0.0) ** SCALE_WEIGHTS[0]
    for scale, weight in enumerate(SCALE_WEIGHTS[1:], start=2):
        x, y = _halved(x), _halved(y)
        is_coarsest = scale == len(SCALE_WEIGHTS)
        luminance, contrast = _similarity(x, y, margin=0 if is_coarsest else MARGIN)
        product *= max(_mean(luminance * contrast if is_coarsest else contrast), 0.0) ** weight
    return {"SSIM": single, "MS-SSIM": product}


def _around_grey(image: Image) -> Floats:
    return image.astype(np.float32) - MIDDLE_GREY


def _similarity(x: Floats, y: Floats, margin: int = MARGIN) -> tuple[Floats, Floats]:
    """Luminance, and contrast times structure, of the windows around the pixels of two images (H, W, 3).

    Args:
        x: around grey.
        y: of the same size.
        margin: pixels at each border that are left out; less than MARGIN: images are mirrored at their borders.
    """
    if min(x.shape[:2]) <= 2 * MARGIN:
        raise ValueError(f"SSIM needs at least {2 * MARGIN + 1} pixels on each side, got {x.shape[:2]}")
    height, width = x.shape[:2]
    inside = slice(margin, height - margin), slice(margin, width - margin)
    mean_x, mean_y, products, squares = (
        cv2.sepFilter2D(values, -1, WINDOW, WINDOW, borderType=cv2.BORDER_REFLECT_101)[inside]
        for values in (x, y, x * y, x * x + y * y)
    )
    covariance = products - mean_x * mean_y
    variances = squares - mean_x**2 - mean_y**2  # of both images together
    mean_x, mean_y = mean_x + MIDDLE_GREY, mean_y + MIDDLE_GREY
    luminance = (2 * mean_x * mean_y + LUMINANCE) / (mean_x**2 + mean_y**2 + LUMINANCE)
    return luminance, (2 * covariance + CONTRAST) / (variances + CONTRAST)


def _halved(image: Floats) -> Floats:
    """Means of 2 x 2 pixels; an odd last row or column is left out."""
    height, width = (side // 2 * 2 for side in image.shape[:2])
    return np.asarray(
        cv2.resize(image[:height, :width], (width // 2, height // 2), interpolation=cv2.INTER_AREA), dtype=np.float32
    )


def _mean(values: Floats) -> float:
    return float(values.mean(dtype=np.float64))


FIDELITY: dict[str, Callable[[Image, Image], float]] = {"PSNR": psnr, "SSIM": ssim}
