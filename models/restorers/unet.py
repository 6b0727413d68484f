"""A light U-Net: DRUNet (Zhang et al., "Plug-and-Play Image Restoration with Deep Denoiser Prior", 2021)."""

import torch
from torch import nn


def build_unet(channels: list[int], blocks: int) -> tuple[nn.Module, int]:
    """A residual U-Net of plain convolutions, without normalisation or attention: what it does is local.

    Its last convolution starts at zero: untrained, it is the identity.

    Args:
        channels: of its four levels; three halvings lie between them.
        blocks: residual blocks at each level, on the way down and up.
    """
    from spandrel.architectures.DRUNet import DRUNet

    network = DRUNet(in_nc=4, out_nc=3, nc=list(channels), nb=blocks)
    nn.init.zeros_(network.m_tail.weight)
    return _Residual(network), 8


class _Residual(nn.Module):
    """What DRUNet finds, added to the image.

    DRUNet has no biases and takes a map of the noise level as fourth channel. Here that channel is 1 everywhere:
    through it the network can add and subtract light, as fog and darkness ask for.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        change: torch.Tensor = self.network(torch.cat([images, torch.ones_like(images[:, :1])], dim=1))
        return images + change
