"""Segmentation scores stored per image: true and false positives and false negatives of each class."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.metrics.records import (
    RecordsError,
    check_weights,
    mean_of_defined,
    names_of,
    ratio,
    read_kind,
    write_arrays,
)


@dataclass(frozen=True)
class PixelCounts:
    """Pixels of one image, each (C,) int64."""

    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    fn: NDArray[np.int64]


def count_segmentation(
    prediction: NDArray[np.uint8], truth: NDArray[np.uint8], classes: int, ignore_index: int = 255
) -> PixelCounts:
    """Compare two index masks; pixels whose truth is `ignore_index` do not count, whatever was predicted.

    Args:
        prediction: (H, W) predicted class indices.
        truth: (H, W) true class indices.
        classes: number of classes C.
        ignore_index: the index in `truth` of pixels without a label.

    Raises:
        RecordsError: the shapes differ, or a counted pixel has a class outside 0..C-1.
    """
    if prediction.shape != truth.shape:
        raise RecordsError(f"expected a prediction of shape {truth.shape}, got {prediction.shape}")
    counted = truth != ignore_index
    true, predicted = truth[counted].astype(np.int64), prediction[counted].astype(np.int64)
    _check_classes("truth", true, classes)
    _check_classes("prediction", predicted, classes)
    confusion = np.bincount(true * classes + predicted, minlength=classes**2).reshape(classes, classes)
    tp = np.diagonal(confusion).copy()
    return PixelCounts(tp, confusion.sum(axis=0) - tp, confusion.sum(axis=1) - tp)


def _check_classes(what: str, indices: NDArray[np.int64], classes: int) -> None:
    if indices.size and not (indices.min() >= 0 and indices.max() < classes):
        raise RecordsError(f"{what}: expected class indices 0..{classes - 1}, got {indices.min()}..{indices.max()}")


@dataclass(frozen=True)
class SegmentationRecords:
    """Pixel counts of N images and C classes; tp, fp and fn are (N, C) int64."""

    kind: ClassVar[str] = "segmentation"

    image_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    fn: NDArray[np.int64]

    @classmethod
    def stack(
        cls, image_ids: Sequence[str], counts: Sequence[PixelCounts], class_names: Sequence[str]
    ) -> "SegmentationRecords":
        """Gather the counts of N images, given in the order of their ids; images are sorted by id.

        Raises:
            RecordsError: an id occurs twice, or the numbers of ids, counts or classes do not agree.
        """
        if len(image_ids) != len(counts) or len(set(image_ids)) != len(image_ids):
            raise RecordsError(f"expected {len(counts)} distinct ids, one an image, got {list(image_ids)}")
        given = dict(zip(image_ids, counts, strict=True))
        by_id = {name: given[name] for name in sorted(given)}
        for name, count in by_id.items():
            if count.tp.shape != (len(class_names),):
                raise RecordsError(
                    f"image {name!r}: expected counts of {len(class_names)} classes, got {count.tp.shape}"
                )
        tables = np.array([(count.tp, count.fp, count.fn) for count in by_id.values()], dtype=np.int64)
        tp, fp, fn = tables.reshape(len(by_id), 3, len(class_names)).transpose(1, 0, 2)
        return cls(tuple(by_id), tuple(class_names), tp, fp, fn)

    def metrics(self, weights: ArrayLike | None = None) -> dict[str, NDArray[np.float64]]:
        """Mean intersection over union of the whole split, in each of R resamples.

        Counts are summed over the images taken, IoU = tp / (tp + fp + fn) for each class, and averaged over
        the classes that occur there in truth or prediction. NaN where no class occurs.

        Args:
            weights: (R, N) how often each image is taken; None: each once, R = 1.

        Returns:
            {"mIoU": (R,) in [0, 1]}
        """
        return {"mIoU": mean_of_defined(self._iou(weights))}

    def per_class(self, weights: ArrayLike | None = None) -> dict[str, dict[str, NDArray[np.float64]]]:
        """{class name: {"IoU": (R,)}}, NaN where the class occurs in neither truth nor prediction."""
        iou = self._iou(weights)
        return {name: {"IoU": iou[:, index]} for index, name in enumerate(self.class_names)}

    def class_objects(self) -> dict[str, int]:
        """Nothing: index masks have pixels, no objects."""
        return {}

    def image_scores(self) -> dict[str, NDArray[np.float64]]:
        """{"mIoU": (N,)} of each image by itself, over the classes that occur there in truth or prediction."""
        return {"mIoU": mean_of_defined(ratio(self.tp.astype(np.float64), (self.tp + self.fp + self.fn).astype(float)))}

    def _iou(self, weights: ArrayLike | None) -> NDArray[np.float64]:
        taken = check_weights(weights, len(self.image_ids))
        return ratio(taken @ self.tp, taken @ (self.tp + self.fp + self.fn))

    def save(self, path: Path) -> None:
        """Write an .npz file; the same records give the same bytes."""
        names = {"image_ids": np.array(self.image_ids, str), "class_names": np.array(self.class_names, str)}
        write_arrays(path, self.kind, {**names, "tp": self.tp, "fp": self.fp, "fn": self.fn})

    @classmethod
    def load(cls, path: Path) -> "SegmentationRecords":
        """Read what `save` wrote.

        Raises:
            RecordsError: the file is missing or broken, or holds other records.
        """
        stored = read_kind(path, cls.kind)
        ids, classes = names_of(stored, "image_ids"), names_of(stored, "class_names")
        return cls(ids, classes, stored["tp"], stored["fp"], stored["fn"])
