"""Joint training: a restorer and a task network that learn alternately (the arms `<objective>-joint`).

At every step the restorer learns first, from its objective and the features of the task network as it is at that step.
Then the task network learns, from labels. Each of its images is restored, or the one before restoring (or the clean
one), or a mix of patches of both. So its features stay good while the restorer changes.
Source: Kim et al., "Beyond image super-resolution for image recognition with task-driven perceptual loss", CVPR 2024.
They compute the loss of the task network on all three kinds of images at every step; here each image is of one kind,
so that a step sees as many images as a step of the arm `<objective>-retrained`.
"""

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR

from data.batches import Labels, PairBatches
from models.losses import build_objective, needs_task
from models.losses.objective import Objective
from models.restorers import load_restorer
from models.restorers.contract import Restorer
from models.tasks.contract import Task
from pipeline.running.seeds import seed_for
from pipeline.settings.retraining import Joint
from pipeline.settings.training import TrainRestorer
from pipeline.training.distributed import TrainingRank
from pipeline.training.loop import Loop
from pipeline.training.optimisation import LOWEST_RATE, Optimisation, TrainingError
from pipeline.training.restorers import described_losses, train_step

GRID = 8  # patches along each side of an image
CLIP = 10.0  # norm that the task network's gradient is cut down to, as ultralytics does
TASK = "task"  # the loss of a task network's features
ADVICE = "Lower retraining.joint.restorer_rate and task_rate."


class LabelledPairs:
    """Training pairs that are read once for both networks: step -> degraded and clean images, with their labels."""

    def __init__(self, pairs: PairBatches) -> None:
        self.labelled = lru_cache(maxsize=1)(pairs.labelled)
        self.ids = pairs.ids

    def __call__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        degraded, clean, _ = self.labelled(step)
        return degraded, clean


def joint_objective(
    description: dict[str, Any], task: Task[Any], settings: Joint, prior: Path, degradation: str
) -> Objective:
    """The restorer's objective: its losses with the task network in training, and the loss `task` if they have none.

    Args:
        description: what the stage `objective` wrote.
        task: the network in training.
        settings: the strength of the loss `task`.
        prior: folder of the diffusion prior.
        degradation: of the images.
    """
    losses = described_losses(description, degradation)
    if not needs_task(losses):
        losses[TASK] = (TASK, {"strength": settings.strength})
    return build_objective(losses, prior_folder=prior, task_features=task.features, task_loss=task.training_loss)


def train_jointly(
    restorer_file: Path,
    task: Task[Any],
    batches: LabelledPairs,
    objective: Objective,
    settings: TrainRestorer,
    task_rate: float,
    joint: Joint,
    loop: Loop,
    scale: float = 1.0,
) -> Restorer:
    """Train for `settings.steps` steps. Returns the restorer; the task network changes in place.

    Args:
        restorer_file: the weights that the restorer starts from.
        task: the network that learns; it starts from the weights that it has, and ends in eval mode.
        batches: training pairs with labels.
        objective: of the restorer.
        settings: of the restorer's training.
        task_rate: learning rate of the task network at the first step; it falls along a cosine.
        joint: what the task network sees.
        loop: steps, seed, device, checkpoints.
        scale: by which images are resized for the task network, so that objects have the size that they have in
            its predictions.

    Raises:
        TrainingError: a value is not finite. The text names the step, the images and the value.
    """
    torch.manual_seed(loop.seed)
    rank = TrainingRank(loop.device)
    optimisation = Optimisation(load_restorer(restorer_file).to(loop.device).train(), settings, rank)
    objective = objective.to(loop.device)
    weights = task.trained_weights()
    optimizer = torch.optim.AdamW(weights, lr=task_rate, weight_decay=0.0, fused=True)
    schedule = CosineAnnealingLR(optimizer, settings.steps, eta_min=LOWEST_RATE)
    state = {**optimisation.state, "objective": objective, "network": task.network}
    state |= {"task optimizer": optimizer, "task schedule": schedule}
    for step in loop.steps(settings.steps, state):
        try:
            task.network.eval()
            logs = train_step(batches, objective, optimisation, loop.seed, step)
            images, labels = _task_batch(batches, step, optimisation, joint, loop.seed)
            logs["task_loss"] = _task_step(task, weights, optimizer, _resized(images, scale), labels)
        except TrainingError as error:
            raise TrainingError(f"step {step}: {error}; images {', '.join(batches.ids(step))}. {ADVICE}") from error
        schedule.step()
        loop.log(step + 1, **logs)
    task.network.eval()
    return optimisation.restorer.eval()


def mix_patches(restored: torch.Tensor, others: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Images (B, 3, H, W), each with equal chances: the restored one, the other one, or a mix of their patches.

    A mix has patches of a grid of 8 x 8, each from either image with equal chances.
    """
    shares = torch.randint(3, (len(restored), 1, 1, 1), generator=generator) / 2  # of restored patches: 0, 1/2 or 1
    is_restored = torch.rand((len(restored), 1, GRID, GRID), generator=generator) < shares
    mask = F.interpolate(is_restored.float(), restored.shape[-2:], mode="nearest").to(restored)
    return mask * restored + (1 - mask) * others


def _task_batch(
    batches: LabelledPairs, step: int, optimisation: Optimisation, joint: Joint, seed: int
) -> tuple[torch.Tensor, Labels]:
    """The images that the task network learns from at a step, and their labels."""
    device = optimisation.device
    degraded, clean, labels = batches.labelled(step)
    with torch.no_grad(), optimisation.precision():
        restored = optimisation.network(degraded.to(device)).float().clamp(0, 1)
    others = (clean if joint.mix == "clean" else degraded).to(device)
    images = mix_patches(restored, others, torch.Generator().manual_seed(seed_for(seed, "mix", step)))
    return images, [boxes.to(device) for boxes in labels] if isinstance(labels, list) else labels.to(device)


def _task_step(
    task: Task[Any],
    weights: list[torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
    labels: Labels,
) -> float:
    """Change the task network's weights once. Returns its loss.

    Raises:
        TrainingError: the loss or its gradient is not finite.
    """
    task.network.train()
    for weight in weights:
        weight.requires_grad_(True)
    loss = task.training_loss(images, labels)
    optimizer.zero_grad()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(weights, CLIP)
    if not math.isfinite(loss.item()) or not math.isfinite(norm.item()):
        raise TrainingError(f"the loss of the task network is {loss.item()}, the norm of its gradient {norm.item()}")
    optimizer.step()
    optimizer.zero_grad()
    for weight in weights:
        weight.requires_grad_(False)
    return loss.item()


def _resized(images: torch.Tensor, scale: float) -> torch.Tensor:
    if scale == 1.0:
        return images
    return F.interpolate(images, scale_factor=scale, mode="bilinear", antialias=True, align_corners=False)
