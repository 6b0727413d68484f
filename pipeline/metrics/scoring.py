"""The contract of a scoring: its metrics, and how one task's predictions are stored, read, scored and drawn."""

import colorsys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from data.dataset import Split
from pipeline.metrics.records import Records

Image = NDArray[np.uint8]  # (H, W, 3) RGB
Overlap = Literal["bbox", "segm"]  # of boxes or of masks
Prediction = TypeVar("Prediction")
Written = TypeVar("Written", contravariant=True)


@dataclass(frozen=True)
class Metric:
    """A metric as tables show it.

    Attributes:
        name: as in results.csv.
        unit: such as "dB"; empty for a share.
        higher_is_better: whether a higher value is better.
        digits: decimals of a value.
        main: whether it is the main metric of the metrics that are declared with it.
        gain_digits: decimals of a difference of two values.
    """

    name: str
    unit: str = ""
    higher_is_better: bool = True
    digits: int = 3
    main: bool = False
    gain_digits: int = 4


def main_of(metrics: Iterable[Metric]) -> Metric:
    """The main metric among several.

    Raises:
        ValueError: not exactly one is declared as main.
    """
    (metric,) = (metric for metric in metrics if metric.main)
    return metric


class PredictionWriter(Protocol[Written]):
    """Stores predictions one by one, because all of a split may not fit into memory."""

    def write(self, image_id: str, prediction: Written, /) -> None:
        """Store the prediction on one image."""


class Scoring(ABC, Generic[Prediction]):
    """How the predictions of one kind of task are stored, read, scored and drawn.

    Attributes:
        labels: what predictions are scored with: a key of the classes in dataset.json, such as "detection".
        metrics: of a split, in the order of the tables; one is the main metric.
        class_metrics: of each class of a split.
        image_metrics: of single images.
    """

    labels: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]]
    class_metrics: ClassVar[tuple[Metric, ...]]
    image_metrics: ClassVar[tuple[Metric, ...]]

    @staticmethod
    @abstractmethod
    def truth(split: Split, image_id: str) -> Prediction:
        """The labels of one image, as a perfect prediction."""

    @staticmethod
    @abstractmethod
    def writer(folder: Path) -> AbstractContextManager[PredictionWriter[Prediction]]:
        """A context that stores predictions in an existing folder; complete when it ends without an error."""

    @staticmethod
    @abstractmethod
    def read(folder: Path) -> Mapping[str, Prediction]:
        """Stored predictions by image id; large ones are read at each access.

        Raises:
            pipeline.metrics.records.RecordsError: a file is missing, damaged or of another version.
        """

    @staticmethod
    @abstractmethod
    def score(predictions: Mapping[str, Prediction], split: Split, classes: list[str]) -> Records:
        """Per-image scores of predictions against the labels of a split.

        Args:
            predictions: by image id.
            split: whose labels count.
            classes: class names in index order.
        """

    @staticmethod
    @abstractmethod
    def draw(image: Image, prediction: Prediction, classes: list[str]) -> Image:
        """A copy of an image with the prediction drawn onto it."""


class ObjectScoring(Scoring[Prediction]):
    """Scoring of predicted objects by COCO's mAP of their boxes or masks, which can be written in COCO's format."""

    metrics = (Metric("mAP50-95", main=True), Metric("mAP50"))
    class_metrics = (Metric("AP50-95", main=True), Metric("AP50"))
    image_metrics = (Metric("F1", main=True),)
    overlap: ClassVar[Overlap]

    @staticmethod
    @abstractmethod
    def coco_labels(split: Split, classes: int) -> dict[str, Any]:
        """COCO's annotations of a split: image n in the order of the ids has id n + 1, class c has id c + 1."""

    @staticmethod
    @abstractmethod
    def coco_results(predictions: Mapping[str, Prediction]) -> Iterator[dict[str, Any]]:
        """COCO's results, image by image, with the ids of `coco_labels`."""


def class_color(index: int) -> tuple[int, int, int]:
    """An RGB colour for a class index. Successive indices get very different hues (steps of the golden ratio)."""
    hue = (0.08 + index * 0.618034) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85 if index % 2 else 0.65, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)
