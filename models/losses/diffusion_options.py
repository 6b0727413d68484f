"""How far two feature maps are from each other: (N,C,h,w) pairs to one value for each image, 0 where they agree."""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..diffusion.schedule import NoiseSchedule
from .term import LossError

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


# Density over the window as a function of a_t, the share of the image's power that survives at t.
DENSITIES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "uniform": torch.ones_like,
    "clean": lambda alphas: alphas,  # favours little noise: detail
    "noisy": lambda alphas: 1 - alphas,  # favours much noise: content (the weights of P2, Choi et al. 2022, k=1)
}


class TimestepSampler:
    """Draws timesteps from a half-open window [low, high) of a schedule.

    Raises:
        LossError: an empty window or one outside the schedule, or an unknown density.
    """

    def __init__(self, schedule: NoiseSchedule, window: tuple[int, int], density: str = "uniform") -> None:
        low, high = window
        if not 0 <= low < high <= schedule.steps:
            raise LossError(f"timestep range {low}..{high}: expected 0 <= low < high <= {schedule.steps}, half-open")
        if density not in DENSITIES:
            raise LossError(f"timestep sampling {density!r} is unknown; there are {', '.join(DENSITIES)}")
        self.low = low
        self.weights = DENSITIES[density](schedule.alphas_cumprod[low:high])

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) int64 timesteps, on the generator's device."""
        weights = self.weights.float().to(generator.device)
        return self.low + torch.multinomial(weights, count, replacement=True, generator=generator)


VIEWS = ("own", "resize", "multi-scale")


class Views:
    """Turns a pair of images into the pairs that the prior sees.

    own: the images as they are. resize: the shorter side becomes the one size in `sizes`. multi-scale: one pair
    for each size in `sizes`, and the loss is the mean over them. Resizing is bilinear with anti-aliasing, keeps
    the aspect ratio up to the prior's size multiple, and is differentiable.

    Raises:
        LossError: an unknown kind, or sizes that do not go with it.
    """

    def __init__(self, kind: str = "own", sizes: Sequence[int] = (64,)) -> None:
        if kind not in VIEWS:
            raise LossError(f"view {kind!r} is unknown; there are {', '.join(VIEWS)}")
        if kind != "own" and (not sizes or any(size < 1 for size in sizes)):
            raise LossError(f"view_sizes {tuple(sizes)}: expected at least one positive size")
        if kind == "resize" and len(sizes) != 1:
            raise LossError(f"view_sizes {tuple(sizes)}: view 'resize' takes one size; 'multi-scale' takes several")
        self.kind, self.sizes = kind, tuple(sizes)

    def __call__(self, restored: Tensor, clean: Tensor, multiple: int) -> list[tuple[Tensor, Tensor]]:
        """Pairs of (N,3,h,w) images in [0,1]; with own size the sides must be multiples of `multiple`."""
        if self.kind != "own":
            return [(_resize(restored, size, multiple), _resize(clean, size, multiple)) for size in self.sizes]
        if restored.shape[2] % multiple or restored.shape[3] % multiple:
            raise LossError(
                f"images of {restored.shape[2]}x{restored.shape[3]}: the prior needs sides that are multiples of "
                f"{multiple}; crop to such a size or use a resized view"
            )
        return [(restored, clean)]


def _resize(image: Tensor, size: int, multiple: int) -> Tensor:
    """The shorter side becomes `size`, rounded to the multiple; the other follows."""
    scale = size / min(image.shape[2:])
    height, width = (max(multiple, round(side * scale / multiple) * multiple) for side in image.shape[2:])
    resized = F.interpolate(image, (height, width), mode="bilinear", antialias=True, align_corners=False)
    return resized.clamp(0, 1)
