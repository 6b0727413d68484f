"""The loss `task`: the difference between the features of the restored and the clean image in a frozen task network."""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from . import LossError
from .term import LossInputs, Term, TermSettings


class Settings(TermSettings):
    """Whose features, and the raw weight.

    Attributes:
        network: the task whose trained network gives the features.
        raw_weight: for [0,1] images.
    """

    network: str = "detection"
    raw_weight: float = 0.1


class TaskFeatures(Term):
    """Mean squared difference of the network's features, relative to their mean square on the clean image.

    The value is the mean over layers. The division makes layers of any scale count the same.
    """

    component: ClassVar[str] = "task"
    needs_task = True
    settings: Settings

    def __init__(self, settings: Settings, inputs: LossInputs) -> None:
        super().__init__(settings, inputs)
        self._rank, self._features = inputs.rank, self._network(inputs)

    def _network(self, inputs: LossInputs) -> Callable[[Tensor], list[Tensor]]:
        """Images (N,3,H,W) in [0,1] to feature maps."""
        assert inputs.task_features is not None  # `build_objective` has raised otherwise
        return inputs.task_features

    @property
    def raw_weights(self) -> dict[str, float]:
        """The weight of the only component."""
        return {self.component: self.settings.raw_weight}

    def forward(self, restored: Tensor, clean: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The component.

        Raises:
            LossError: the features of the two images do not match, or carry no gradient.
        """
        with torch.no_grad():
            targets = list(self._features(clean))  # (N,C,h,w) each
        features = list(self._features(restored))  # (N,C,h,w) each
        if not features or len(features) != len(targets):
            raise LossError(
                f"{self.component}: the network gave {len(features)} and {len(targets)} feature maps for one pair"
            )
        if torch.is_grad_enabled() and restored.requires_grad and not any(layer.requires_grad for layer in features):
            raise LossError(
                f"{self.component}: the network's features carry no gradient; do not compute them under no_grad"
            )
        distances = [self._distance(*layer) for layer in zip(features, targets, strict=True)]
        return {self.component: torch.stack(distances).mean()}

    def _distance(self, features: Tensor, target: Tensor) -> Tensor:
        """Scalar for one layer; the mean square of the target is that of the batch of all ranks."""
        power = self._rank.mean(target.float().square().mean()).clamp_min(torch.finfo(torch.float32).tiny)
        return (features.float() - target.float()).square().mean() / power
