"""The terms `natural`, `semantic` and `diffloss` of an objective: DiffLoss behind its settings."""

import torch
from torch import Tensor

from models.losses.diffloss import DiffLoss
from models.losses.pixel import FACTOR_ON_SYMMETRIC_RANGE
from models.losses.settings import DiffusionSettings, LossError
from models.losses.terms import Frozen, Term
from models.losses.views import Views

COMPONENTS = {"natural": ("natural",), "semantic": ("semantic",), "diffloss": ("natural", "semantic")}


class DiffusionTerm(Term):
    """One or both terms of DiffLoss."""

    def __init__(self, loss: DiffLoss, settings: DiffusionSettings, raw_weights: dict[str, float]) -> None:
        super().__init__(settings, raw_weights)
        self.loss = loss

    def forward(self, restored: Tensor, clean: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        terms = self.loss(restored, clean, generator=generator)
        return {name: getattr(terms, name).mean() for name in self.raw_weights}


def build(name: str, settings: DiffusionSettings, frozen: Frozen, pixel_kind: str) -> DiffusionTerm:
    """Build the term `name`. Raw weights are stated for [-1,1] images and converted to a [0,1] pixel loss."""
    if frozen.prior is None:
        raise LossError(f"objective {name!r} needs a diffusion prior")
    wanted = COMPONENTS[name]
    loss = DiffLoss(
        frozen.prior,
        natural_weight=float("natural" in wanted),
        semantic_weight=float("semantic" in wanted),
        timestep_range=(settings.timesteps[0], settings.timesteps[1]),
        timestep_sampling=settings.timestep_sampling,
        draws=settings.draws,
        views=Views(settings.view, settings.view_sizes),
    )
    raw = {"natural": settings.natural_weight, "semantic": settings.semantic_weight}
    factor = FACTOR_ON_SYMMETRIC_RANGE[pixel_kind]
    return DiffusionTerm(loss, settings, {component: raw[component] / factor for component in wanted})
