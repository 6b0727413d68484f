"""Layer normalisation over the channels of each pixel."""

from torch import Tensor, nn


class ChannelNorm(nn.LayerNorm):
    """torch's layer normalisation for feature maps (N, C, H, W). It is fastest on maps in channels_last."""

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features.movedim(1, -1)).movedim(-1, 1)
