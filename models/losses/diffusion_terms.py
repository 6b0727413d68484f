"""The terms `natural`, `semantic` and `diffloss` of an objective: DiffLoss behind its settings."""

import torch
from torch import Tensor

from .diffloss import DiffLoss
from .diffusion_options import Views
from .feature_bank import FeatureBank
from .pixel import FACTOR_ON_SYMMETRIC_RANGE
from .term import DiffusionSettings, Frozen, LossError, Term

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
    if settings.precision not in ("float32", "autocast") and (settings.checkpointing or settings.compile):
        raise LossError(
            f"{name}: precision {settings.precision} goes with neither checkpointing nor compile; use autocast"
        )
    wanted = COMPONENTS[name]
    loss = DiffLoss(
        frozen.prior,
        natural_weight=float("natural" in wanted),
        semantic_weight=float("semantic" in wanted),
        timestep_range=(settings.timesteps[0], settings.timesteps[1]),
        timestep_sampling=settings.timestep_sampling,
        draws=settings.draws,
        views=Views(settings.view, settings.view_sizes),
        bank=_bank(settings, frozen),
        precision=settings.precision,
        layers=settings.layers,
        distance=settings.distance,
        channels_last=settings.channels_last,
        share=frozen.share,
    )
    if settings.checkpointing:
        frozen.prior.checkpoint()
    if settings.compile:
        frozen.prior.compile_passes()
    raw = {"natural": settings.natural_weight, "semantic": settings.semantic_weight}
    factor = FACTOR_ON_SYMMETRIC_RANGE[pixel_kind]
    return DiffusionTerm(loss, settings, {component: raw[component] / factor for component in wanted})


def _bank(settings: DiffusionSettings, frozen: Frozen) -> FeatureBank | None:
    if settings.bank == "off":
        return None
    if settings.bank == "disk" and frozen.bank_folder is None:
        raise LossError("bank 'disk' needs a folder: pass bank_folder, or use 'memory'")
    return FeatureBank(settings.bank_draws, frozen.bank_folder if settings.bank == "disk" else None)
