"""PSNR and SSIM: how near an image is to its clean counterpart."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (H, W, 3)
Measure = Callable[[Image, Image], float]  # of an image and its clean counterpart

LARGEST_PSNR = 100.0  # of equal images, for which the formula gives infinity


def psnr(image: Image, clean: Image) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels of 8-bit images, at most 100."""
    error = np.mean((image.astype(np.float64) - clean) ** 2)
    return float(min(10 * np.log10(255**2 / error), LARGEST_PSNR)) if error else LARGEST_PSNR


def ssim(image: Image, clean: Image) -> float:
    """Structural similarity by scikit-image with the settings of Wang et al. 2004 (Gaussian window, sigma 1.5)."""
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(
            image, clean, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


FIDELITY: dict[str, Measure] = {"PSNR": psnr, "SSIM": ssim}
