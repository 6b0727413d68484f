"""Average precision by the size of objects, with COCO's ranges of areas."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.tasks.detection_matching import Matches, Overlap, blocks_of, join_blocks, match_objects
from models.tasks.detection_records import DetectionRecords, records_of

# In square pixels, of the box or of the mask, both ends included, as COCO has them.
SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}


@dataclass(frozen=True)
class RecordsBySize:
    """Matched detections of the same images, once for each size of objects."""

    sizes: Mapping[str, DetectionRecords]

    @property
    def image_ids(self) -> tuple[str, ...]:
        """The ids of the N images."""
        return next(iter(self.sizes.values())).image_ids

    def metrics(self, weights: ArrayLike | None = None) -> dict[str, NDArray[np.float64]]:
        """COCO's average precision for each size, each (R,); NaN where a resample has no object of it.

        Args:
            weights: (R, N) how often each image is taken; None: each once, R = 1.

        Returns:
            {"small mAP50-95": (R,), "small mAP50": ..., "medium ...": ..., "large ...": ...}, in [0, 1]

        Raises:
            RecordsError: weights of another shape, negative or not finite.
        """
        return {
            f"{size} {metric}": values
            for size, records in self.sizes.items()
            for metric, values in records.metrics(weights).items()
        }


def match_by_size(
    labels: dict[str, Any],
    results: Iterable[dict[str, Any]],
    overlap: Overlap,
    ids: Sequence[str],
    classes: Sequence[str],
) -> RecordsBySize:
    """Match as COCO does for its AP_small, AP_medium and AP_large.

    Objects of other sizes are ignored, and so are detections of other sizes that match nothing.

    Args:
        labels: COCO's annotations, where image number n of `ids` has id n + 1.
        results: COCO's results, image by image.
        overlap: of boxes or of masks.
        ids: N images.
        classes: C names.
    """
    found: dict[str, list[tuple[int, Matches]]] = {size: [] for size in SIZES}
    for start, own, some in blocks_of(labels, results):
        for size, areas in SIZES.items():
            found[size].append((start, match_objects(own, some, overlap, areas)))
    return RecordsBySize({size: _pruned(records_of(join_blocks(own), ids, classes)) for size, own in found.items()})


def _pruned(records: DetectionRecords) -> DetectionRecords:
    """Without the detections that count at no threshold: most of them, and resampling would carry them along."""
    kept = ~records.ignored.all(axis=1)
    rows = {field: getattr(records, field)[kept] for field in ("image", "category", "score", "correct", "ignored")}
    return replace(records, **rows)
