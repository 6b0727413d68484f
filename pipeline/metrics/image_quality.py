"""Image quality: PSNR, SSIM, blur, MS-SSIM, LPIPS and DiffLoss's terms of images against their clean counterparts."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from data import images
from data.dataset import Split
from pipeline.metrics.fidelity import FIDELITY, Image, Measure
from pipeline.metrics.scoring import Metric

if TYPE_CHECKING:
    from pipeline.metrics.diffloss_terms import DiffLossTerms

LARGEST_TOO_SMALL = 175  # pixels of the shorter side: MS-SSIM halves it four times and needs windows of 11
BACKBONE = "alex"  # of LPIPS, as its authors advise for comparing images


def blur(image: Image, clean: Image) -> float:
    """How blurred an image is, without a reference: 0 (sharp) to 1, by scikit-image's blur_effect.

    Source: Crete et al., "The blur effect: perception and estimation with a new no-reference perceptual blur
    metric", SPIE 2007.
    """
    from skimage.measure import blur_effect

    return float(blur_effect(image, h_size=11, channel_axis=2))


def ms_ssim(image: Image, clean: Image) -> float:
    """Multi-scale structural similarity by torchmetrics, with the five weights of Wang et al. 2003; 0 to 1.

    In float32, which is much faster on a CPU than float64. The error is below 1e-4, on bright and nearly flat
    images, too.
    """
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    predicted, target = (torch.from_numpy(array).permute(2, 0, 1)[None].float() for array in (image, clean))
    return float(multiscale_structural_similarity_index_measure(predicted, target, data_range=255.0))


def available(clean: Split, device: torch.device) -> tuple[dict[str, Measure], dict[str, str]]:
    """The measures that need torch and can be computed on a split, and why the others cannot, by name.

    Args:
        clean: the clean images.
        device: for LPIPS.
    """
    from models.losses.lpips import backbone_file, load_network

    measures: dict[str, Measure] = {}
    left_out: dict[str, str] = {}
    sides = {image_id: min(clean.image(image_id).shape[:2]) for image_id in clean.ids}
    smallest = min(sides, key=lambda image_id: sides[image_id])
    if sides[smallest] > LARGEST_TOO_SMALL:
        measures["MS-SSIM"] = ms_ssim
    else:
        left_out["MS-SSIM"] = (
            f"needs more than {LARGEST_TOO_SMALL} pixels on each side, and {smallest!r} has {sides[smallest]}"
        )
    weights = backbone_file(BACKBONE)
    if weights.exists():
        measures["LPIPS"] = partial(_lpips, load_network(BACKBONE).to(device))
    else:
        left_out["LPIPS"] = f"its backbone's weights, {weights.name}, are not in torch's cache"
    return measures, left_out


def _lpips(network: torch.nn.Module, image: Image, clean: Image) -> float:
    device = next(network.parameters()).device
    pair: list[Any] = [images.to_tensor(np.asarray(array))[None].to(device) for array in (image, clean)]
    with torch.inference_mode():
        return float(network(*pair, normalize=True))


class ImageQuality:
    """The entry of METRICS for "quality": its metrics and what computes them."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("PSNR", unit="dB", digits=2, main=True, gain_digits=2),
        Metric("SSIM"),
        Metric("blur", higher_is_better=False),
        Metric("MS-SSIM"),
        Metric("LPIPS", higher_is_better=False),
        Metric("natural", higher_is_better=False),
        Metric("semantic", higher_is_better=False),
    )
    class_metrics: ClassVar[tuple[Metric, ...]] = ()
    image_metrics: ClassVar[tuple[Metric, ...]] = metrics

    measures: ClassVar[Mapping[str, Measure]] = {**FIDELITY, "blur": blur}  # for every image, without torch
    available = staticmethod(available)

    @staticmethod
    def diffloss_terms(prior: Path, section: Mapping[str, Any], seed: int, device: torch.device) -> "DiffLossTerms":
        """What measures "natural" and "semantic"; see `diffloss_terms`."""
        from pipeline.metrics.diffloss_terms import load_terms

        return load_terms(prior, section, seed, device)
