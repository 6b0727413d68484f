"""Upsampling by pixel shuffle, whose start draws no grid."""

import torch
from torch import nn


def shuffled(layer: nn.Conv2d) -> nn.Sequential:
    """A layer with C output channels, rearranged to C / 4 channels of twice the height and width.

    Its weights are changed so that it starts as an enlargement without interpolation. With independent weights for the
    four pixels that come from one, short trainings leave a grid in the image.
    Source: Aitken et al., "Checkerboard artifact free sub-pixel convolution", 2017.
    """
    with torch.no_grad():
        layer.weight.copy_(layer.weight[::4].repeat_interleave(4, dim=0))
    return nn.Sequential(layer, nn.PixelShuffle(2))
