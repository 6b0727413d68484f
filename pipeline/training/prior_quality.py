"""How good a diffusion prior is: its denoising error on held-out images, at timesteps over its whole schedule.

The error of the predicted noise depends on the timestep and on the data more than on the network. So it stands beside
that of a reference, the best prediction from the mean and the variance of the pixels alone.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from data.batches import CropBatches
from data.dataset import Dataset
from models.diffusion.prior import NOISE, DiffusionPrior

TIMESTEPS = 12
HELD_OUT = "val"
BATCH = 8
TABLE_FILE, SUMMARY_FILE, PLOT_FILE = "denoising.csv", "quality.json", "denoising.png"


@dataclass(frozen=True)
class DenoisingErrors:
    """Mean squared errors of the predicted noise, whose variance is 1.

    Attributes:
        split: the split with the held-out images.
        images: their number.
        table: columns timestep, error, low, high (two standard errors over the images), reference.
    """

    split: str
    images: int
    table: pd.DataFrame

    @property
    def summary(self) -> dict[str, float | int | str]:
        """The mean error over the timesteps, and its share of the reference's: below 1 if the prior knows more."""
        error, reference = float(self.table.error.mean()), float(self.table.reference.mean())
        numbers = {"error": error, "reference": reference, "relative_error": error / reference}
        return {
            **{name: float(f"{value:.6g}") for name, value in numbers.items()},
            "images": self.images,
            "split": self.split,
        }

    def save(self, folder: Path) -> None:
        """Write the table, the summary and a plot into an existing folder."""
        self.table.to_csv(folder / TABLE_FILE, index=False, float_format="%.6g", lineterminator="\n")
        (folder / SUMMARY_FILE).write_text(json.dumps(self.summary, indent=1) + "\n")
        _plot(self.table, folder / PLOT_FILE)


def denoising_errors(
    prior: DiffusionPrior, clean: Dataset, count: int, crop: int, size: int, seed: int, device: torch.device
) -> DenoisingErrors:
    """The denoising errors of a prior on crops of images that it was not trained on.

    Args:
        prior: of pixels or latents.
        clean: the split `val` counts; without one, the split that results are reported on.
        count: number of crops; at most one of each image.
        crop: side of the crops in pixels.
        size: side that they are resized to, rounded up to a multiple that the prior takes.
        seed: of crops and noise.
        device: where the prior runs.
    """
    split = clean.split(HELD_OUT if clean.info.splits.get(HELD_OUT) else clean.evaluation_split)
    count, multiple = min(count, len(split.ids)), prior.size_multiple
    batches = CropBatches(split, crop, -(-size // multiple) * multiple, count, seed)
    prior = prior.to(device)
    with torch.inference_mode():
        parts = [prior.encode(part * 2 - 1) for part in batches(0).to(device).split(BATCH)]
        images = torch.cat(parts)  # (count, C, h, w)
        variance = float(images.var())
        rows = []
        for timestep in np.linspace(0, prior.schedule.steps - 1, TIMESTEPS).round().astype(int).tolist():
            errors = _errors(prior, images, timestep, seed)
            half = 2 * float(errors.std()) / max(count, 1) ** 0.5 if count > 1 else float("nan")
            row = {"timestep": timestep, "error": errors.mean().item()}
            row |= {"low": row["error"] - half, "high": row["error"] + half}
            rows.append(row | {"reference": _reference(prior, timestep, variance)})
    return DenoisingErrors(split.folder.name, count, pd.DataFrame(rows))


def _errors(prior: DiffusionPrior, images: torch.Tensor, timestep: int, seed: int) -> torch.Tensor:
    """The mean squared error of the noise that the prior predicts for each image, (N,)."""
    generator = torch.Generator().manual_seed(seed)
    errors = []
    for part in images.split(BATCH):
        noise = torch.randn(part.shape, generator=generator).to(part)
        timesteps = torch.full((len(part),), timestep, device=part.device)
        predicted = prior.maps(prior.add_noise(part, noise, timesteps), timesteps, [NOISE])[NOISE]
        errors.append((predicted.float() - noise).square().flatten(1).mean(1).cpu())
    return torch.cat(errors)


def _reference(prior: DiffusionPrior, timestep: int, variance: float) -> float:
    """The error of the best linear prediction of the noise from one pixel: that of a Gaussian of this variance."""
    signal = float(prior.schedule.alphas_cumprod[timestep])
    return signal * variance / (signal * variance + 1 - signal)


def _plot(table: pd.DataFrame, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(table.timestep, table.error, ".-", label="prior")
    axes.fill_between(table.timestep, table.low, table.high, alpha=0.2, linewidth=0)
    axes.plot(table.timestep, table.reference, "--", label="mean and variance of the pixels alone")
    axes.set(title="Denoising error on held-out images", xlabel="timestep", ylabel="error of the noise", yscale="log")
    axes.legend()
    figure.savefig(path, dpi=100, metadata={"Software": None})
