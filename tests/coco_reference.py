"""COCO's average precision of boxes, written from its description, as a reference for what a library matches.

Source: Lin et al., "Microsoft COCO", ECCV 2014, and the COCO detection evaluation. Slow, and without a line of ours.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MOST = 100  # detections of one class in one image


def overlap(found: Floats, true: Floats, crowd: bool) -> float:
    """Intersection over union of two boxes (left, top, right, bottom); over the area of `found` for a crowd."""
    sides = np.minimum(found[2:], true[2:]) - np.maximum(found[:2], true[:2])
    common = float(np.prod(np.maximum(sides, 0)))
    area, other = (float(np.prod(box[2:] - box[:2])) for box in (found, true))
    return common / (area if crowd else area + other - common)


def judge(
    boxes: Floats, truth: Floats, crowd: Sequence[bool], threshold: float, area: tuple[float, float]
) -> list[bool | None]:
    """Whether each detection of one class in one image is right; None if it does not count.

    Args:
        boxes: (D, 4) detections by falling score.
        truth: (G, 4) objects.
        crowd: (G,) groups of objects. As many detections as may be lie on one.
        threshold: IoU from which a detection matches.
        area: the range of areas of objects that are to be found, both ends included.
    """
    left_out = [
        flag or not area[0] <= np.prod(box[2:] - box[:2]) <= area[1] for box, flag in zip(truth, crowd, strict=True)
    ]
    taken: set[int] = set()
    verdicts: list[bool | None] = []
    for box in boxes:
        overlaps = {index: overlap(box, truth[index], crowd[index]) for index in range(len(truth))}
        free = [index for index in overlaps if overlaps[index] >= threshold and (crowd[index] or index not in taken)]
        wanted = [index for index in free if not left_out[index]] or free  # an object that counts comes first
        if wanted:
            match = max(reversed(wanted), key=lambda index: overlaps[index])
            taken.add(match)
            verdicts.append(None if left_out[match] else True)
        else:
            verdicts.append(False if area[0] <= np.prod(box[2:] - box[:2]) <= area[1] else None)
    return verdicts


def average_precision(
    found: Mapping[str, tuple[Floats, Floats]],
    truth: Mapping[str, tuple[Floats, Sequence[bool]]],
    threshold: float,
    area: tuple[float, float] = (0.0, 1e10),
) -> float:
    """Of one class; NaN if there is nothing to find.

    Args:
        found: boxes (D, 4) and scores (D,) by image.
        truth: boxes (G, 4) and which are crowds, by image.
        threshold: IoU from which a detection matches.
        area: as in `judge`.
    """
    objects, counted = 0, []
    for name in sorted(truth):
        boxes, scores = found[name]
        order = sorted(range(len(scores)), key=lambda index: -scores[index])[:MOST]  # equal scores stay in order
        true, crowd = truth[name]
        objects += sum(
            not flag and bool(area[0] <= np.prod(box[2:] - box[:2]) <= area[1])
            for box, flag in zip(true, crowd, strict=True)
        )
        verdicts = judge(boxes[order], true, crowd, threshold, area)
        counted += [(scores[index], right) for index, right in zip(order, verdicts, strict=True) if right is not None]
    if not objects:
        return float("nan")
    counted.sort(key=lambda one: -one[0])  # equal scores stay in the order of the images
    right = np.cumsum([one[1] for one in counted])
    precision = right / np.arange(1, len(counted) + 1)
    recall = right / objects
    reached = [precision[recall >= wanted] for wanted in RECALLS]
    return float(np.mean([values.max() if len(values) else 0.0 for values in reached]))
