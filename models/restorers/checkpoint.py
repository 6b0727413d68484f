"""A restorer from a file: the start of a training, or used as it is."""

from ..settings import Settings as BaseSettings
from . import load_restorer
from .contract import Restorer, RestorerError


class Settings(BaseSettings):
    """A checkpoint.

    Attributes:
        weights: a .safetensors file of ours, or any checkpoint that spandrel reads; null while none is chosen.
    """

    weights: str | None


def load_weights(settings: Settings) -> Restorer:
    """The restorer in the file, named and set as the file says."""
    if settings.weights is None:
        raise RestorerError("restorer 'checkpoint': weights must name a file")
    return load_restorer(settings.weights)
