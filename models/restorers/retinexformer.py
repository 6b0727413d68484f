"""Retinexformer (Cai et al., "Retinexformer: One-stage Retinex-based Transformer for Low-light Image Enhancement",
ICCV 2023), as spandrel ships it.
"""

from torch import nn


def build_retinexformer(features: int, stages: int, blocks: list[int]) -> tuple[nn.Module, int]:
    """A Retinexformer; the layers that change the image start at zero: untrained, it is the identity.

    Its attention lies between channels and looks at the whole image.

    Args:
        features: channels at full resolution, a multiple of 4; doubled at each of the two halvings.
        stages: networks in a row, each with an illumination estimate of its own.
        blocks: transformer blocks at full, half and quarter resolution.
    """
    from spandrel.architectures.RetinexFormer import RetinexFormer

    network = RetinexFormer(n_feat=features, stage=stages, num_blocks=list(blocks))
    for stage in network.body:
        for layer in (stage.estimator.conv2, stage.denoiser.mapping):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
    return network, 4
