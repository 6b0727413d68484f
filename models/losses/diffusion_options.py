"""Options of DiffLoss: distances of feature maps, densities of timesteps, and the size at which the prior sees images."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

Distance = Callable[[Tensor, Tensor], Tensor]


def mse(seen: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference, the distance of the paper: (N,C,h,w) pairs to (N,)."""
    return (seen - target).square().flatten(1).mean(1)


def channel(seen: Tensor, target: Tensor) -> Tensor:
    """Squared difference relative to the variance of the target's channel, mean over channels: (N,C,h,w) to (N,).

    Channels of large values count no more than the rest. The variance is that of one image's map. Its lower limit is a
    hundredth of the mean over channels, so that a channel that is silent in this image does not dominate.
    """
    variance = target.var(dim=(2, 3), unbiased=False)  # (N,C)
    limit = 0.01 * variance.mean(1, keepdim=True)  # (N,1)
    squares = (seen - target).square().mean((2, 3))  # (N,C)
    return (squares / torch.maximum(variance, limit).clamp_min(_epsilon(target))).mean(1)


def cosine(seen: Tensor, target: Tensor) -> Tensor:
    """One minus the cosine between the channels' values at each place, mean over places, as in LPIPS: (N,C,h,w) to (N,)."""
    product = (seen * target).sum(1)  # (N,h,w)
    norms = (seen.square().sum(1) * target.square().sum(1)).clamp_min(_epsilon(target)).sqrt()  # (N,h,w)
    return (1 - product / norms).flatten(1).mean(1)


DISTANCES: Mapping[str, Distance] = {"mse": mse, "channel": channel, "cosine": cosine}


def _epsilon(like: Tensor) -> float:
    """Keeps divisions finite if a map is zero everywhere."""
    return torch.finfo(like.dtype).eps


def uniform(alphas: Tensor) -> Tensor:
    """The same density at all timesteps. `alphas` (T,) is the part of the image's power that is left at each."""
    return torch.ones_like(alphas)


def clean(alphas: Tensor) -> Tensor:
    """More density at timesteps with little noise, which show detail."""
    return alphas


def noisy(alphas: Tensor) -> Tensor:
    """More density at timesteps with much noise, which show content: the weights of P2, Choi et al. 2022, k=1."""
    return 1 - alphas


DENSITIES: Mapping[str, Callable[[Tensor], Tensor]] = {"uniform": uniform, "clean": clean, "noisy": noisy}


def resize(image: Tensor, size: int, multiple: int) -> Tensor:
    """Images (N,3,H,W) in [0,1] with `size` as the shorter side; both sides are rounded to a multiple.

    Bilinear with anti-aliasing, differentiable. The aspect ratio stays, up to the rounding.
    """
    scale = size / min(image.shape[2:])
    height, width = (max(multiple, round(side * scale / multiple) * multiple) for side in image.shape[2:])
    resized = F.interpolate(image, (height, width), mode="bilinear", antialias=True, align_corners=False)
    return resized.clamp(0, 1)
