"""The pixel loss, part of every objective: the distance of restored and clean images, pixel by pixel."""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import settings
from .term import Loss, LossInputs

CHARBONNIER_EPSILON = 1e-3


def charbonnier(restored: Tensor, clean: Tensor) -> Tensor:
    """Mean of sqrt(d^2 + eps^2), eps = 1e-3: L1 with a round tip (Charbonnier et al. 1994)."""
    return ((restored - clean).square() + CHARBONNIER_EPSILON**2).sqrt().mean()


PIXEL_LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": F.l1_loss,
    "l2": F.mse_loss,
    "charbonnier": charbonnier,
}

# The loss on [-1,1] images divided by the loss on [0,1] images (for charbonnier up to its round tip).
SYMMETRIC_RANGE_FACTORS = {"l1": 2.0, "l2": 4.0, "charbonnier": 2.0}


class Settings(settings.Settings):
    """Which pixel loss, and its weight.

    Attributes:
        kind: mean absolute difference, mean squared difference, or Charbonnier's smooth absolute difference.
        weight: factor of the pixel loss in the objective.
    """

    kind: Literal["l1", "l2", "charbonnier"] = "l1"
    weight: float = 1.0


class Pixel(Loss):
    """The pixel loss, the mean over all values of a batch.

    Attributes:
        symmetric_range_factor: the loss on [-1,1] images divided by the loss on [0,1] images.
    """

    def __init__(self, settings: Settings, inputs: LossInputs) -> None:
        super().__init__(settings, inputs)
        self.symmetric_range_factor = SYMMETRIC_RANGE_FACTORS[settings.kind]

    @property
    def raw_weights(self) -> dict[str, float]:
        """The weight of the pixel loss."""
        return {"pixel": self.settings.weight}

    def forward(self, restored: Tensor, clean: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The component `pixel`."""
        return {"pixel": PIXEL_LOSSES[self.settings.kind](restored, clean)}
