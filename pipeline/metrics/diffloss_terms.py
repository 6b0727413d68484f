"""DiffLoss's two terms as metrics: how differently a diffusion prior sees an image and its clean counterpart."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data import images
from data.dataset import Split
from models.diffusion.precision import at_precision
from models.diffusion.prior import MIDDLE, NOISE, DiffusionPrior
from models.losses import read_settings
from models.losses.diffloss import mean_square
from models.losses.diffusion_terms import resize
from pipeline.metrics.fidelity import Image
from pipeline.metrics.records import MeanRecords
from pipeline.running.progress import progress
from pipeline.running.seeds import seed_for

TIMESTEPS = 4  # evenly over the window that the loss draws from

Features = list[dict[str, Tensor]]  # for each view: the maps (T, C, h, w) at T timesteps, by layer


class DiffLossTerms:
    """Measures the terms, each the mean over fixed timesteps and over the views of `losses.diffloss`.

    The noise of an image is fixed: it is the same for every variant. The prior sees an image at all timesteps in one
    batch. It sees the clean image once, whatever the number of variants.

    Args:
        prior: the run's diffusion prior.
        section: `losses.diffloss` in params.yaml, of which the window of timesteps and the view are used.
        seed: of the noise.
        precision: of the prior: full, or bf16, which is faster where the processor multiplies bfloat16.
    """

    def __init__(self, prior: DiffusionPrior, section: Mapping[str, Any], seed: int, precision: str = "full") -> None:
        self._settings = read_settings("diffloss", "diffloss", section)
        self._prior = prior
        self._steps = torch.tensor(fixed_steps(self._settings.timesteps))
        self._seed, self._precision = seed, {"full": "float32", "bf16": "autocast"}[precision]
        self._device = next(prior.parameters()).device

    def measure(
        self,
        clean: Split,
        variants: Mapping[Any, Callable[[str], Image]],
        image_ids: Sequence[str],
        description: str = "",
    ) -> dict[Any, MeanRecords]:
        """The records of every variant, with the metrics "natural" and "semantic".

        Args:
            clean: the clean images.
            variants: what reads an image of the variant, by its id.
            image_ids: the images that are measured.
            description: text of the progress bar; there is none without it.
        """
        values: dict[Any, dict[str, dict[str, float]]] = {variant: {} for variant in variants}
        with progress(len(image_ids), description, "image", hidden=not description) as bar:
            for image_id in image_ids:
                versions = {variant: read(image_id) for variant, read in variants.items()}
                for variant, terms in self.compare(clean.image(image_id), versions, image_id).items():
                    values[variant][image_id] = terms
                bar.update()
        return {variant: MeanRecords.from_values(terms) for variant, terms in values.items()}

    def compare(self, clean: Image, versions: Mapping[Any, Image], image_id: str) -> dict[Any, dict[str, float]]:
        """{version: {"natural": value, "semantic": value}} of versions of a clean image, all uint8 (H, W, 3)."""
        with torch.inference_mode():
            encoded = self._encode(clean)
            noise = self._draw_noise([view.shape for view in encoded], image_id)
            target = self._features(encoded, noise)
            return {
                version: _mean_differences(self._features(self._encode(image), noise), target)
                for version, image in versions.items()
            }

    def _encode(self, image: Image) -> list[Tensor]:
        """The views of an image, as the diffusion acts on them: (1, C, h, w) each."""
        multiple = self._prior.size_multiple
        if self._settings.view == "own":
            height, width = (side - side % multiple for side in image.shape[:2])
            views = [images.to_tensor(image[:height, :width])[None]]
        else:
            whole = images.to_tensor(image)[None]
            views = [resize(whole, size, multiple) for size in self._settings.view_sizes]
        return [self._prior.encode(2 * view.to(self._device) - 1) for view in views]

    def _draw_noise(self, shapes: Sequence[torch.Size], image_id: str) -> list[Tensor]:
        """Standard normal noise (T, C, h, w) for views of shapes (1, C, h, w); every timestep has its generator."""
        generators = [
            torch.Generator().manual_seed(seed_for(self._seed, "prior terms", image_id, number))
            for number in range(len(self._steps))
        ]
        return [torch.cat([_draw_as_loss(shape, generator) for generator in generators]) for shape in shapes]

    def _features(self, encoded: Sequence[Tensor], noise: Sequence[Tensor]) -> Features:
        steps = self._steps.to(self._device)
        features = []
        with at_precision(self._precision, self._device):
            for view, draws in zip(encoded, noise, strict=True):
                repeated = view.expand(len(steps), -1, -1, -1)
                noisy = self._prior.add_noise(repeated, draws.to(self._device), steps)
                features.append(self._prior.maps(noisy, steps, (MIDDLE, NOISE)))
        return features


def _draw_as_loss(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """The noise that DiffLoss draws from a generator: after a timestep."""
    torch.multinomial(torch.ones(1), 1, replacement=True, generator=generator)
    return torch.randn(shape, generator=generator)


def _mean_differences(features: Features, target: Features) -> dict[str, float]:
    """The means over views and timesteps of the mean squared differences."""

    def mean(layer: str) -> float:
        pairs = zip(features, target, strict=True)
        return float(np.mean([mean_square(seen[layer], clean[layer]).tolist() for seen, clean in pairs]))

    return {"natural": mean(NOISE), "semantic": mean(MIDDLE)}


def fixed_steps(window: Sequence[int], count: int = TIMESTEPS) -> list[int]:
    """The middles of `count` equal parts of a half-open window of timesteps; fewer if the window is shorter."""
    low, high = window
    return sorted({low + int((high - low) * (part + 0.5) / count) for part in range(count)})
