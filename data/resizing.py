"""Samples at a smaller size: image, depth and labels together."""

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .labels import Instance, decode_mask, encode_mask
from .samples import Sample


def shrink(sample: Sample, longest: int) -> Sample:
    """A sample whose longer side is at most `longest` pixels; one that fits is returned as it is.

    Images are averaged over areas. Masks take the nearest class, depth the nearest distance, so that nothing is mixed
    across an edge. Boxes are shares of the image and stay. An outline that would no longer cover any pixel keeps
    the one at its centre.

    Args:
        sample: at its own size.
        longest: pixels, of the longer side.
    """
    height, width = sample.image.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return sample
    size = max(1, round(width * scale)), max(1, round(height * scale))
    instances = sample.instances
    if instances is not None:
        instances = tuple(_smaller(instance, (height, width), size) for instance in instances)
    return replace(
        sample,
        image=np.asarray(cv2.resize(sample.image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8),
        mask=None if sample.mask is None else _nearest(sample.mask, size),
        depth=None if sample.depth is None else _nearest(sample.depth, size),
        instances=instances,
        file=None,
    )


def _nearest(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    return cv2.resize(values, size, interpolation=cv2.INTER_NEAREST_EXACT)


def _smaller(instance: Instance, shape: tuple[int, int], size: tuple[int, int]) -> Instance:
    full = np.ascontiguousarray(decode_mask(instance.counts, shape))
    mask = _nearest(full, size)
    if full.any() and not mask.any():
        rows, columns = full.nonzero()
        mask[int(rows.mean() * size[1] / shape[0]), int(columns.mean() * size[0] / shape[1])] = 1
    return replace(instance, counts=encode_mask(mask))
