"""Large images in overlapping tiles that are blended into each other."""

import torch
from torch import Tensor

from models.restorers.contract import Restorer, RestorerError, pad_to_multiple


def restore_tiled(restorer: Restorer, images: Tensor, tile: int, overlap: int) -> Tensor:
    """Restore (N, 3, H, W) in [0, 1] tile by tile; images within one tile are restored whole.

    In the overlap of two tiles the outer quarter at each one's own border is thrown away, for there it lacks its
    neighbourhood, and the middle half is blended linearly. So the result is that of the whole image where the
    restorer looks no further than overlap / 4 pixels. A restorer that looks at the whole image (all those with
    attention, and NAFNet, which averages over the image) sees each tile as an image: results differ from
    the whole image's, but they change smoothly from tile to tile.

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
    """Where tiles start and end along one axis, at multiples, the last one shifted inwards to end with the image."""
    tile = min(-(-max(tile, overlap + multiple) // multiple) * multiple, length)
    stride = max((tile - overlap) // multiple * multiple, multiple)
    starts = [*range(0, length - tile, stride), length - tile]
    return [(start, start + tile) for start in starts]


def _window(start: int, end: int, length: int, overlap: int) -> Tensor:
    """The weights of a tile along one axis: 0, then a ramp to 1, at each border that is not the image's."""
    distance = torch.arange(end - start, dtype=torch.float64) + 0.5  # of pixel centres from the tile's border
    quarter = overlap / 4
    ramp = ((distance - quarter) / (2 * quarter)).clamp(0, 1) if overlap else torch.ones_like(distance)
    before = ramp if start > 0 else torch.ones_like(ramp)
    after = ramp.flip(0) if end < length else torch.ones_like(ramp)
    return before * after
