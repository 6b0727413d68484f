"""What the objective adds to the pixel loss: terms, each with one or more scalar components."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from models.losses.settings import TermSettings
from models.share import WHOLE, BatchShare

if TYPE_CHECKING:
    from models.diffusion.prior import DiffusionPrior


@dataclass(frozen=True)
class Frozen:
    """What a training run can lend to its terms: frozen networks, a folder for cached features, its share."""

    prior: "DiffusionPrior | None" = None
    task_features: Callable[[Tensor], list[Tensor]] | None = None
    bank_folder: Path | None = None
    share: BatchShare = WHOLE


class Term(nn.Module, ABC):
    """One entry of an objective besides the pixel loss.

    `raw_weights` names the components and the factor of each under weighting "raw", for a pixel loss on [0,1]
    images.
    """

    def __init__(self, settings: TermSettings, raw_weights: Mapping[str, float]) -> None:
        super().__init__()
        self.settings = settings
        self.raw_weights = dict(raw_weights)

    @abstractmethod
    def forward(self, restored: Tensor, clean: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Scalar components by name; images (N,3,H,W) in [0,1], differentiable in `restored`."""
