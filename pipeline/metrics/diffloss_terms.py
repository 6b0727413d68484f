"""DiffLoss's two terms as metrics: how differently a diffusion prior sees an image and its clean counterpart.

They cost several passes of the prior for each image, so that only some of the test images are measured.
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
from pipeline.metrics.records import MeanRecords
from pipeline.running.seeds import seed_for

Image = NDArray[np.uint8]  # (H, W, 3)
STEPS = 4  # timesteps, evenly over the window from which the loss draws


class DiffLossTerms:
    """The terms at fixed timesteps, with noise that is fixed for each image: the same for every variant.

    Args:
        prior: the run's diffusion prior.
        section: `losses.diffloss` in params.yaml, of which the window of timesteps and the view are used.
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
        """The terms of some images of a split; `read` gives the image to compare by its id."""
        return MeanRecords.from_values({name: self(read(name), clean.image(name), name) for name in image_ids})

    def _generator(self, image_id: str, timestep_number: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed_for(self.seed, "prior terms", image_id, timestep_number))


def fixed_steps(window: Sequence[int], count: int = STEPS) -> list[int]:
    """The middles of `count` equal parts of a half-open window of timesteps; fewer if the window is shorter."""
    low, high = window
    return sorted({low + int((high - low) * (part + 0.5) / count) for part in range(count)})


def load_terms(folder: Path, section: Mapping[str, Any], seed: int, device: torch.device) -> DiffLossTerms:
    """The terms with the prior of a folder; see `DiffLossTerms`."""
    return DiffLossTerms(DiffusionPrior.load(folder).to(device), section, seed)
