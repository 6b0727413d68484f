"""COCO's average precision in thousands of resamples of the images at once."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

RECALL_POINTS = np.linspace(0, 1, 101)  # COCO interpolates precision at these recalls
CHUNK_ELEMENTS = 2**17  # of an array (correct detections, resamples): 1 MiB, so that a few fit into the caches
FEWEST_IN_CHUNK = 128  # resamples; with fewer, most of the time is spent between NumPy's calls

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def average_precision(
    taken: Floats,
    truth: Indices,
    image: Indices,
    category: Indices,
    correct: NDArray[np.bool_],
    ignored: NDArray[np.bool_],
) -> Floats:
    """COCO's average precision of C classes in each of R resamples of N images, at each of T IoU thresholds.

    Args:
        taken: (N, R) how often each image is in each resample.
        truth: (N, C) objects to be found.
        image: (D,) index of each detection's image; detections by class, then by falling score.
        category: (D,) its class.
        correct: (D, T) the detection matched an object.
        ignored: (D, T) the detection matched a crowd and does not count.

    Returns:
        (T, C, R) in [0, 1], NaN where there is no object.
    """
    drawn = np.asarray(taken.any(axis=1))[image]  # (D,) of an image that some resample takes
    at_thresholds = [
        _Hits.find(image[drawn], category[drawn], right[drawn], ~skip[drawn], len(taken))
        for right, skip in zip(correct.T, ignored.T, strict=True)
    ]
    result = np.zeros((len(at_thresholds), truth.shape[1], taken.shape[1]))
    most = max(len(hits.image) for hits in at_thresholds)
    step = max(FEWEST_IN_CHUNK, CHUNK_ELEMENTS // max(1, most))
    for start in range(0, taken.shape[1], step):
        chunk = np.ascontiguousarray(taken[:, start : start + step])
        objects = truth.T @ chunk
        for threshold, hits in enumerate(at_thresholds):
            result[threshold, hits.classes, start : start + step] = hits.average_precision(chunk, objects)
        result[:, :, start : start + step][:, objects == 0] = np.nan
    return result


@dataclass(frozen=True)
class _Hits:
    """The H correct detections of all classes at one IoU threshold, by class and falling score.

    Only they are visited, because a wrong detection raises neither recall nor the envelope.

    Attributes:
        image: (H,) index of each one's image.
        category: (H,) its class.
        listed: (H, N) sparse: the detections of each image that count, after the hit before it in its class and up to
            it. The running sum over the hits of a class is the number of detections up to each.
    """

    image: Indices
    category: Indices
    listed: Any  # scipy's csr_array

    @classmethod
    def find(
        cls,
        image: Indices,
        category: Indices,
        correct: NDArray[np.bool_],
        valid: NDArray[np.bool_],
        images: int,
    ) -> "_Hits":
        """Those among D detections, by class and falling score, of N images; crowds' detections do not count."""
        from scipy.sparse import csr_array

        hits, counted = np.flatnonzero(correct), np.flatnonzero(valid)
        following = np.searchsorted(hits, counted)  # the first hit that is no earlier, of any class
        counted, following = counted[following < len(hits)], following[following < len(hits)]
        same = category[counted] == category[hits[following]]
        places = following[same], image[counted[same]]
        listed = csr_array((np.ones(len(places[0])), places), shape=(len(hits), images))  # equal places are added up
        return cls(image[hits], category[hits], listed)

    @cached_property
    def classes(self) -> Indices:
        """(K,) the classes with hits."""
        return np.unique(self.category)

    @cached_property
    def _continues(self) -> list[bool]:
        """Of each hit but the first: whether the one before it is of the same class."""
        continues: list[bool] = (self.category[1:] == self.category[:-1]).tolist()
        return continues

    def average_precision(self, taken: Floats, objects: Floats) -> Floats:
        """COCO's average precision of each class with hits, in each of R resamples.

        Args:
            taken: (N, R) how often each image is in each resample.
            objects: (C, R) objects to be found in each resample.

        Returns:
            (K, R) in [0, 1]
        """
        found, counted = self._running_sum(taken[self.image]), self._running_sum(self.listed @ taken)
        envelope = found / np.maximum(counted, np.finfo(np.float64).tiny)  # (H, R); 0 where none is counted
        for row, after, continues in zip(envelope[-2::-1], envelope[:0:-1], self._continues[::-1], strict=True):
            if continues:
                np.maximum(row, after, out=row)
        reached = _points_reached(found, np.where(objects > 0, objects, 1)[self.category])
        # Each correct detection supplies the recall points that it is the first to reach.
        envelope[1:] *= reached[1:] - reached[:-1] * np.array(self._continues)[:, None]
        envelope[:1] *= reached[:1]
        starts = np.searchsorted(self.category, self.classes)
        return np.add.reduceat(envelope, starts, axis=0) / len(RECALL_POINTS)

    def _running_sum(self, rows: Floats) -> Floats:
        """Add to each row (R,) those before it in its class, in place: `np.cumsum` is slow along this axis."""
        for row, before, continues in zip(rows[1:], rows[:-1], self._continues, strict=True):
            if continues:
                np.add(row, before, out=row)
        return rows


def _points_reached(found: Floats, objects: Floats) -> Floats:
    """(H, R) how many recall points are no higher than the recall: `found` (H, R) of `objects` (H, R), at most all.

    They are 0.01 apart up to rounding, so that only the last of them is compared: a search takes three times as long.
    """
    recall = found / objects
    reached = np.floor(found * 100 / objects)
    reached += RECALL_POINTS.take(reached.astype(np.intp), mode="clip") <= recall
    return reached
