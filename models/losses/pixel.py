"""The pixel losses, scalars of images in [0,1]."""

from collections.abc import Callable, Mapping

import torch.nn.functional as F
from torch import Tensor

CHARBONNIER_EPSILON = 1e-3


def charbonnier(restored: Tensor, clean: Tensor) -> Tensor:
    """Mean of sqrt(d^2 + eps^2), L1 with a round tip (Charbonnier et al. 1994), eps = 1e-3."""
    return ((restored - clean).square() + CHARBONNIER_EPSILON**2).sqrt().mean()


PIXEL_LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": F.l1_loss,
    "l2": F.mse_loss,
    "charbonnier": charbonnier,
}

# A pixel loss on [-1,1] images is this many times the one on [0,1] images (for charbonnier up to its round tip).
FACTOR_ON_SYMMETRIC_RANGE = {"l1": 2.0, "l2": 4.0, "charbonnier": 2.0}
