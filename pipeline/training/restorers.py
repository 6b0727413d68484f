"""Training of a restorer: its start, its batches, its objective and its steps."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from data.batches import Labels, PairBatches
from data.dataset import Dataset
from models.losses import build_objective, needs_labels, needs_task
from models.losses.objective import Objective, ObjectiveOutput
from models.mixed_precision import channels_last
from models.restorers import CHECKPOINT, build_restorer, load_restorer
from models.restorers.contract import Restorer
from models.tasks import get_task
from pipeline.running.seeds import seed_for
from pipeline.settings.training import TrainRestorer
from pipeline.training.distributed import TrainingRank
from pipeline.training.loop import Loop
from pipeline.training.optimisation import Optimisation, TrainingError
from pipeline.training.validation import Validator

WINDOWS = "timesteps_of"  # setting of the losses with a diffusion prior: windows of single degradations
ADVICE = "Lower learning_rate, or lengthen warm_up."


class Batches(Protocol):
    """Training pairs: step -> degraded and clean images (B, 3, H, W) in [0, 1]."""

    def __call__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]: ...

    def labelled(self, step: int) -> tuple[torch.Tensor, torch.Tensor, Labels]:
        """The same pairs and their labels."""
        ...

    def ids(self, step: int) -> list[str]:
        """The ids of the images of a step."""
        ...


def starting_restorer(settings: TrainRestorer) -> Restorer:
    """The restorer that training starts from: new, or read from a checkpoint.

    Raises:
        models.restorers.RestorerError: settings that do not fit, or a file that cannot be read.
    """
    if settings.restorer == CHECKPOINT:
        return load_restorer(settings.network["weights"])
    return build_restorer(settings.restorer, settings.network)


def train_restorer(
    batches: Batches,
    objective: Objective,
    settings: TrainRestorer,
    loop: Loop,
    validator: Validator | None = None,
    rank: TrainingRank | None = None,
) -> Restorer:
    """Train with AdamW and a cosine schedule. Returns the last weights, unless `validator` chooses others.

    Each rank gets its slice of every batch; all ranks end with the same weights.

    Raises:
        TrainingError: a value is not finite. The text names the step, the images and the value.
    """
    rank = rank or TrainingRank(loop.device)
    optimisation = start_optimisation(settings, loop.seed, rank)
    objective = objective.to(loop.device)
    state = {**optimisation.state, "objective": objective} | ({"validator": validator} if validator else {})
    for step in loop.steps(settings.steps, state):
        if validator and validator.says_stop:
            break
        try:
            logs = train_step(batches, objective, optimisation, loop.seed, step)
        except TrainingError as error:
            raise TrainingError(f"step {step}: {error}; images {', '.join(batches.ids(step))}. {ADVICE}") from error
        validation = validator(step + 1, optimisation.result) if validator else {}
        loop.log(step + 1, **rank.mean_values(logs), **validation)
    if validator:
        validator.put_best(optimisation.result)
    return optimisation.result.eval()


def start_optimisation(settings: TrainRestorer, seed: int, rank: TrainingRank) -> Optimisation:
    """The optimisation of a training that has done no step: the same weights for the same seed."""
    torch.manual_seed(seed)
    return Optimisation(starting_restorer(settings).to(rank.device).train(), settings, rank)


def train_step(
    batches: Batches, objective: Objective, optimisation: Optimisation, seed: int, step: int
) -> dict[str, float]:
    """Change the restorer's weights once. Returns the values for the training curve.

    Args:
        batches: training pairs.
        objective: on the restorer's device.
        optimisation: of the restorer.
        seed: of the training.
        step: from 0.

    Raises:
        TrainingError: a value is not finite.
    """
    degraded, clean, labels = _batch(batches, step, objective.needs_labels, optimisation.device)
    with optimisation.precision():
        restored = optimisation.network(channels_last(degraded))
    if not torch.isfinite(restored).all():
        raise TrainingError("the restorer's output is not finite")
    generator = torch.Generator().manual_seed(seed_for(seed, "objective", step))
    output: ObjectiveOutput = objective(restored, clean, generator=generator, labels=labels)
    values = {"loss": output.total.item(), **output.logs}
    faulty = [name for name, value in values.items() if not math.isfinite(value)]
    if faulty:
        raise TrainingError(f"the objective is not finite in {', '.join(faulty)}")
    return {**values, **optimisation.step(output.total)}


def _batch(
    batches: Batches, step: int, with_labels: bool, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, Labels | None]:
    """The pairs of a step on a device. Labels are read only if they are needed."""
    if not with_labels:
        degraded, clean = batches(step)
        return degraded.to(device), clean.to(device), None
    degraded, clean, labels = batches.labelled(step)
    labels = [boxes.to(device) for boxes in labels] if isinstance(labels, list) else labels.to(device)
    return degraded.to(device), clean.to(device), labels


def load_objective(
    description: dict[str, Any], prior: Path, tasks: Path, rank: TrainingRank, degradation: str | None = None
) -> Objective:
    """The objective, with the frozen networks that its losses need.

    Args:
        description: what the stage `objective` wrote.
        prior: folder of the prior.
        tasks: folder of the trained task networks.
        rank: this process of the training.
        degradation: of the images; None: a mixture of several.
    """
    losses, features, loss = described_losses(description, degradation), None, None
    if needs_task(losses):
        network = get_task(description["network"]).load(tasks / description["network"], rank.device)
        features, loss = network.features, network.training_loss
    return build_objective(losses, prior_folder=prior, task_features=features, task_loss=loss, rank=rank)


def training_batches(
    description: dict[str, Any],
    degraded: Sequence[Dataset],
    clean: Dataset,
    settings: TrainRestorer,
    seed: int,
    rank: TrainingRank,
) -> PairBatches:
    """The training pairs of a rank, from one degraded dataset or a mixture of several.

    Of the objective, only the labels depend on it.
    """
    splits, share = [dataset.split("train") for dataset in degraded], (rank.index, rank.count)
    labels = _label_kind(description)
    pairs = splits, clean.split("train"), settings.crop, settings.batch
    return PairBatches(*pairs, seed, share, settings.clean_share, labels)


def _label_kind(description: dict[str, Any]) -> str | None:
    """The labels of the objective's task network if a loss needs them, as a key of `Dataset.info.classes`."""
    return get_task(description["network"]).labels if needs_labels(described_losses(description)) else None


def described_losses(
    description: dict[str, Any], degradation: str | None = None
) -> dict[str, tuple[str, dict[str, Any]]]:
    """The losses in the output of the stage `objective`: name -> kind and settings, those for one degradation."""
    losses = {}
    for name, loss in description["losses"].items():
        windows = loss["settings"].get(WINDOWS, {})
        chosen = {"timesteps": windows[degradation]} if degradation in windows else {}
        losses[name] = (loss["kind"], {**loss["settings"], **chosen})
    return losses
