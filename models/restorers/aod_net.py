"""AOD-Net (Li et al., "AOD-Net: all-in-one dehazing network", ICCV 2017), as its PyTorch weights were published.

`checkpoint` reads these weights. The network estimates K(x) of the paper's equation 6 and returns the haze-free image
J(x) = K(x) I(x) - K(x) + b with b = 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AodNet(nn.Module):
    """Five convolutions, each of which sees maps of earlier ones. The names are those of the published weights."""

    def __init__(self) -> None:
        super().__init__()
        self.e_conv1 = nn.Conv2d(3, 3, 1)
        self.e_conv2 = nn.Conv2d(3, 3, 3, padding=1)
        self.e_conv3 = nn.Conv2d(6, 3, 5, padding=2)
        self.e_conv4 = nn.Conv2d(6, 3, 7, padding=3)
        self.e_conv5 = nn.Conv2d(12, 3, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """The haze-free images (N, 3, H, W) of hazy ones in [0, 1]."""
        first = F.relu(self.e_conv1(images))
        second = F.relu(self.e_conv2(first))
        third = F.relu(self.e_conv3(torch.cat([first, second], dim=1)))
        fourth = F.relu(self.e_conv4(torch.cat([second, third], dim=1)))
        factor = F.relu(self.e_conv5(torch.cat([first, second, third, fourth], dim=1)))  # K of the paper
        return F.relu(factor * images - factor + 1)
