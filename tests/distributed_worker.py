"""A small training of a restorer with every kind of objective, on one rank or several.

    python -m distributed_worker PROCESSES OUT DATA [die | fail | wait]

With `die` the last rank kills itself in the fifth step of a training, once. With `fail` it raises an error there. With
`wait` every step takes a second, and each rank writes its process id to OUT/<rank>.pid.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

import pipeline.training.loop
from data.batches import PairBatches
from data.dataset import Dataset
from models.diffusion.prior import DiffusionPrior
from models.diffusion.unet import build_scheduler, build_unet
from models.losses import build_objective
from models.losses.objective import Objective
from pipeline.running.entry import run_stage
from pipeline.settings.grammar import objective_losses
from pipeline.settings.training import PriorNetwork, Schedule, TrainPrior, TrainRestorer, Validation
from pipeline.train_prior import train_prior
from pipeline.training.distributed import TrainingRank, launch_ranks, training_rank
from pipeline.training.loop import Loop
from pipeline.training.optimisation import TrainingError
from pipeline.training.restorers import starting_restorer, train_restorer
from pipeline.training.validation import build_validator

STEPS, BATCH, CROP = 6, 4, 16
CLASSES = 3
SETTINGS = TrainRestorer.model_validate(
    {
        "restorer": "nafnet",
        "nafnet": {"width": 8, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]},
        "crop": CROP,
        "steps": STEPS,
        "batch": BATCH,
        "learning_rate": 1e-3,
        "ema": 0.9,
        "validation": Validation(every=2, metric="psnr", images=None, keep_best=True, patience=None),
    }
)
LOSSES = {"diffloss": {"strength": 1.0, "timesteps": [5, 300]}}
OBJECTIVES = ("pixel", "diffloss", "task", "recognition")


def objective_of(name: str, rank: TrainingRank) -> Objective:
    """An objective whose frozen networks have random weights."""
    torch.manual_seed(0)
    if name == "task":
        layer = torch.nn.Conv2d(3, 4, 3).requires_grad_(False)
        losses = objective_losses(name, LOSSES)
        return build_objective(losses, task_features=lambda images: [layer(images)], rank=rank)
    if name == "recognition":
        head = torch.nn.Conv2d(3, CLASSES, 3, padding=1).requires_grad_(False)

        def task_loss(images: torch.Tensor, labels: Any) -> torch.Tensor:
            return torch.nn.functional.cross_entropy(head(images), labels.clamp(max=CLASSES - 1))

        return build_objective(objective_losses(name, LOSSES), task_loss=task_loss, rank=rank)
    unet = build_unet({"size": 16, "channels": [16, 32], "blocks": 1, "attention": []})
    prior = DiffusionPrior(unet, build_scheduler({"steps": 1000, "kind": "linear"}))
    return build_objective(objective_losses(name, LOSSES), prior_folder=prior, rank=rank)


def train(name: str, data: Path, out: Path, rank: TrainingRank, what: str = "") -> dict[str, Any]:
    """Gradients of the first step, weights, curve and norms of one training."""
    degraded, clean = Dataset.open(data / "degraded"), Dataset.open(data / "clean")
    splits = degraded.split("train"), clean.split("train")
    batches = PairBatches(*splits, CROP, BATCH, 0, (rank.index, rank.count), labels="segmentation")
    objective = objective_of(name, rank)

    def stream(step: int, values: dict[str, float]) -> None:
        if what == "wait":
            (out / f"{rank.index}.pid").write_text(str(os.getpid()))
            time.sleep(1)
        marker = out / f"{what}-{name}"
        if what in ("die", "fail") and step == 5 and rank.index == rank.count - 1 and not marker.exists():
            marker.touch()
            if what == "fail":
                raise TrainingError("step 5: a fault that only one process has")
            os.kill(os.getpid(), signal.SIGKILL)

    loop = Loop(name, out / "work" / name, 0, rank.device, stream, rank)
    validator = build_validator([degraded], clean, SETTINGS.validation, rank)
    restorer = train_restorer(batches, objective, SETTINGS, loop, validator, rank)
    return {"weights": restorer.state_dict(), "curve": loop.curve, "norms": objective.norms, "run": loop.steps_run}


def first_gradients(name: str, data: Path, rank: TrainingRank) -> dict[str, torch.Tensor]:
    """The gradients of the restorer after the first backward, without clipping."""
    degraded, clean = Dataset.open(data / "degraded").split("train"), Dataset.open(data / "clean").split("train")
    torch.manual_seed(1)
    restorer = starting_restorer(SETTINGS)
    for weight in restorer.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    network, objective = rank.wrap(restorer), objective_of(name, rank)
    batches = PairBatches(degraded, clean, CROP, BATCH, 0, (rank.index, rank.count), labels="segmentation")
    images = batches.labelled(0)
    generator = torch.Generator().manual_seed(3)
    output = objective(network(images[0]), images[1], generator=generator, labels=images[2])
    output.total.backward()
    return {name: weight.grad for name, weight in restorer.named_parameters() if weight.grad is not None}


def small_prior(data: Path, out: Path, rank: TrainingRank) -> dict[str, Any]:
    """The weights and the curve of a small prior."""
    settings = TrainPrior(
        pretrained=None,
        adm_settings=None,
        network=PriorNetwork(size=16, channels=[16, 32], blocks=1, attention=[]),
        schedule=Schedule(steps=100, kind="linear"),
        crop=32,
        steps=3,
        batch=4,
        learning_rate=1e-3,
        ema=0.9,
        samples=1,
    )
    loop = Loop("prior", out / "work" / "prior", 0, rank.device, rank=rank)
    prior = train_prior(Dataset.open(data / "clean"), settings, loop, rank)
    return {"weights": prior.state_dict(), "curve": loop.curve}


def everything(data: Path, out: Path, rank: TrainingRank) -> dict[str, Any]:
    """Gradients and trainings of all objectives, and a prior."""
    results: dict[str, Any] = {f"gradients of {name}": first_gradients(name, data, rank) for name in OBJECTIVES}
    results |= {name: train(name, data, out, rank) for name in OBJECTIVES}
    return results | {"prior": small_prior(data, out, rank)}


def main() -> None:
    count, out, data = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    what = sys.argv[4] if len(sys.argv) > 4 else ""
    pipeline.training.loop.CHECKPOINT_SECONDS = 0.0
    if launch_ranks("distributed_worker", count):
        return
    with training_rank(worker=BATCH) as rank:
        results = {"pixel": train("pixel", data, out, rank, what)} if what else everything(data, out, rank)
        if rank.is_first:
            torch.save(results, out / "results.pt")


if __name__ == "__main__":
    run_stage(main)
