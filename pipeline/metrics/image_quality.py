"""How near an image is to another one: PSNR and SSIM. Not a stage."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data import images
from data.dataset import Split
from models.losses.lpips import backbone_file, load_network

Image = NDArray[np.uint8]
LARGEST_PSNR = 100.0  # of equal images, where the formula gives infinity


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


METRICS: dict[str, Callable[[Image, Image], float]] = {"PSNR": psnr, "SSIM": ssim}


def blur(image: Image, clean: Image) -> float:
    """How blurred an image is, without a reference: 0 (sharp) to 1, by scikit-image's blur_effect.

    Source: Crete et al., "The blur effect: perception and estimation with a new no-reference perceptual blur
    metric", SPIE 2007.
    """
    from skimage.measure import blur_effect

    return float(blur_effect(image, h_size=11, channel_axis=2))


Metric = Callable[[Image, Image], float]
LARGEST_TOO_SMALL = 160  # pixels of the shorter side: MS-SSIM halves it four times, under windows of 11
BACKBONE = "alex"  # of LPIPS, as its authors advise for comparing images


def ms_ssim(image: Image, clean: Image) -> float:
    """Multi-scale structural similarity by torchmetrics, with the five weights of Wang et al. 2003; 0 to 1.

    In float32, much cheaper on a CPU than float64: off by less than 1e-4 also on bright and nearly flat images.
    """
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    seen, target = (torch.from_numpy(one).permute(2, 0, 1)[None].float() for one in (image, clean))
    return float(multiscale_structural_similarity_index_measure(seen, target, data_range=255.0))


def available(clean: Split, device: torch.device) -> tuple[dict[str, Metric], dict[str, str]]:
    """The metrics that this split and the weights at hand allow, and why the others are left out, by name.

    Args:
        clean: the images that others are compared with.
        device: for LPIPS.
    """
    found: dict[str, Metric] = {}
    missing: dict[str, str] = {}
    sides = {id: min(clean.image(id).shape[:2]) for id in clean.ids}
    smallest = min(sides, key=lambda id: sides[id])
    if sides[smallest] > LARGEST_TOO_SMALL:
        found["MS-SSIM"] = ms_ssim
    else:
        missing["MS-SSIM"] = (
            f"needs more than {LARGEST_TOO_SMALL} pixels on each side, and {smallest!r} has {sides[smallest]}"
        )
    weights = backbone_file(BACKBONE)
    if weights.exists():
        found["LPIPS"] = partial(_lpips, load_network(BACKBONE).to(device))
    else:
        missing["LPIPS"] = f"its backbone's weights, {weights.name}, are not in torch's cache"
    return found, missing


def _lpips(network: torch.nn.Module, image: Image, clean: Image) -> float:
    device = next(network.parameters()).device
    pair: list[Any] = [images.to_tensor(one)[None].to(device) for one in (image, clean)]
    with torch.inference_mode():
        return float(network(*pair, normalize=True))
