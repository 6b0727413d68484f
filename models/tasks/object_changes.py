"""Which objects one run of a detector invented, lost or found again, against another run on the same images.

Detections count from a confidence of 0.25 on, and match an object of their class at an IoU of at least 0.5, by
COCO's matching: the surest first, each object once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.tasks.detection_matching import Overlap, pair_objects
from models.tasks.detection_records import SURE

THRESHOLD = 0.5  # of the intersection over union


@dataclass(frozen=True)
class Run:
    """What one run found in N images with G objects, crowds included."""

    sure: list[dict[str, Any]]  # COCO's results with enough confidence
    wrong: NDArray[np.bool_]  # (len(sure),) matched no object and no crowd
    found: NDArray[np.bool_]  # (G,) objects that a detection matched; never a crowd


def read_run(labels: dict[str, Any], results: Iterable[dict[str, Any]], overlap: Overlap) -> Run:
    """Match the detections of a run with the objects.

    Args:
        labels: COCO's annotations; ids count from 1 in the order of the list.
        results: COCO's results, of which only the sure ones are kept.
        overlap: of boxes or of masks.
    """
    sure = [result for result in results if result["score"] >= SURE]
    wrong = np.ones(len(sure), dtype=bool)
    found = np.zeros(len(labels["annotations"]), dtype=bool)
    for result, place in pair_objects(labels, sure, overlap, THRESHOLD):
        wrong[result] = False
        found[place] = not labels["annotations"][place]["iscrowd"]
    return Run(sure, wrong, found)


def count_changes(
    labels: dict[str, Any], run: Run, before: Run, others: Sequence[Run], overlap: Overlap
) -> dict[str, NDArray[np.int64]]:
    """Changes from one run to another, for each of the N images.

    Args:
        labels: as in `read_run`.
        run: after restoring.
        before: on the degraded images.
        others: further runs that show what a detector sees in these places without the restorer: on clean images.
        overlap: as in `read_run`.

    Returns:
        (N,) each: "invented", wrong detections with no detection of the same class and place before or in the
        others; "cleared", wrong detections before with none in `run`; "lost", objects found before and not in
        `run`; "found_again", objects found in `run` and not before.
    """
    images = len(labels["images"])
    owners = np.array([entry["image_id"] - 1 for entry in labels["annotations"]], dtype=np.int64)
    return {
        "invented": _count(_new(run, [before, *others], overlap), images),
        "cleared": _count(_new(before, [run], overlap), images),
        "lost": np.bincount(owners[before.found & ~run.found], minlength=images),
        "found_again": np.bincount(owners[run.found & ~before.found], minlength=images),
    }


def _new(run: Run, others: Sequence[Run], overlap: Overlap) -> list[dict[str, Any]]:
    """Wrong detections of a run that overlap no detection of the same class and image in the others."""
    known: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for result in (result for other in others for result in other.sure):
        known.setdefault((result["image_id"], result["category_id"]), []).append(result)
    wrong = [result for result, is_wrong in zip(run.sure, run.wrong, strict=True) if is_wrong]
    return [
        result
        for result in wrong
        if not _overlaps(result, known.get((result["image_id"], result["category_id"]), []), overlap)
    ]


def _overlaps(result: dict[str, Any], others: Sequence[dict[str, Any]], overlap: Overlap) -> bool:
    from faster_coco_eval.core import mask as coco

    if not others:
        return False
    field = "bbox" if overlap == "bbox" else "segmentation"
    shared = coco.iou([result[field]], [other[field] for other in others], [0] * len(others))
    return bool(np.max(shared) >= THRESHOLD)


def _count(results: Sequence[dict[str, Any]], images: int) -> NDArray[np.int64]:
    owners = np.array([result["image_id"] - 1 for result in results], dtype=np.int64)
    return np.bincount(owners, minlength=images)
