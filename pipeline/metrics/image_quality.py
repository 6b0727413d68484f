"""Image quality: PSNR, SSIM, MS-SSIM, LPIPS and DiffLoss's terms of images against their clean counterparts.

Blur and PIQE need no clean counterpart.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from data import images
from data.dataset import Split
from pipeline.metrics.fidelity import FIDELITY, SMALLEST_SIDE, Image, Measure, ssim_at_all_scales
from pipeline.metrics.piqe import piqe
from pipeline.metrics.scoring import Metric

if TYPE_CHECKING:
    import torch

    from pipeline.metrics.diffloss_terms import DiffLossTerms

BACKBONE = "alex"  # of LPIPS, as its authors advise for comparing images


def blur(image: Image, clean: Image) -> float:
    """How blurred an image is, without a reference: 0 (sharp) to 1, by scikit-image's blur_effect.

    Source: Crete et al., "The blur effect: perception and estimation with a new no-reference perceptual blur
    metric", SPIE 2007.
    """
    from skimage.measure import blur_effect

    return float(blur_effect(image, h_size=11, channel_axis=2))


def measures_without_reference(chosen: Sequence[str] = ()) -> dict[str, Measure]:
    """The measures of images that have no clean counterparts, by name; they ignore their second image.

    Args:
        chosen: `quality.no_reference` in params.yaml.
    """
    return {"blur": blur, **{name: ImageQuality.no_reference[name] for name in chosen}}


def image_measures(clean: Split, chosen: Sequence[str] = ()) -> tuple[dict[str, Measure], dict[str, str]]:
    """The measures of a split that need no network, and the reasons why some cannot be computed, both by name.

    Args:
        clean: the clean images.
        chosen: `quality.no_reference` in params.yaml.
    """
    measures = {**ImageQuality.measures, **measures_without_reference(chosen)}
    sides = {image_id: min(clean.size(image_id)) for image_id in clean.ids}
    smallest = min(sides, key=lambda image_id: sides[image_id])
    if sides[smallest] >= SMALLEST_SIDE:
        return {**measures, "SSIM": ssim_at_all_scales}, {}
    reason = f"needs at least {SMALLEST_SIDE} pixels on each side, and {smallest!r} has {sides[smallest]}"
    return measures, {"MS-SSIM": reason}


def network_measures(
    device: "torch.device", lpips: Mapping[str, Any] | None = None
) -> tuple[dict[str, Measure], dict[str, str]]:
    """The measures by a network, and the reasons why some cannot be computed, both by name.

    Args:
        device: of the network.
        lpips: `losses.lpips` in params.yaml, which can name the file with the weights of the backbone.
    """
    from models.losses.lpips import backbone_file, load_network

    section, cached = lpips or {}, backbone_file(BACKBONE)
    weights = section.get("weights") if section.get("backbone", BACKBONE) == BACKBONE else None
    if weights or cached.exists():
        return {"LPIPS": partial(_lpips, load_network(BACKBONE, weights).to(device))}, {}
    reason = f"the weights of its backbone, {cached.name}, are not in torch's cache"
    return {}, {"LPIPS": f"{reason}, and losses.lpips.weights names no file"}


def _lpips(network: "torch.nn.Module", image: Image, clean: Image) -> float:
    import torch

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
        Metric("PIQE", higher_is_better=False, digits=1, gain_digits=1),
    )
    class_metrics: ClassVar[tuple[Metric, ...]] = ()
    image_metrics: ClassVar[tuple[Metric, ...]] = metrics

    measures: ClassVar[Mapping[str, Measure]] = {**FIDELITY, "blur": blur}  # of images of any size, without a network
    no_reference: ClassVar[Mapping[str, Measure]] = {"PIQE": piqe}  # only if params.yaml asks for them
    image_measures = staticmethod(image_measures)
    measures_without_reference = staticmethod(measures_without_reference)
    network_measures = staticmethod(network_measures)

    @staticmethod
    def diffloss_terms(
        folder: Path, section: Mapping[str, Any], seed: int, device: "torch.device", precision: str = "full"
    ) -> "DiffLossTerms":
        """What measures "natural" and "semantic", with the prior in a folder; see `DiffLossTerms`."""
        from models.diffusion.prior import DiffusionPrior
        from pipeline.metrics.diffloss_terms import DiffLossTerms

        return DiffLossTerms(DiffusionPrior.load(folder).to(device), section, seed, precision)
