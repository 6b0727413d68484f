"""NAFNet (Chen et al., "Simple Baselines for Image Restoration", ECCV 2022).

Layers have the names of the authors' checkpoints. This module is imported faster than spandrel's, which imports all
architectures, and its normalisation, torch's, is faster.
"""

import torch
from pydantic import model_validator
from torch import Tensor, nn

from ..settings import Count, Counts
from ..settings import Settings as BaseSettings
from .contract import Restorer
from .normalisation import ChannelNorm
from .upsampling import shuffled


class Settings(BaseSettings):
    """A NAFNet.

    Attributes:
        width: channels at full resolution; doubled at each level.
        encoder_blocks: blocks at each level; their number is the number of halvings.
        middle_blocks: blocks at the coarsest level.
        decoder_blocks: blocks at each level on the way up; as many numbers as encoder_blocks.
    """

    width: Count
    encoder_blocks: Counts
    middle_blocks: Count
    decoder_blocks: Counts

    @model_validator(mode="after")
    def _is_symmetric(self) -> "Settings":
        if len(self.encoder_blocks) != len(self.decoder_blocks):
            raise ValueError("encoder_blocks and decoder_blocks must have the same length")
        return self


def build_nafnet(settings: Settings) -> Restorer:
    """An untrained NAFNet. It has a residual connection from its input, and is close to the identity."""
    return Restorer(_NafNet(settings), "nafnet", settings.model_dump(), multiple=2 ** len(settings.encoder_blocks))


class _NafNet(nn.Module):
    """Maps images (N, 3, H, W) to the same shape; sides are multiples of 2^(number of levels)."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        channels = settings.width
        self.intro = nn.Conv2d(3, channels, 3, padding=1)
        self.ending = nn.Conv2d(channels, 3, 3, padding=1)
        self.encoders, self.downs, self.ups, self.decoders = (nn.ModuleList() for _ in range(4))
        for count in settings.encoder_blocks:
            self.encoders.append(_blocks(channels, count))
            self.downs.append(nn.Conv2d(channels, 2 * channels, 2, stride=2))
            channels *= 2
        self.middle_blks = _blocks(channels, settings.middle_blocks)
        for count in settings.decoder_blocks:
            self.ups.append(shuffled(nn.Conv2d(channels, 2 * channels, 1, bias=False)))
            channels //= 2
            self.decoders.append(_blocks(channels, count))

    def forward(self, images: Tensor) -> Tensor:
        features, skips = self.intro(images), []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            skips.append(encoder(features))
            features = down(skips[-1])
        features = self.middle_blks(features)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            features = decoder(up(features) + skips.pop())
        restored: Tensor = self.ending(features) + images
        return restored


class _Block(nn.Module):
    """Two residual branches: depthwise convolution with channel attention, and a gated feed-forward layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(channels, eps=1e-6), ChannelNorm(channels, eps=1e-6)
        self.conv1 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv2 = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1))
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.conv4 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv5 = nn.Conv2d(channels, channels, 1)
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        mixed = _gate(self.conv2(self.conv1(self.norm1(features))))
        features = features + self.conv3(mixed * self.sca(mixed)) * self.beta
        updated: Tensor = features + self.conv5(_gate(self.conv4(self.norm2(features)))) * self.gamma
        return updated


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(_Block(channels) for _ in range(count)))


def _gate(features: Tensor) -> Tensor:
    """The product of the two halves of the channels."""
    first, second = features.chunk(2, dim=1)
    return first * second
