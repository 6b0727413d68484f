"""Records of matched objects, from which COCO's average precision is computed on any resample of the images.

faster-coco-eval matches the objects (`matching`); the average precision of a resample is computed here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.metrics.matching import ALL, IOU_THRESHOLDS, ByArea, Matches
from pipeline.metrics.records import (
    Metrics,
    RecordsError,
    check_weights,
    mean_of_defined,
    names_of,
    read_kind,
    write_arrays,
)
from pipeline.running.atomic_outputs import ADVICE

SURE = 0.25  # confidence from which a detection counts if a single threshold is needed; ultralytics' default
MATCHED = ("truth", "image", "category", "score", "correct", "ignored")  # fields of records, and their stored arrays
RECALL_POINTS = np.linspace(0, 1, 101)  # COCO interpolates precision at these recalls
CHUNK_ELEMENTS = 2**17  # of an array (correct detections, resamples): 1 MiB, so that a few fit into the caches


@dataclass(frozen=True)
class DetectionRecords:
    """Matched detections of N images and C classes at T = 10 IoU thresholds, 0.50 to 0.95.

    The D detections are sorted by class, then by falling score; equal scores keep the order of the images
    and, within an image, the order in which they came: that is COCO's order.
    """

    kind: ClassVar[str] = "detection"

    image_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    truth: NDArray[np.int64]  # (N, C) objects to be found, crowds not counted
    image: NDArray[np.int64]  # (D,) index of the detection's image
    category: NDArray[np.int64]  # (D,) class index
    score: NDArray[np.float64]  # (D,)
    correct: NDArray[np.bool_]  # (D, T) matched an object
    ignored: NDArray[np.bool_]  # (D, T) matched a crowd: neither right nor wrong
    sizes: Mapping[str, "DetectionRecords"] = field(default_factory=dict)  # the same, matched for each size of objects

    def rarest_class(self, taken: NDArray[np.int64]) -> tuple[str, int]:
        """Name and number of objects of the class with the fewest, among those with any; ("", 0) if none has any.

        Args:
            taken: (N,) 1 for images that count, 0 for the others.
        """
        counts = taken @ self.truth
        if not counts.any():
            return "", 0
        rarest = int(np.where(counts > 0, counts, counts.max() + 1).argmin())
        return self.class_names[rarest], int(counts[rarest])

    def scores(self, weights: ArrayLike | None = None) -> tuple[Metrics, dict[str, Metrics]]:
        """`metrics`, and by class name {"AP50-95", "AP50"}; NaN if a resample has no object of it. Each (R,)."""
        precision = self._average_precision(weights)
        mean = precision.mean(axis=1)  # over the thresholds
        metrics = {"mAP50-95": mean_of_defined(mean.T), "mAP50": mean_of_defined(precision[:, 0].T)}
        classes = {
            name: {"AP50-95": mean[index], "AP50": precision[index, 0]} for index, name in enumerate(self.class_names)
        }
        return metrics, classes

    def metrics(self, weights: ArrayLike | None = None) -> Metrics:
        """COCO's mAP (area all, at most 100 boxes for each image and class) in each of R resamples.

        Precision is interpolated at 101 recalls and averaged over the classes that have objects in the
        resample; mAP50-95 is also averaged over the ten IoU thresholds. NaN where no class has an object.
        Source: Lin et al., "Microsoft COCO", ECCV 2014, and the COCO detection evaluation.

        Args:
            weights: (R, N) how often each image is taken; None: each once, R = 1.

        Returns:
            {"mAP50-95": (R,), "mAP50": (R,)}, in [0, 1]

        Raises:
            RecordsError: weights of another shape, negative or not finite.
        """
        return self.scores(weights)[0]

    def class_objects(self) -> dict[str, int]:
        """How many objects of each class there are to be found."""
        return dict(zip(self.class_names, self.truth.sum(axis=0).tolist(), strict=True))

    def missing_truth(self) -> str:
        """See `Records.missing_truth`."""
        return "" if self.truth.any() else "no object is labelled"

    def image_scores(self) -> dict[str, NDArray[np.float64]]:
        """{"F1": (N,)} of each image by itself, at IoU 0.5 over detections with a confidence of at least 0.25.

        2 TP / (2 TP + FP + FN); 1 where there is nothing to find and nothing was found. The average precision of
        one image says little: it has few objects, and no threshold that a user would set.
        """
        sure = (self.score >= SURE) & ~self.ignored[:, 0]
        images = len(self.image_ids)
        listed = np.bincount(self.image[sure], minlength=images).astype(np.float64)
        right = np.bincount(self.image[sure & self.correct[:, 0]], minlength=images)
        objects = listed + self.truth.sum(axis=1)  # TP + FP + TP + FN
        return {"F1": np.divide(2.0 * right, objects, out=np.ones(images), where=objects > 0)}

    def _average_precision(self, weights: ArrayLike | None) -> NDArray[np.float64]:
        """(C, T, R)."""
        taken = check_weights(weights, len(self.image_ids)).T
        resamples = taken.shape[1]
        result = np.empty((len(self.class_names), len(IOU_THRESHOLDS), resamples))
        counts = np.asarray(taken.any(axis=1))[self.image]  # (D,) of an image that some resample takes
        for index in range(len(self.class_names)):
            rows = (self.category == index) & counts
            detections = self.image[rows], self.correct[rows], self.ignored[rows]
            step = max(1, CHUNK_ELEMENTS // max(1, int(detections[1].any(axis=1).sum())))
            for start in range(0, resamples, step):
                chunk = np.ascontiguousarray(taken[:, start : start + step])
                objects = self.truth[:, index] @ chunk
                result[index, :, start : start + step] = average_precision(chunk, objects, *detections)
        return result

    def save(self, path: Path) -> None:
        """Write an .npz file; the same records give the same bytes."""
        names = {"image_ids": np.array(self.image_ids, str), "class_names": np.array(self.class_names, str)}
        of_sizes = {
            f"{size} {name}": getattr(records, name) for size, records in self.sizes.items() for name in MATCHED
        }
        write_arrays(path, self.kind, {**names, **{name: getattr(self, name) for name in MATCHED}, **of_sizes})

    @classmethod
    def load(cls, path: Path) -> "DetectionRecords":
        """Read what `save` wrote.

        Raises:
            RecordsError: the file is missing or broken, or holds other records.
        """
        stored = read_kind(path, cls.kind)
        names = names_of(stored, "image_ids"), names_of(stored, "class_names")
        sizes = [entry.removesuffix(" truth") for entry in stored if entry.endswith(" truth")]
        by_size = {size: cls(*names, **_matched(stored, f"{size} ")) for size in sizes}
        return cls(*names, **_matched(stored), sizes=by_size)


def _matched(stored: Mapping[str, NDArray[Any]], prefix: str = "") -> dict[str, Any]:
    return {name: stored[f"{prefix}{name}"] for name in MATCHED}


@dataclass(frozen=True)
class RecordsBySize:
    """Matched detections of the same images, once for each size of objects."""

    sizes: Mapping[str, DetectionRecords]

    @classmethod
    def load(cls, path: Path) -> "RecordsBySize":
        """Those in a file of `DetectionRecords`.

        Raises:
            RecordsError: as there, or an earlier version wrote the file.
        """
        sizes = DetectionRecords.load(path).sizes
        if not sizes:
            raise RecordsError(f"{path}: records of an earlier version, without the sizes of objects. {ADVICE}")
        return cls(sizes)

    @property
    def image_ids(self) -> tuple[str, ...]:
        """The ids of the N images."""
        return next(iter(self.sizes.values())).image_ids

    def objects(self) -> dict[str, int]:
        """The number of objects of each size, without crowds."""
        return {size: int(records.truth.sum()) for size, records in self.sizes.items()}

    def metrics(self, weights: ArrayLike | None = None) -> Metrics:
        """As `Scores.metrics`: COCO's average precision for each size, as "small mAP50-95", "medium mAP50"."""
        return {
            f"{size} {metric}": values
            for size, records in self.sizes.items()
            for metric, values in records.metrics(weights).items()
        }


def records_of(matches: ByArea, image_ids: Sequence[str], class_names: Sequence[str]) -> DetectionRecords:
    """Records of matches that come image by image; they are put in COCO's order."""
    by_area = {area: _in_order(matched, image_ids, class_names) for area, matched in matches.items()}
    return replace(by_area[ALL], sizes={area: _pruned(by_area[area]) for area in by_area if area != ALL})


def _in_order(matches: Matches, image_ids: Sequence[str], class_names: Sequence[str]) -> DetectionRecords:
    order = np.lexsort((-matches.score, matches.category))  # stable, so that equal scores stay as they came
    return DetectionRecords(
        image_ids=tuple(image_ids),
        class_names=tuple(class_names),
        truth=matches.truth,
        image=matches.image[order],
        category=matches.category[order],
        score=matches.score[order],
        correct=matches.correct[order],
        ignored=matches.ignored[order],
    )


def _pruned(records: DetectionRecords) -> DetectionRecords:
    """The records without detections that count at no threshold, which are most of them and slow resampling down."""
    kept = ~records.ignored.all(axis=1)
    rows = {name: getattr(records, name)[kept] for name in MATCHED if name != "truth"}
    return replace(records, **rows)


def average_precision(
    taken: NDArray[np.float64],
    objects: NDArray[np.float64],
    image: NDArray[np.int64],
    correct: NDArray[np.bool_],
    ignored: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """COCO's average precision of one class in each of R resamples of N images, at each of T IoU thresholds.

    Only correct detections are visited, because a wrong one raises neither recall nor the envelope.

    Args:
        taken: (N, R) how often each image is in each resample.
        objects: (R,) objects to be found in each resample.
        image: (D,) index of each detection's image; detections by falling score.
        correct: (D, T) the detection matched an object.
        ignored: (D, T) the detection matched a crowd and does not count.

    Returns:
        (T, R) in [0, 1], NaN where there is no object.
    """
    result = np.zeros((correct.shape[1], len(objects)))
    hits = np.flatnonzero(correct.any(axis=1))  # at any threshold
    listed = _count_up_to(hits, np.arange(len(image)), image, taken)
    for threshold, (right, skip) in enumerate(zip(correct.T, ignored.T, strict=True)):
        places = np.flatnonzero(right[hits])  # in `hits`
        if places.size:
            counted = listed[places]
            if skip.any():
                counted -= _count_up_to(hits[places], np.flatnonzero(skip), image, taken)
            true_positives = _running_sum(taken[image[hits[places]]])
            result[threshold] = _area_under_envelope(true_positives, counted, objects)
    return np.where(objects > 0, result, np.nan)


def _count_up_to(
    hits: NDArray[np.int64], detections: NDArray[np.int64], image: NDArray[np.int64], taken: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(H, R) how many of some detections come no later than each of H detections, in each resample.

    Detections between two hits are counted for each image first. Most detections are wrong: their number would make a
    sum over each of them in each resample slow.

    Args:
        hits: (H,) ascending indices of detections.
        detections: ascending indices of those that count.
        image: (D,) index of each detection's image.
        taken: (N, R) how often each image is in each resample.
    """
    from scipy.sparse import csr_array

    following = np.searchsorted(hits, detections)  # the first hit that is no earlier
    detections, following = detections[following < len(hits)], following[following < len(hits)]
    counts = csr_array(  # (H, N); equal places are added up
        (np.ones(len(detections)), (following, image[detections])), shape=(len(hits), len(taken))
    )
    return _running_sum(counts @ taken)


def _running_sum(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add to each row (R,) the one before it, in place: `np.cumsum` takes three times as long along this axis."""
    for before, row in pairwise(rows):
        np.add(row, before, out=row)
    return rows


def _area_under_envelope(
    true_positives: NDArray[np.float64], counted: NDArray[np.float64], objects: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(R,) the average of the interpolated precision over the recall points.

    Args:
        true_positives: (H, R) up to each correct detection.
        counted: (H, R) all detections up to it.
        objects: (R,) to be found.
    """
    envelope = true_positives / np.maximum(counted, np.finfo(np.float64).tiny)  # 0 where none is counted
    for after, row in pairwise(envelope[::-1]):
        np.maximum(row, after, out=row)
    reached = _points_reached(true_positives, np.where(objects > 0, objects, 1))
    # Each correct detection supplies the recall points that it is the first to reach.
    reached[1:] -= reached[:-1].copy()
    return np.einsum("hr,hr->r", envelope, reached) / len(RECALL_POINTS)


def _points_reached(true_positives: NDArray[np.float64], objects: NDArray[np.float64]) -> NDArray[np.float64]:
    """(H, R) how many recall points are no higher than the recall.

    They are 0.01 apart up to rounding, so that only the last of them is compared: a search takes three times as long.
    """
    recall = true_positives / objects
    below = np.floor(true_positives * 100 / objects)
    below += RECALL_POINTS[below.astype(np.intp)] <= recall
    return below
