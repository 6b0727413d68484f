"""DiffLoss's two terms as measures of image quality: how a frozen prior tells an image from the clean one. Not a stage.

They cost several passes of the prior for an image, so that only some of the test images are measured.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data import images
from data.dataset import Split
from models.diffusion.prior import DiffusionPrior
from models.losses import read_settings
from models.losses.diffusion_terms import DiffLossWithOptions, Settings
from pipeline.metrics import MeanRecords
from pipeline.running.seeds import seed_for

Image = NDArray[np.uint8]
STEPS = 4  # timesteps, evenly over the window in which the loss draws its own


class PriorTerms:
    """The terms at fixed timesteps, the noise fixed for each image: the same for every variant.

    Args:
        prior: the run's.
        section: `losses.diffloss` in params.yaml: its window of timesteps and its view.
        seed: of the noise.
    """

    def __init__(self, prior: DiffusionPrior, section: Mapping[str, Any], seed: int) -> None:
        settings = read_settings("diffloss", "diffloss", section)
        view = {"view": settings.view, "view_sizes": settings.view_sizes}
        self.seed, self.device = seed, next(prior.parameters()).device
        self._multiple = prior.size_multiple if settings.view == "own" else 1
        self._losses = [
            DiffLossWithOptions(prior, Settings(timesteps=(step, step + 1), **view))
            for step in fixed_steps(settings.timesteps)
        ]

    def __call__(self, image: Image, clean: Image, id: str) -> dict[str, float]:
        """The means over the timesteps of "natural" and "semantic", for uint8 images (H, W, 3)."""
        height, width = (side - side % self._multiple for side in clean.shape[:2])
        pair = [images.to_tensor(one[:height, :width])[None].to(self.device) for one in (image, clean)]
        with torch.inference_mode():
            terms = [loss(*pair, generator=self._generator(id, place)) for place, loss in enumerate(self._losses)]
        return {
            "natural": float(np.mean([float(one.natural) for one in terms])),
            "semantic": float(np.mean([float(one.semantic) for one in terms])),
        }

    def measure(self, clean: Split, read: Callable[[str], Image], ids: Sequence[str]) -> MeanRecords:
        """The terms of some images of a split; `read` gives the image to compare by its id."""
        return MeanRecords.from_values({id: self(read(id), clean.image(id), id) for id in ids})

    def _generator(self, id: str, place: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed_for(self.seed, "prior terms", id, place))


def fixed_steps(window: Sequence[int], count: int = STEPS) -> list[int]:
    """The middles of `count` equal parts of a half-open window of timesteps; fewer where it is shorter."""
    low, high = window
    return sorted({low + int((high - low) * (place + 0.5) / count) for place in range(count)})


def load_terms(folder: Path, section: Mapping[str, Any], seed: int, device: torch.device) -> PriorTerms:
    """From a prior's folder; see `PriorTerms`."""
    return PriorTerms(DiffusionPrior.load(folder).to(device), section, seed)
