"""The optimiser of a restorer: learning-rate schedule, gradient clipping, mixed precision, mean weights (EMA).

All but the schedule are off unless params.yaml switches them on.
"""

import math
from typing import Any

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.mixed_precision import mixed_precision
from models.restorers.contract import Restorer
from pipeline.settings.training import TrainRestorer
from pipeline.training.distributed import TrainingRank

LOWEST_RATE = 1e-7  # where the cosine ends


class TrainingError(ValueError):
    """A training that cannot start or continue. The text says why."""


class Optimisation:
    """AdamW with a warm-up and a cosine, gradient clipping, mixed precision and a running mean of the weights.

    Only the restorer runs in mixed precision; the objective always sees float32. The scaler of fp16 skips a step
    whose gradient overflows and lowers its scale.

    Args:
        restorer: in training mode, on its device; its weights change in place.
        settings: of the training.
        rank: this process as a rank of the training.

    Attributes:
        network: the restorer to call while it trains; on several ranks, in torch's DDP.

    Raises:
        TrainingError: fp16 without a GPU, or a restorer without trainable weights.
    """

    def __init__(self, restorer: Restorer, settings: TrainRestorer, rank: TrainingRank | None = None) -> None:
        self.restorer = restorer
        self.settings = settings
        self.weights = [parameter for parameter in restorer.parameters() if parameter.requires_grad]
        if not self.weights:
            raise TrainingError(f"restorer {restorer.name}: it has no trainable weights. Choose another one.")
        self.device = self.weights[0].device
        if settings.precision == "fp16" and self.device.type != "cuda":
            raise TrainingError("train_restorer.precision: fp16 needs a GPU. Choose auto, bf16 or full.")
        self.network = (rank or TrainingRank(self.device)).wrap(restorer)
        self.optimizer = torch.optim.AdamW(
            self.weights, lr=settings.learning_rate, betas=(0.9, 0.9), weight_decay=0.0, fused=True
        )
        self.schedule = _schedule(self.optimizer, settings)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=settings.precision == "fp16")
        self.mean = (
            None if settings.ema is None else AveragedModel(restorer, multi_avg_fn=get_ema_multi_avg_fn(settings.ema))
        )

    @property
    def result(self) -> Restorer:
        """The restorer that the training returns: the running mean of the weights if `ema` is set, or the weights."""
        if self.mean is None:
            return self.restorer
        mean: Restorer = self.mean.module  # type: ignore[assignment]
        return mean

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint holds: objects with `state_dict`, by name."""
        state = {"restorer": self.restorer, "optimizer": self.optimizer, "schedule": self.schedule}
        return state | {"scaler": self.scaler} | ({} if self.mean is None else {"mean": self.mean})

    def precision(self) -> torch.autocast:
        """Context for the forward pass of the restorer: mixed precision if `precision` asks for it."""
        if self.settings.precision == "fp16":
            return torch.autocast(self.device.type, torch.float16)
        return mixed_precision(self.settings.precision, self.device)

    def step(self, loss: torch.Tensor) -> dict[str, float]:
        """Change the weights once. Returns the learning rate and the norm of the gradient before clipping.

        The norm is left out if the scaler skips the step.

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
        """Which weights have a gradient that is not finite, and whether the objective or the restorer made it so."""
        with_gradient = [(name, weight) for name, weight in self.restorer.named_parameters() if weight.grad is not None]
        faulty = [name for name, weight in with_gradient if not torch.isfinite(weight.grad).all()]  # type: ignore[arg-type]
        if not faulty:
            return "its norm alone, because the norm is too large"
        origin = "the objective's gradient" if len(faulty) == len(with_gradient) else "the inside of the restorer"
        return f"{len(faulty)} of {len(with_gradient)} weights, such as {faulty[0]}, so that it comes from {origin}"


def _schedule(optimizer: torch.optim.Optimizer, settings: TrainRestorer) -> LRScheduler:
    cosine = CosineAnnealingLR(optimizer, settings.steps - settings.warm_up, eta_min=LOWEST_RATE)
    if not settings.warm_up:
        return cosine
    warm_up = LinearLR(optimizer, start_factor=1 / (settings.warm_up + 1), total_iters=settings.warm_up)
    return SequentialLR(optimizer, [warm_up, cosine], milestones=[settings.warm_up])
