"""Retinexformer (Cai et al., "Retinexformer: One-stage Retinex-based Transformer for Low-light Image Enhancement",
ICCV 2023), in spandrel's implementation.
"""

from typing import Annotated

from pydantic import Field
from torch import nn

from ..settings import Count
from ..settings import Settings as BaseSettings
from .contract import Restorer


class Settings(BaseSettings):
    """A Retinexformer.

    Attributes:
        features: channels at full resolution, a multiple of 4; doubled at each of the two halvings.
        stages: networks in sequence, each with a separate estimate of the illumination.
        blocks: transformer blocks at full, half and quarter resolution.
    """

    features: Annotated[int, Field(ge=4, multiple_of=4)]
    stages: Count
    blocks: Annotated[list[Count], Field(min_length=3, max_length=3)]


def build_retinexformer(settings: Settings) -> Restorer:
    """An untrained Retinexformer. The layers that change the image start at zero, so that it is the identity.

    Its attention is between channels and covers the whole image.
    """
    from spandrel.architectures.RetinexFormer import RetinexFormer

    network = RetinexFormer(n_feat=settings.features, stage=settings.stages, num_blocks=settings.blocks)
    for stage in network.body:
        for layer in (stage.estimator.conv2, stage.denoiser.mapping):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
    return Restorer(network, "retinexformer", settings.model_dump(), multiple=4)
