"""The time that DiffLoss adds to a training step, for restorers and crops of several sizes.

    python -m benchmarks.training_step
    GOMP_SPINCOUNT=10000 python -m benchmarks.training_step --threads 2    # threads that wait as the pipeline's do
    python -m benchmarks.training_step --objectives diffloss               # without bfloat16

Restorer, objective and optimiser on one thread or several, with an untrained prior of the shape in params.camvid.yaml.
The objectives take turns at every step. As in a training, one of the counted steps measures the gradient norms.
"""

import argparse
import time
from collections.abc import Sequence
from typing import Any

import torch

from models.diffusion.prior import DiffusionPrior
from models.diffusion.unet import build_scheduler, build_unet
from models.losses import build_objective
from models.restorers import build_restorer

PRIOR: dict[str, Any] = {"size": 64, "channels": [32, 64, 96], "blocks": 1, "attention": [16]}
BLOCKS: dict[str, Any] = {"encoder_blocks": [1, 1, 1], "middle_blocks": 1, "decoder_blocks": [1, 1, 1]}
VIEW: dict[str, Any] = {"timesteps": [5, 300], "view": "resize", "view_sizes": [64], "strength": 2.0}
ENCODER: dict[str, Any] = {"layers": ["down0", "down1", "down2", "middle"], "distance": "channel"}
OBJECTIVES: dict[str, tuple[str, dict[str, Any]]] = {
    "pixel": ("pixel", {}),
    "diffloss": ("diffloss", VIEW),
    "diffloss, decoder": ("diffloss", {**VIEW, "precision": "decoder", "channels_last": True}),
    "encoder, mixed": ("semantic", {**VIEW, **ENCODER, "precision": "mixed", "channels_last": True}),
}
SIZES = ((16, 96), (32, 96), (32, 128))  # width of a NAFNet, side of the crops
BATCH, WARM_UP, COUNTED = 4, 6, 20


class Training:
    """A restorer with its objective and optimiser, and the seconds that its steps took."""

    def __init__(self, width: int, name: str, prior: DiffusionPrior) -> None:
        kind, settings = OBJECTIVES[name]
        self.restorer = build_restorer("nafnet", {"width": width, **BLOCKS})
        losses = {"pixel": ("pixel", {}), kind: (kind, settings)}
        self.objective = build_objective(losses, prior_folder=prior)
        self.optimiser = torch.optim.AdamW(self.restorer.parameters(), 1e-3)
        self.seconds: list[float] = []

    def step(self, degraded: torch.Tensor, clean: torch.Tensor, number: int) -> None:
        """One step on images (B, 3, H, W) in [0, 1]; `number` seeds the timesteps and the noise."""
        start = time.perf_counter()
        self.optimiser.zero_grad()
        generator = torch.Generator().manual_seed(number)
        self.objective(self.restorer(degraded), clean, generator=generator).total.backward()
        self.optimiser.step()
        self.seconds.append(time.perf_counter() - start)

    def mean(self) -> float:
        """Seconds per step after the warm-up."""
        return sum(self.seconds[WARM_UP:]) / COUNTED


def row(width: int, crop: int, objectives: Sequence[str], prior: DiffusionPrior) -> str:
    """A row of the table: seconds per step with each objective, and their ratio to those with the pixel loss."""
    trainings = {name: Training(width, name, prior) for name in objectives}
    degraded, clean = torch.rand(2, BATCH, 3, crop, crop).unbind()
    for number in range(WARM_UP + COUNTED):
        for training in trainings.values():
            training.step(degraded, clean, number)
    pixel = trainings["pixel"].mean()
    cells = [f"{training.mean():.3f} ({training.mean() / pixel:.1f}x)" for training in trainings.values()]
    return f"| {width}, {crop} | {' | '.join(cells)} |"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Seconds of a training step.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--objectives", nargs="+", choices=list(OBJECTIVES)[1:], default=list(OBJECTIVES)[1:])
    options = parser.parse_args()
    objectives = ["pixel", *options.objectives]
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    prior = DiffusionPrior(build_unet(PRIOR), build_scheduler({"steps": 1000, "kind": "linear"}))
    print(f"| NAFNet width, crop | {' | '.join(objectives)} |")
    print("|---|" + "---|" * len(objectives))
    for width, crop in SIZES:
        print(row(width, crop, objectives, prior), flush=True)


if __name__ == "__main__":
    main()
