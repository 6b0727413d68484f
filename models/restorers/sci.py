"""SCI (Ma et al., "Toward fast, flexible, and robust low-light image enhancement", CVPR 2022): its published weights.

`checkpoint` reads these weights. The paper's self-calibrated module is used in training only. What is left is one block
that estimates the illumination x of an image y and returns the reflectance z = y / x (the paper's equation 1).
"""

from torch import Tensor, nn

DARKEST = 1e-4  # smallest illumination, so that the quotient is finite


class Sci(nn.Module):
    """The illumination estimator with its residual connections. The names are those of the published weights."""

    def __init__(self) -> None:
        super().__init__()
        self.enhance = _Estimator()

    def forward(self, images: Tensor) -> Tensor:
        """The brightened images (N, 3, H, W) of dark ones in [0, 1]."""
        return images / self.enhance(images)


class _Estimator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.in_conv = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())
        self.conv = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU())
        self.out_conv = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Sigmoid())

    def forward(self, images: Tensor) -> Tensor:
        """The illumination (N, 3, H, W), from DARKEST to 1."""
        features = self.in_conv(images)
        features = features + self.conv(features)
        illumination: Tensor = (images + self.out_conv(features)).clamp(DARKEST, 1)
        return illumination
