"""NAFNet (Chen et al., "Simple Baselines for Image Restoration", ECCV 2022), in spandrel's implementation."""

from pydantic import model_validator
from torch import nn

from ..settings import Count, Counts
from ..settings import Settings as BaseSettings
from .contract import Restorer
from .normalisation import ChannelNorm


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
    from spandrel.architectures.NAFNet import NAFNet

    network = NAFNet(
        img_channel=3,
        width=settings.width,
        middle_blk_num=settings.middle_blocks,
        enc_blk_nums=settings.encoder_blocks,
        dec_blk_nums=settings.decoder_blocks,
    )
    _replace_norms(network)
    return Restorer(network, "nafnet", settings.model_dump(), multiple=2 ** len(settings.encoder_blocks))


def _replace_norms(network: nn.Module) -> None:
    """Replace the blocks' layer normalisation by torch's, which is faster and has the same weights."""
    for module in network.modules():
        for name in ("norm1", "norm2"):
            if norm := getattr(module, name, None):
                setattr(module, name, ChannelNorm(len(norm.weight), eps=norm.eps))
