"""Scores stored per image, so that a dataset's metric can be computed again on any resample of its images.

- detection_records.py: matches of boxes, for mAP50-95 and mAP50
- segmentation_records.py: counts of pixels, for mIoU
- classification_records.py: true and predicted classes, for accuracy
- here: one number an image, for its mean (PSNR, SSIM)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.metrics.classification import ClassificationRecords
from pipeline.metrics.detection import DetectionRecords, match_detections
from pipeline.metrics.matching import Boxes, DetectionPrediction
from pipeline.metrics.records import RecordsError, check_weights, names_of, read_arrays, read_kind, write_arrays
from pipeline.metrics.segmentation import PixelCounts, SegmentationRecords, count_segmentation

__all__ = [
    "QUALITY",
    "RECORDS",
    "Boxes",
    "ClassificationRecords",
    "DetectionPrediction",
    "DetectionRecords",
    "MeanRecords",
    "Metric",
    "PixelCounts",
    "Records",
    "RecordsError",
    "Scores",
    "SegmentationRecords",
    "count_segmentation",
    "find_metric",
    "load_records",
    "main_metric",
    "match_detections",
    "task_metrics",
]

QUALITY = "quality"  # stands in the place of a task for image quality


@dataclass(frozen=True)
class Metric:
    """How a metric is read; `digits` and `gain_digits` are the decimals of a value and of a difference."""

    name: str
    unit: str = ""
    higher_is_better: bool = True
    digits: int = 3
    main: bool = False
    gain_digits: int = 4


_BOXES = (Metric("mAP50-95", main=True), Metric("mAP50"))
_METRICS: dict[str, tuple[Metric, ...]] = {
    "detection": _BOXES,
    "instance-segmentation": _BOXES,
    "segmentation": (Metric("mIoU", main=True),),
    "classification": (Metric("accuracy", main=True),),
    QUALITY: (Metric("PSNR", "dB", digits=2, main=True, gain_digits=2), Metric("SSIM")),
}


def task_metrics(task: str) -> tuple[Metric, ...]:
    """The metrics of a task, in the order of the tables."""
    return _METRICS[task]


def main_metric(task: str) -> Metric:
    """The metric of a task that summaries show."""
    return next(metric for metric in task_metrics(task) if metric.main)


def find_metric(name: str) -> Metric:
    """The metric of this name; a default one if no task declares it."""
    for metrics in _METRICS.values():
        for metric in metrics:
            if metric.name == name:
                return metric
    return Metric(name)


class Scores(Protocol):
    """Scores of one system on N images that can be computed on any resample of them."""

    @property
    def image_ids(self) -> tuple[str, ...]:
        """N ids, in the order of the columns of `weights`."""

    def metrics(self, weights: ArrayLike | None = None) -> dict[str, NDArray[np.float64]]:
        """The dataset's metrics in each of R resamples, each (R,); NaN where a metric is undefined.

        Args:
            weights: (R, N), how often each image is taken; None: each once, R = 1.

        Raises:
            RecordsError: weights of another shape, negative or not finite.
        """


class Records(Scores, Protocol):
    """Per-image scores of one system, as they are stored."""

    def image_scores(self) -> dict[str, NDArray[np.float64]]:
        """Scores of each image by itself, (N,) each; NaN where undefined."""

    def save(self, path: Path) -> None:
        """Write an .npz file; the same records give the same bytes."""


@dataclass(frozen=True)
class MeanRecords:
    """Metrics that are means of one number an image; `values` maps a metric's name to (N,) numbers.

    A value may be infinite (the PSNR of two equal images): the mean is infinite where that image is taken.
    """

    kind: ClassVar[str] = "mean"

    image_ids: tuple[str, ...]
    values: dict[str, NDArray[np.float64]]

    @classmethod
    def from_values(cls, values: Mapping[str, Mapping[str, float]]) -> "MeanRecords":
        """Gather {image id: {metric: value}}; images are put in the order of their ids.

        Raises:
            RecordsError: an image lacks a metric that another has, or a value is NaN.
        """
        ids = tuple(sorted(values))
        metrics = tuple(dict.fromkeys(metric for name in ids for metric in values[name]))
        for name in ids:
            for metric in metrics:
                if np.isnan(values[name].get(metric, np.nan)):
                    raise RecordsError(f"image {name!r}: expected a number for {metric}, got none or NaN")
        columns = {metric: np.array([values[name][metric] for name in ids], float) for metric in metrics}
        return cls(ids, columns)

    def metrics(self, weights: ArrayLike | None = None) -> dict[str, NDArray[np.float64]]:
        """Weighted means, each (R,); NaN for a resample without images. See `Records.metrics`."""
        taken = check_weights(weights, len(self.image_ids))
        return {metric: _weighted_mean(values, taken) for metric, values in self.values.items()}

    def image_scores(self) -> dict[str, NDArray[np.float64]]:
        """The values themselves."""
        return self.values

    def save(self, path: Path) -> None:
        """Write an .npz file; the same records give the same bytes."""
        table = np.array(list(self.values.values()), float).reshape(len(self.values), len(self.image_ids))
        names = {"image_ids": np.array(self.image_ids, str), "metric_names": np.array(list(self.values), str)}
        write_arrays(path, self.kind, {**names, "values": table})

    @classmethod
    def load(cls, path: Path) -> "MeanRecords":
        """Read what `save` wrote.

        Raises:
            RecordsError: the file is missing or broken, or holds other records.
        """
        stored = read_kind(path, cls.kind)
        metrics = names_of(stored, "metric_names")
        return cls(names_of(stored, "image_ids"), dict(zip(metrics, stored["values"], strict=True)))


def _weighted_mean(values: NDArray[np.float64], taken: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R,) means; infinite values are kept out of the product, where 0 * inf would give NaN."""
    mean = np.full(len(taken), np.nan)
    total = taken.sum(axis=1)
    finite = np.isfinite(values)
    np.divide(taken @ np.where(finite, values, 0), total, out=mean, where=total > 0)
    for sign in (np.inf, -np.inf):
        mean[(taken[:, values == sign] > 0).any(axis=1)] += sign
    return mean


AnyRecords = DetectionRecords | SegmentationRecords | ClassificationRecords | MeanRecords
RECORDS: dict[str, type[AnyRecords]] = {
    kind.kind: kind for kind in (DetectionRecords, SegmentationRecords, ClassificationRecords, MeanRecords)
}


def load_records(path: Path) -> AnyRecords:
    """Read records of whichever kind the file holds.

    Raises:
        RecordsError: the file is missing, broken or holds no records of a known kind.
    """
    kind = str(read_arrays(path)["kind"])
    if kind not in RECORDS:
        raise RecordsError(f"{path}: unknown records {kind!r}; there are {', '.join(RECORDS)}")
    try:
        return RECORDS[kind].load(path)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        if isinstance(error, RecordsError):
            raise
        raise RecordsError(f"{path}: {kind} records of another version, or damaged ({error})") from error
