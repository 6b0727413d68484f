"""Records of matched objects, from which COCO's average precision is computed on any resample of the images.

faster-coco-eval matches the objects (`matching`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.metrics.average_precision import average_precision
from pipeline.metrics.matching import ALL, ByArea, Matches
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
        mean = precision.mean(axis=0)  # over the thresholds
        metrics = {"mAP50-95": mean_of_defined(mean.T), "mAP50": mean_of_defined(precision[0].T)}
        classes = {
            name: {"AP50-95": mean[index], "AP50": precision[0, index]} for index, name in enumerate(self.class_names)
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
        """(T, C, R)."""
        taken = check_weights(weights, len(self.image_ids))
        return average_precision(taken.T, self.truth, self.image, self.category, self.correct, self.ignored)

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
