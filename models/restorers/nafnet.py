"""NAFNet (Chen et al., "Simple Baselines for Image Restoration", ECCV 2022), as spandrel ships it."""

from torch import nn


def build_nafnet(
    width: int, encoder_blocks: list[int], middle_blocks: int, decoder_blocks: list[int]
) -> tuple[nn.Module, int]:
    """A NAFNet with a residual connection from its input: untrained, it is close to the identity.

    Args:
        width: channels at full resolution; doubled at each level.
        encoder_blocks: blocks at each level; their number is the number of halvings.
        middle_blocks: blocks at the coarsest level.
        decoder_blocks: blocks at each level on the way up; as many numbers as encoder_blocks.
    """
    from spandrel.architectures.NAFNet import NAFNet

    network = NAFNet(
        img_channel=3,
        width=width,
        middle_blk_num=middle_blocks,
        enc_blk_nums=list(encoder_blocks),
        dec_blk_nums=list(decoder_blocks),
    )
    return network, 2 ** len(encoder_blocks)
