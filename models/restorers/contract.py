"""What every restorer obeys, whichever network is inside."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class RestorerError(ValueError):
    """A restorer that cannot be built, read or run as asked; the text names the setting or the file."""


class Restorer(nn.Module):
    """A restoration network behind the common contract.

    Args:
        network: maps (N, 3, H, W) to the same shape for H and W that are multiples of `multiple`.
        name: its key in RESTORERS.
        settings: what it was built from.
        multiple: other sizes are reflected up to the next multiple and cut back.
    """

    def __init__(self, network: nn.Module, name: str, settings: Mapping[str, Any], multiple: int) -> None:
        super().__init__()
        self.network = network
        self.name = name
        self.settings = dict(settings)
        self.multiple = multiple

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Restore (N, 3, H, W) in [0, 1].

        Raises:
            ValueError: not a batch of three-channel images.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"Expected images of shape (N, 3, H, W), but got {tuple(images.shape)}")
        height, width = images.shape[-2:]
        restored = self.network(pad_to_multiple(images, self.multiple))[..., :height, :width]
        return restored if self.training else restored.clamp(0, 1)


def pad_to_multiple(images: torch.Tensor, multiple: int) -> torch.Tensor:
    """Extend (N, C, H, W) at the bottom and at the right until both sizes are multiples."""
    height, width = images.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    if not bottom and not right:
        return images
    # Reflection needs more pixels than it adds; tiny images repeat their border instead.
    mode = "reflect" if bottom < height and right < width else "replicate"
    return F.pad(images, (0, right, 0, bottom), mode=mode)
