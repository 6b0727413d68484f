"""DRUNet, a small U-Net (Zhang et al., "Plug-and-Play Image Restoration with Deep Denoiser Prior", 2021)."""

from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from ..settings import Count
from ..settings import Settings as BaseSettings
from .contract import Restorer


class Settings(BaseSettings):
    """A DRUNet.

    Attributes:
        channels: channels of the four levels, from fine to coarse, each with half the size of the level before.
        blocks: residual blocks at each level, on the way down and up.
    """

    channels: Annotated[list[Count], Field(min_length=4, max_length=4)]
    blocks: Count


def build_unet(settings: Settings) -> Restorer:
    """A residual U-Net of plain convolutions, without normalisation or attention, hence with a local receptive field.

    Its last convolution starts at zero, so that the untrained network is the identity.
    """
    from spandrel.architectures.DRUNet import DRUNet

    network = DRUNet(in_nc=4, out_nc=3, nc=settings.channels, nb=settings.blocks)
    nn.init.zeros_(network.m_tail.weight)
    return Restorer(_Residual(network), "unet", settings.model_dump(), multiple=8)


class _Residual(nn.Module):
    """Images (N, 3, H, W) plus the output of DRUNet.

    DRUNet has no biases and takes a map of the noise level as fourth channel. Here that channel is 1 everywhere, so
    that the network can add a constant to the image, as fog and darkness need.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        change: torch.Tensor = self.network(torch.cat([images, torch.ones_like(images[:, :1])], dim=1))
        return images + change
