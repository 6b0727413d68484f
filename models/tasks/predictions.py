"""The predictions of task networks, and masks of objects as COCO's compressed run lengths."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (H, W, 3) RGB
Mask = NDArray[np.uint8]  # (H, W) class indices
Size = tuple[int, int]  # (height, width) in pixels


@dataclass(frozen=True)
class DetectionPrediction:
    """The K boxes that a detector predicts on an image; K may be 0."""

    boxes: NDArray[np.floating]  # (K, 4) left, top, right, bottom in pixels
    scores: NDArray[np.floating]  # (K,) confidences
    classes: NDArray[np.integer]  # (K,) class indices


@dataclass(frozen=True)
class InstancePrediction:
    """The K objects with masks that a network predicts on an image; K may be 0."""

    size: Size  # of the image
    masks: tuple[str, ...]  # K masks of the image's size, as COCO's compressed run lengths
    scores: NDArray[np.floating]  # (K,) confidences
    classes: NDArray[np.integer]  # (K,) class indices


class Label(NamedTuple):
    """The most probable class of an image."""

    category: int  # class index
    score: float  # probability of the class


def encode_masks(masks: NDArray[np.uint8]) -> tuple[str, ...]:
    """(K, H, W) masks of 0 and 1 as COCO's compressed run lengths."""
    from faster_coco_eval.core import mask as coco

    if not len(masks):
        return ()
    counts = [run["counts"] for run in coco.encode(np.asfortranarray(masks.transpose(1, 2, 0)))]
    return tuple(text.decode() if isinstance(text, bytes) else text for text in counts)


def decode_mask(counts: str, size: Size) -> NDArray[np.uint8]:
    """The (H, W) mask of 0 and 1 of COCO's compressed run lengths."""
    from faster_coco_eval.core import mask as coco

    mask: NDArray[np.uint8] = np.ascontiguousarray(coco.decode(run_lengths(counts, size)))
    return mask


def run_lengths(counts: str, size: Size) -> dict[str, Any]:
    """COCO's dictionary with the size and the compressed run lengths of a mask."""
    return {"size": list(size), "counts": counts}
