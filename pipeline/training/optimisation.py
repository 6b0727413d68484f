"""The optimiser of a restorer, with what people expect around it. Not a stage.

Schedule, clipping, mixed precision and running mean are neutral unless params.yaml asks for them.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.restorers.contract import Restorer
from pipeline.settings.training import TrainRestorer
from pipeline.training.distributed import TrainingRank

LOWEST_RATE = 1e-7  # where the cosine ends
HALF_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class TrainingError(ValueError):
    """A training that cannot start or go on; the text says where that came from."""


class Optimisation:
    """AdamW with a warm-up and a cosine, gradient clipping, mixed precision and a running mean of the weights.

    Only the restorer runs in mixed precision; the objective always sees float32. The scaler of fp16 skips a step
    whose gradient overflows and lowers its scale.

    Args:
        restorer: in training mode, on its device; its weights change in place.
        settings: of the training.
        rank: the processes that share it.

    Attributes:
        network: the restorer as it is to be called while it trains.

    Raises:
        TrainingError: fp16 without a GPU, or a restorer without any weight that can be trained.
    """

    def __init__(self, restorer: Restorer, settings: TrainRestorer, rank: TrainingRank | None = None) -> None:
        self.restorer = restorer
        self.settings = settings
        self.weights = [parameter for parameter in restorer.parameters() if parameter.requires_grad]
        if not self.weights:
            raise TrainingError(f"restorer {restorer.name}: it has no weight that can be trained")
        self.device = self.weights[0].device
        if settings.precision == "fp16" and self.device.type != "cuda":
            raise TrainingError("train_restorer.precision: fp16 needs a GPU; choose bf16 or full")
        self.network = (rank or TrainingRank(self.device)).wrap(restorer)
        self.optimizer = torch.optim.AdamW(self.weights, lr=settings.learning_rate, betas=(0.9, 0.9), weight_decay=0.0)
        self.schedule = _schedule(self.optimizer, settings)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=settings.precision == "fp16")
        self.mean = (
            None if settings.ema is None else AveragedModel(restorer, multi_avg_fn=get_ema_multi_avg_fn(settings.ema))
        )

    @property
    def result(self) -> Restorer:
        """What the training has made so far: the running mean of the weights, or the weights."""
        if self.mean is None:
            return self.restorer
        mean: Restorer = self.mean.module  # type: ignore[assignment]
        return mean

    @property
    def state(self) -> dict[str, Any]:
        """Everything that a resumed training needs."""
        state = {"restorer": self.restorer, "optimizer": self.optimizer, "schedule": self.schedule}
        return state | {"scaler": self.scaler} | ({} if self.mean is None else {"mean": self.mean})

    @contextmanager
    def precision(self) -> Iterator[None]:
        """Where the restorer runs."""
        half = HALF_TYPES.get(self.settings.precision)
        with torch.autocast(self.device.type, dtype=half, enabled=half is not None):
            yield

    def step(self, loss: torch.Tensor) -> dict[str, float]:
        """Change the weights once; returns the learning rate and the norm of the gradient before clipping.

        The norm is left out where the scaler skips the step.

        Raises:
            TrainingError: the gradient is not finite; the text says whether the objective or the restorer made it so.
        """
        rate = self.optimizer.param_groups[0]["lr"]
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        total = torch.nn.utils.get_total_norm([weight.grad for weight in self.weights if weight.grad is not None])
        norm = total.item()
        if not math.isfinite(norm) and (not self.scaler.is_enabled() or self.scaler.get_scale() <= 1):
            raise TrainingError(f"the gradient is {norm} in {self._faulty_gradients()}")
        if self.settings.clip is not None:
            torch.nn.utils.clip_grads_with_norm_(self.weights, self.settings.clip, total)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        if self.mean is not None:
            self.mean.update_parameters(self.restorer)
        return {"learning_rate": rate} | ({"gradient_norm": norm} if math.isfinite(norm) else {})

    def _faulty_gradients(self) -> str:
        """In which weights the gradient is not finite, and what that says."""
        with_gradient = [(name, weight) for name, weight in self.restorer.named_parameters() if weight.grad is not None]
        faulty = [name for name, weight in with_gradient if not torch.isfinite(weight.grad).all()]  # type: ignore[arg-type]
        if not faulty:
            return "its norm alone, because it is too large"
        origin = "the objective's gradient" if len(faulty) == len(with_gradient) else "the inside of the restorer"
        return f"{len(faulty)} of {len(with_gradient)} weights, such as {faulty[0]}, so that it comes from {origin}"


def _schedule(optimizer: torch.optim.Optimizer, settings: TrainRestorer) -> LRScheduler:
    cosine = CosineAnnealingLR(optimizer, settings.steps - settings.warm_up, eta_min=LOWEST_RATE)
    if not settings.warm_up:
        return cosine
    warm_up = LinearLR(optimizer, start_factor=1 / (settings.warm_up + 1), total_iters=settings.warm_up)
    return SequentialLR(optimizer, [warm_up, cosine], milestones=[settings.warm_up])
