"""A diffusion prior from elsewhere: loaded, and tried before any work."""

from typing import Any

import torch

from models.diffusion.prior import DiffusionPrior, PriorError
from models.losses import LossError, get_loss, read_settings
from models.losses.diffusion_terms import DiffLossWithOptions
from pipeline.settings.grammar import objective_losses
from pipeline.settings.params import PARAMS_FILE, Params, ParamsError
from pipeline.settings.training import TrainPrior

SIDE = 32  # pixels of a trial image, rounded up to the prior's multiple


def load_prior(settings: TrainPrior) -> DiffusionPrior:
    """The pretrained prior that the settings name.

    Raises:
        PriorError: it cannot be read.
    """
    assert settings.pretrained is not None
    if settings.adm_settings is None:
        return DiffusionPrior.load(settings.pretrained, null_class=settings.null_class)
    return DiffusionPrior.from_guided_diffusion(
        settings.pretrained, settings.adm_settings, null_class=settings.null_class
    )


def try_prior(params: Params) -> None:
    """Load the pretrained prior that the settings name, if any, predict the noise of one image, and try the losses.

    Raises:
        ParamsError: it cannot be read, what it predicts is not finite, or a loss's window or layer does not fit it.
    """
    settings = params.train_prior
    if settings.pretrained is None:
        return
    key = f"{PARAMS_FILE}: train_prior.pretrained"
    try:
        prior = load_prior(settings)
        side = -(-SIDE // prior.size_multiple) * prior.size_multiple
        image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
        with torch.no_grad():
            features = prior(prior.encode(image), torch.tensor([1]))
    except (ValueError, RuntimeError, OSError) as error:
        raise ParamsError(f"{key}: {' '.join(str(error).split())}") from error
    if not torch.isfinite(features.noise).all():
        raise ParamsError(f"{key}: {settings.pretrained}: the predicted noise is not finite. Choose another prior.")
    for objective in params.objectives:
        for name, (kind, section) in objective_losses(objective, params.losses).items():
            if get_loss(kind).needs_prior:
                _try_loss(prior, name, read_settings(name, kind, section))


def _try_loss(prior: DiffusionPrior, name: str, settings: Any) -> None:
    for window in (settings.timesteps, *settings.timesteps_of.values()):
        try:
            DiffLossWithOptions(prior, settings.model_copy(update={"timesteps": window}))
        except (LossError, PriorError) as error:
            raise ParamsError(f"{PARAMS_FILE}: losses.{name}: does not fit train_prior.pretrained: {error}") from error
