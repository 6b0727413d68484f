"""Image quality: PSNR, SSIM, blur, MS-SSIM, LPIPS and DiffLoss's terms of images against their clean counterparts."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from data import images
from data.dataset import Split
from pipeline.metrics.fidelity import FIDELITY, Image, Measure
from pipeline.metrics.records import MeanRecords
from pipeline.metrics.scoring import Metric
from pipeline.running.seeds import seed_for

if TYPE_CHECKING:
    from models.diffusion.prior import DiffusionPrior

SMALLEST_SIDE = 176  # pixels; torchmetrics takes images from 16 * 11 pixels on: five scales, windows of 11
BACKBONE = "alex"  # of LPIPS, as its authors advise for comparing images
TIMESTEPS = 4  # of DiffLoss's terms, evenly over the window that the loss draws from


def blur(image: Image, clean: Image) -> float:
    """How blurred an image is, without a reference: 0 (sharp) to 1, by scikit-image's blur_effect.

    Source: Crete et al., "The blur effect: perception and estimation with a new no-reference perceptual blur
    metric", SPIE 2007.
    """
    from skimage.measure import blur_effect

    return float(blur_effect(image, h_size=11, channel_axis=2))


def ms_ssim(image: Image, clean: Image) -> float:
    """Multi-scale structural similarity by torchmetrics, with the five weights of Wang et al. 2003; 0 to 1.

    Computed in float32, which is much faster on a CPU than float64. The error is below 1e-4, even on bright and nearly
    flat images.
    """
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    predicted, target = (torch.from_numpy(array).permute(2, 0, 1)[None].float() for array in (image, clean))
    return float(multiscale_structural_similarity_index_measure(predicted, target, data_range=255.0))


def torch_measures(clean: Split, device: torch.device) -> tuple[dict[str, Measure], dict[str, str]]:
    """The measures of a split that need torch, and the reasons why some cannot be computed, both by name.

    Args:
        clean: the clean images.
        device: for LPIPS.
    """
    from models.losses.lpips import backbone_file, load_network

    measures: dict[str, Measure] = {}
    left_out: dict[str, str] = {}
    sides = {image_id: min(clean.image(image_id).shape[:2]) for image_id in clean.ids}
    smallest = min(sides, key=lambda image_id: sides[image_id])
    if sides[smallest] >= SMALLEST_SIDE:
        measures["MS-SSIM"] = ms_ssim
    else:
        left_out["MS-SSIM"] = (
            f"needs at least {SMALLEST_SIDE} pixels on each side, and {smallest!r} has {sides[smallest]}"
        )
    weights = backbone_file(BACKBONE)
    if weights.exists():
        measures["LPIPS"] = partial(_lpips, load_network(BACKBONE).to(device))
    else:
        left_out["LPIPS"] = f"the weights of its backbone, {weights.name}, are not in torch's cache"
    return measures, left_out


def _lpips(network: torch.nn.Module, image: Image, clean: Image) -> float:
    device = next(network.parameters()).device
    pair: list[Any] = [images.to_tensor(np.asarray(array))[None].to(device) for array in (image, clean)]
    with torch.inference_mode():
        return float(network(*pair, normalize=True))


class DiffLossTerms:
    """DiffLoss's two terms as metrics: how differently a diffusion prior sees an image and its clean counterpart.

    Timesteps are fixed, and so is the noise of each image: both are the same for every variant. The terms cost several
    passes of the prior for each image, so the stage `quality` measures them on some images only.

    Args:
        prior: the run's diffusion prior.
        section: `losses.diffloss` in params.yaml, of which the window of timesteps and the view are used.
        seed: of the noise.
    """

    def __init__(self, prior: "DiffusionPrior", section: Mapping[str, Any], seed: int) -> None:
        from models.losses import read_settings
        from models.losses.diffusion_terms import DiffLossWithOptions, Settings

        settings = read_settings("diffloss", "diffloss", section)
        view = {"view": settings.view, "view_sizes": settings.view_sizes}
        self.seed, self.device = seed, next(prior.parameters()).device
        self._multiple = prior.size_multiple if settings.view == "own" else 1
        self._losses = [
            DiffLossWithOptions(prior, Settings(timesteps=(step, step + 1), **view))
            for step in fixed_steps(settings.timesteps)
        ]

    def __call__(self, image: Image, clean: Image, image_id: str) -> dict[str, float]:
        """The means over the timesteps of "natural" and "semantic", for uint8 images (H, W, 3)."""
        height, width = (side - side % self._multiple for side in clean.shape[:2])
        pair = [images.to_tensor(array[:height, :width])[None].to(self.device) for array in (image, clean)]
        with torch.inference_mode():
            terms = [loss(*pair, generator=self._generator(image_id, n)) for n, loss in enumerate(self._losses)]
        return {
            "natural": float(np.mean([float(term.natural) for term in terms])),
            "semantic": float(np.mean([float(term.semantic) for term in terms])),
        }

    def measure(self, clean: Split, read: Callable[[str], Image], image_ids: Sequence[str]) -> MeanRecords:
        """The terms of some images of a split. `read` returns the image to compare with the clean one, by its id."""
        return MeanRecords.from_values({name: self(read(name), clean.image(name), name) for name in image_ids})

    def _generator(self, image_id: str, timestep_number: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed_for(self.seed, "prior terms", image_id, timestep_number))


def fixed_steps(window: Sequence[int], count: int = TIMESTEPS) -> list[int]:
    """The middles of `count` equal parts of a half-open window of timesteps; fewer if the window is shorter."""
    low, high = window
    return sorted({low + int((high - low) * (part + 0.5) / count) for part in range(count)})


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
    torch_measures = staticmethod(torch_measures)

    @staticmethod
    def diffloss_terms(folder: Path, section: Mapping[str, Any], seed: int, device: torch.device) -> "DiffLossTerms":
        """What measures "natural" and "semantic", with the prior in a folder; see `DiffLossTerms`."""
        from models.diffusion.prior import DiffusionPrior

        return DiffLossTerms(DiffusionPrior.load(folder).to(device), section, seed)
