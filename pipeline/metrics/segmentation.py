"""Scoring of semantic segmentation: pixels are counted for each class and scored with the mean IoU."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from data.dataset import IGNORE_INDEX, Split
from models.tasks.predictions import Mask
from pipeline.metrics.prediction_files import naming_file
from pipeline.metrics.records import (
    ONE_CLASS,
    Metrics,
    RecordsError,
    check_weights,
    mean_of_defined,
    names_of,
    ratio,
    read_kind,
    write_arrays,
)
from pipeline.metrics.scoring import Image, Metric, Scoring, class_color


class SegmentationScoring(Scoring[Mask]):
    """Mean intersection over union over a whole split."""

    labels = "segmentation"
    metrics = (Metric("mIoU", main=True),)
    class_metrics = (Metric("IoU", main=True),)
    image_metrics = (Metric("mIoU", main=True),)

    @staticmethod
    def truth(split: Split, image_id: str) -> Mask:
        return split.mask(image_id)

    @staticmethod
    @contextmanager
    def writer(folder: Path) -> Iterator["_MaskWriter"]:
        yield _MaskWriter(folder)

    @staticmethod
    def read(folder: Path) -> Mapping[str, Mask]:
        return _StoredMasks(folder)

    @staticmethod
    def score(predictions: Mapping[str, Mask], split: Split, classes: list[str]) -> "SegmentationRecords":
        ids = sorted(predictions)
        counts = [
            count_segmentation(predictions[image_id], split.mask(image_id), len(classes), IGNORE_INDEX)
            for image_id in ids
        ]
        return SegmentationRecords.stack(ids, counts, classes)

    @staticmethod
    def draw(image: Image, prediction: Mask, classes: list[str]) -> Image:
        colors = np.zeros((256, 3), dtype=np.float32)
        colors[: len(classes)] = [class_color(index) for index in range(len(classes))]
        blend = np.where((prediction != IGNORE_INDEX)[:, :, None], 0.5 * image + 0.5 * colors[prediction], image)
        return blend.astype(np.uint8)


class _MaskWriter:
    """Writes each mask as <folder>/<image id>.png."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, image_id: str, mask: Mask, /) -> None:
        _, buffer = cv2.imencode(".png", mask)
        (self._folder / f"{image_id}.png").write_bytes(buffer.tobytes())


class _StoredMasks(Mapping[str, Mask]):
    """The masks of a folder; each access reads one, because all of them may not fit into memory."""

    def __init__(self, folder: Path) -> None:
        self._paths = {path.stem: path for path in sorted(folder.glob("*.png"))}

    def __getitem__(self, image_id: str) -> Mask:
        with naming_file(self._paths[image_id]):
            mask = cv2.imread(str(self._paths[image_id]), cv2.IMREAD_UNCHANGED)
            if mask is None or mask.ndim != 2 or mask.dtype != np.uint8:
                raise RecordsError("expected one 8-bit channel of class indices")
            return np.asarray(mask, dtype=np.uint8)

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


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
        by_id = dict(sorted(zip(image_ids, counts, strict=True), key=lambda pair: pair[0]))
        for image_id, count in by_id.items():
            if count.tp.shape != (len(class_names),):
                raise RecordsError(
                    f"image {image_id!r}: expected counts of {len(class_names)} classes, got {count.tp.shape}"
                )
        tables = np.array([(count.tp, count.fp, count.fn) for count in by_id.values()], dtype=np.int64)
        tp, fp, fn = tables.reshape(len(by_id), 3, len(class_names)).transpose(1, 0, 2)
        return cls(tuple(by_id), tuple(class_names), tp, fp, fn)

    def scores(self, weights: ArrayLike | None = None) -> tuple[Metrics, dict[str, Metrics]]:
        """`metrics`, and by class name {"IoU"}; NaN if it occurs in neither truth nor prediction. Each (R,)."""
        taken = check_weights(weights, len(self.image_ids))
        iou = ratio(taken @ self.tp, taken @ (self.tp + self.fp + self.fn))  # (R, C)
        return {"mIoU": mean_of_defined(iou)}, {name: {"IoU": iou[:, n]} for n, name in enumerate(self.class_names)}

    def metrics(self, weights: ArrayLike | None = None) -> Metrics:
        """Mean intersection over union of the whole split, in each of R resamples.

        Counts are summed over the images taken, IoU = tp / (tp + fp + fn) for each class, and averaged over
        the classes that occur there in truth or prediction. NaN where no class occurs.

        Args:
            weights: (R, N) how often each image is taken; None: each once, R = 1.

        Returns:
            {"mIoU": (R,) in [0, 1]}
        """
        return self.scores(weights)[0]

    def class_objects(self) -> dict[str, int]:
        """Nothing: index masks have pixels, no objects."""
        return {}

    def missing_truth(self) -> str:
        """See `Records.missing_truth`."""
        if not (self.tp + self.fn).any():
            return "all pixels are ignored"
        return ONE_CLASS if len(self.class_names) == 1 else ""

    def image_scores(self) -> dict[str, NDArray[np.float64]]:
        """{"mIoU": (N,)} of each image by itself, over the classes that occur there in truth or prediction."""
        return {"mIoU": mean_of_defined(ratio(self.tp.astype(np.float64), (self.tp + self.fp + self.fn).astype(float)))}

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
