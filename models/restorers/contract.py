"""The contract of restorers: any image size in, the same size out, whole or tile by tile."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import RestorerError


class Restorer(nn.Module):
    """A restoration network behind the common contract.

    Args:
        network: maps (N, 3, H, W) to the same shape for H and W that are multiples of `multiple`.
        name: its key in RESTORERS.
        settings: JSON values from which the network is built again.
        multiple: images of other sizes are extended to it by reflection, and the result is cut back.
    """

    def __init__(self, network: nn.Module, name: str, settings: Mapping[str, Any], multiple: int) -> None:
        super().__init__()
        self.network = network
        self.name = name
        self.settings = dict(settings)
        self.multiple = multiple

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The restored images (N, 3, H, W) of degraded images (N, 3, H, W) in [0, 1].

        Raises:
            ValueError: not a batch of three-channel images.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"Expected images of shape (N, 3, H, W), but got {tuple(images.shape)}")
        height, width = images.shape[-2:]
        restored = self.network(pad_to_multiple(images, self.multiple))[..., :height, :width]
        return restored if self.training else restored.clamp(0, 1)


def pad_to_multiple(images: torch.Tensor, multiple: int) -> torch.Tensor:
    """Images (N, C, H, W) extended by reflection at the bottom and the right, to sides that are multiples."""
    height, width = images.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    if not bottom and not right:
        return images
    # Reflection needs more pixels than it adds; tiny images repeat their border instead.
    mode = "reflect" if bottom < height and right < width else "replicate"
    return F.pad(images, (0, right, 0, bottom), mode=mode)


def restore_tiled(restorer: Restorer, images: Tensor, tile: int, overlap: int) -> Tensor:
    """Restore (N, 3, H, W) in [0, 1] tile by tile; an image that fits into a tile is restored whole.

    In the overlap of two tiles, each tile's outer quarter is discarded, because its surroundings are missing there. The
    middle half is blended linearly. The result equals that of the whole image if the restorer's receptive field reaches
    no further than overlap / 4 pixels. Restorers with a global receptive field (attention, NAFNet's average over the
    image) give another result than on the whole image, but it changes smoothly from tile to tile.

    Args:
        restorer: in eval mode.
        images: on the restorer's device.
        tile: side of a tile in pixels, rounded up to the restorer's multiple.
        overlap: of neighbouring tiles in pixels, at most half a tile.

    Raises:
        RestorerError: the overlap is negative or more than half a tile.
    """
    if not 0 <= 2 * overlap <= tile:
        raise RestorerError(f"tile {tile}, overlap {overlap}: the overlap must lie between 0 and half a tile")
    height, width = images.shape[-2:]
    if height <= tile and width <= tile:
        whole: Tensor = restorer(images)
        return whole
    padded = pad_to_multiple(images, restorer.multiple)
    rows, columns = (_spans(length, tile, overlap, restorer.multiple) for length in padded.shape[-2:])
    total, weight = torch.zeros_like(padded), torch.zeros_like(padded[:1, :1])
    for top, bottom in rows:
        for left, right in columns:
            place = (..., slice(top, bottom), slice(left, right))
            window = torch.outer(
                _window(top, bottom, padded.shape[-2], overlap), _window(left, right, padded.shape[-1], overlap)
            ).to(padded)
            total[place] += restorer(padded[place]) * window
            weight[place] += window
    return (total / weight)[..., :height, :width]


def _spans(length: int, tile: int, overlap: int, multiple: int) -> list[tuple[int, int]]:
    """Start and end of each tile along an axis, at multiples; the last tile is shifted to end with the image."""
    tile = min(-(-max(tile, overlap + multiple) // multiple) * multiple, length)
    stride = max((tile - overlap) // multiple * multiple, multiple)
    starts = [*range(0, length - tile, stride), length - tile]
    return [(start, start + tile) for start in starts]


def _window(start: int, end: int, length: int, overlap: int) -> Tensor:
    """The weights (end - start,) of a tile along an axis: 0, then a ramp to 1, from each border inside the image."""
    distance = torch.arange(end - start, dtype=torch.float64) + 0.5  # of pixel centres from the tile's border
    quarter = overlap / 4
    ramp = ((distance - quarter) / (2 * quarter)).clamp(0, 1) if overlap else torch.ones_like(distance)
    before = ramp if start > 0 else torch.ones_like(ramp)
    after = ramp.flip(0) if end < length else torch.ones_like(ramp)
    return before * after
