"""A diffusion prior from elsewhere: loaded, and tried before any work."""

import torch

from models.diffusion.prior import DiffusionPrior
from pipeline.settings.params import PARAMS_FILE, ParamsError
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


def try_prior(settings: TrainPrior) -> DiffusionPrior:
    """Load the pretrained prior that the settings name, and predict the noise of one image.

    Raises:
        ParamsError: it cannot be read, or what it predicts is not finite.
    """
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
    return prior
