"""The term `task`: how differently a frozen task network sees the restored and the clean image."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ..data_parallel import WHOLE, BatchShare
from .term import Frozen, LossError, TaskSettings, Term


class TaskTerm(Term):
    """Mean squared distance of the task network's features, each layer against its power on the clean image.

    The division makes layers of any scale count the same; it is 1 where the restored features are unrelated zeros.
    """

    def __init__(
        self, features: Callable[[Tensor], Iterable[Tensor]], settings: TaskSettings, share: BatchShare = WHOLE
    ) -> None:
        super().__init__(settings, {"task": settings.raw_weight})
        self._features = features
        self._share = share

    def forward(self, restored: Tensor, clean: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        with torch.no_grad():
            wanted = list(self._features(clean))
        seen = list(self._features(restored))
        if not seen or len(seen) != len(wanted):
            raise LossError(f"task: the network gave {len(seen)} and {len(wanted)} feature maps for one pair")
        if torch.is_grad_enabled() and restored.requires_grad and not any(layer.requires_grad for layer in seen):
            raise LossError("task: the network's features carry no gradient; do not compute them under no_grad")
        distances = [self._relative_distance(*pair) for pair in zip(seen, wanted, strict=True)]
        return {"task": torch.stack(distances).mean()}

    def _relative_distance(self, seen: Tensor, wanted: Tensor) -> Tensor:
        power = self._share.mean(wanted.float().square().mean()).clamp_min(torch.finfo(torch.float32).tiny)
        return (seen.float() - wanted.float()).square().mean() / power


def build(name: str, settings: TaskSettings, frozen: Frozen, pixel_kind: str) -> TaskTerm:
    """Build the term from the features that the training run lends.

    Raises:
        LossError: there are none.
    """
    if frozen.task_features is None:
        raise LossError("objective 'task' needs the features of a task network: pass task_features")
    return TaskTerm(frozen.task_features, settings, frozen.share)
