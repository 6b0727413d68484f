"""How far two feature maps are from each other: (N,C,h,w) pairs to one value for each image, 0 where they agree."""

from collections.abc import Callable

import torch
from torch import Tensor

from models.losses.settings import LossError

Distance = Callable[[Tensor, Tensor], Tensor]


def mse(seen: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared difference, (N,): the paper's."""
    return (seen - wanted).square().flatten(1).mean(1)


def channel(seen: Tensor, wanted: Tensor) -> Tensor:
    """Mean over channels of the squared difference against the channel's own variance in `wanted`, (N,).

    Channels of large values then count no more than others. The variance is that of one image's map and is cut off
    below at a hundredth of the mean over channels, so that a channel which is silent here does not decide.
    """
    power = wanted.var(dim=(2, 3), unbiased=False)
    floor = 0.01 * power.mean(1, keepdim=True)
    return ((seen - wanted).square().mean((2, 3)) / torch.maximum(power, floor).clamp_min(_tiny(wanted))).mean(1)


def cosine(seen: Tensor, wanted: Tensor) -> Tensor:
    """One minus the cosine between the channels' values at each place, mean over places, (N,); as in LPIPS."""
    product = (seen * wanted).sum(1)
    norms = (seen.square().sum(1) * wanted.square().sum(1)).clamp_min(_tiny(wanted)).sqrt()
    return (1 - product / norms).flatten(1).mean(1)


DISTANCES: dict[str, Distance] = {"mse": mse, "channel": channel, "cosine": cosine}


def get_distance(name: str) -> Distance:
    """The distance of that name.

    Raises:
        LossError: there is none; the text lists them.
    """
    if name not in DISTANCES:
        raise LossError(f"distance {name!r} is unknown; there are {', '.join(DISTANCES)}")
    return DISTANCES[name]


def _tiny(like: Tensor) -> float:
    """Keeps divisions finite, where a map is silent altogether."""
    return torch.finfo(like.dtype).eps
