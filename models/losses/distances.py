"""Distances between maps of features, which the semantic term of DiffLoss can use."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from .diffloss import mean_square


def channel(features: Tensor, target: Tensor) -> Tensor:
    """Squared difference relative to the variance of the target's channel, mean over channels: (N,C,h,w) to (N,).

    Channels of large values count no more than the rest. The variance is that of one image's map. Its lower limit is a
    hundredth of the mean over channels, so that a channel that is silent in this image does not dominate.
    """
    variance = target.var(dim=(2, 3), unbiased=False)  # (N,C)
    limit = 0.01 * variance.mean(1, keepdim=True)  # (N,1)
    squares = (features - target).square().mean((2, 3))  # (N,C)
    return (squares / torch.maximum(variance, limit).clamp_min(_epsilon(target))).mean(1)


def cosine(features: Tensor, target: Tensor) -> Tensor:
    """One minus the cosine of the angle between the (C,) vectors at each pixel, mean over pixels: (N,C,h,w) to (N,).

    LPIPS compares features in this way, too.
    """
    product = (features * target).sum(1)  # (N,h,w)
    norms = (features.square().sum(1) * target.square().sum(1)).clamp_min(_epsilon(target)).sqrt()  # (N,h,w)
    return (1 - product / norms).flatten(1).mean(1)


DISTANCES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": mean_square,
    "channel": channel,
    "cosine": cosine,
}


def _epsilon(like: Tensor) -> float:
    """Keeps divisions finite if a map is zero everywhere."""
    return torch.finfo(like.dtype).eps
