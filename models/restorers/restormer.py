"""Restormer (Zamir et al., "Restormer: Efficient Transformer for High-Resolution Image Restoration", CVPR 2022).

Written from the paper: none of this project's libraries has it.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from ..settings import Counts, NonNegative
from ..settings import Settings as BaseSettings
from .contract import Restorer
from .normalisation import ChannelNorm
from .upsampling import shuffled


class Settings(BaseSettings):
    """A Restormer.

    Attributes:
        width: channels at full resolution; doubled at each level.
        blocks: transformer blocks at each level; the last number is the coarsest level's.
        heads: attention heads at each level; as many numbers as blocks.
        refinement: blocks at full resolution after the decoder.
        expansion: factor of the channels in the feed-forward networks.
    """

    width: Annotated[int, Field(ge=2, multiple_of=2)]
    blocks: Counts
    heads: Counts
    refinement: NonNegative
    expansion: Annotated[float, Field(ge=1)]

    @model_validator(mode="after")
    def _fits(self) -> "Settings":
        if len(self.blocks) != len(self.heads):
            raise ValueError("blocks and heads must have the same length")
        for level, heads in enumerate(self.heads):
            channels = self.width * 2**level
            if channels % heads:
                raise ValueError(f"a level of {channels} channels cannot be shared among {heads} heads")
        return self


def build_restormer(settings: Settings) -> Restorer:
    """An untrained Restormer. Its last convolution starts at zero, so that it is the identity.

    Its attention is between channels and covers the whole image.
    """
    network = _Restormer(settings)
    nn.init.zeros_(network.output.weight)
    return Restorer(network, "restormer", settings.model_dump(), multiple=2 ** (len(settings.blocks) - 1))


class _Restormer(nn.Module):
    """Encoder, decoder and refinement; skips are concatenated and, above full resolution, halved by a 1x1 layer."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        width, blocks = settings.width, settings.blocks

        def stack(channels: int, level: int, count: int) -> nn.Sequential:
            return nn.Sequential(*(_Block(channels, settings.heads[level], settings.expansion) for _ in range(count)))

        coarsest = len(blocks) - 1
        widths = [width * 2**level for level in range(len(blocks))]
        self.embedding = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.encoders = nn.ModuleList(stack(widths[level], level, blocks[level]) for level in range(coarsest))
        self.downs = nn.ModuleList(_down(widths[level]) for level in range(coarsest))
        self.middle = stack(widths[-1], coarsest, blocks[-1])
        self.ups = nn.ModuleList(_up(widths[level + 1]) for level in range(coarsest))
        self.merges = nn.ModuleList(
            nn.Conv2d(2 * widths[level], widths[level], 1, bias=False) if level else nn.Identity()
            for level in range(coarsest)
        )
        full = 2 * width if coarsest else width  # at full resolution the skip stays concatenated
        self.decoders = nn.ModuleList(
            stack(widths[level] if level else full, level, blocks[level]) for level in range(coarsest)
        )
        self.refinement = stack(full, 0, settings.refinement)
        self.output = nn.Conv2d(full, 3, 3, padding=1, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        features = self.embedding(images)  # (N,width,H,W)
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            skips.append(encoder(features))  # (N,c,h,w)
            features = down(skips[-1])  # (N,2c,h/2,w/2)
        features = self.middle(features)
        for level in reversed(range(len(skips))):
            features = torch.cat([self.ups[level](features), skips[level]], dim=1)  # (N,2c,h,w)
            features = self.decoders[level](self.merges[level](features))  # (N,c,h,w); (N,2c,H,W) at the last level
        change: Tensor = self.output(self.refinement(features))  # (N,3,H,W)
        return images + change


class _Block(nn.Module):
    """Attention between channels, then the gated feed-forward network; both are residual, on normalised features."""

    def __init__(self, channels: int, heads: int, expansion: float) -> None:
        super().__init__()
        self.attention_norm = ChannelNorm(channels)
        self.attention = _ChannelAttention(channels, heads)
        self.gate_norm = ChannelNorm(channels)
        self.gate = _GatedFeedForward(channels, int(channels * expansion))

    def forward(self, features: Tensor) -> Tensor:
        features = features + self.attention(self.attention_norm(features))
        updated: Tensor = features + self.gate(self.gate_norm(features))
        return updated


class _ChannelAttention(nn.Module):
    """MDTA: attention between channels, so that the cost is linear in the number of pixels."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.mix = nn.Sequential(_pointwise(channels, 3 * channels), _depthwise(3 * channels))
        self.project = _pointwise(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        batch, channels, height, width = features.shape
        mixed = self.mix(features).reshape(batch, 3, self.heads, channels // self.heads, height * width)
        query, key, value = mixed.unbind(1)
        weights = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1) * self.temperature
        attended: Tensor = self.project((weights.softmax(dim=-1) @ value).reshape(features.shape))
        return attended


class _GatedFeedForward(nn.Module):
    """GDFN: half of the hidden channels, after GELU, multiply the other half."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(_pointwise(channels, 2 * hidden), _depthwise(2 * hidden))
        self.project = _pointwise(hidden, channels)

    def forward(self, features: Tensor) -> Tensor:
        gate, value = self.mix(features).chunk(2, dim=1)
        gated: Tensor = self.project(F.gelu(gate) * value)
        return gated


def _pointwise(channels: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 1, bias=False)


def _depthwise(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)


def _down(channels: int) -> nn.Sequential:
    """Half the size, twice the channels."""
    return nn.Sequential(nn.Conv2d(channels, channels // 2, 3, padding=1, bias=False), nn.PixelUnshuffle(2))


def _up(channels: int) -> nn.Sequential:
    """Twice the size, half the channels."""
    return shuffled(nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False))
