"""Scoring of classification: accuracy and balanced accuracy of whole images."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from data.dataset import Split
from models.tasks.predictions import Label
from pipeline.metrics.prediction_files import PREDICTIONS_FILE, naming_file
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


class ClassificationScoring(Scoring[Label]):
    """Shares of images whose most probable class is the true one."""

    labels = "classification"
    metrics = (Metric("accuracy", main=True), Metric("balanced accuracy"))
    class_metrics = (Metric("recall", main=True),)
    image_metrics = (Metric("accuracy", main=True),)

    @staticmethod
    def truth(split: Split, image_id: str) -> Label:
        return Label(split.category(image_id), 1.0)

    @staticmethod
    @contextmanager
    def writer(folder: Path) -> Iterator["_LabelWriter"]:
        writer = _LabelWriter()
        yield writer
        rows = {
            image_id: {"category_id": category, "score": round(score, 6)}
            for image_id, (category, score) in sorted(writer.labels.items())
        }
        (folder / PREDICTIONS_FILE).write_text(json.dumps(rows) + "\n")

    @staticmethod
    def read(folder: Path) -> dict[str, Label]:
        with naming_file(folder / PREDICTIONS_FILE):
            rows = json.loads((folder / PREDICTIONS_FILE).read_text())
            return {image_id: Label(int(row["category_id"]), float(row["score"])) for image_id, row in rows.items()}

    @staticmethod
    def score(predictions: Mapping[str, Label], split: Split, classes: list[str]) -> "ClassificationRecords":
        truth = {image_id: split.category(image_id) for image_id in predictions}
        predicted = {image_id: label.category for image_id, label in predictions.items()}
        return ClassificationRecords.gather(truth, predicted, classes)

    @staticmethod
    def draw(image: Image, prediction: Label, classes: list[str]) -> Image:
        canvas = np.ascontiguousarray(image).copy()
        height, width = canvas.shape[:2]
        color, text = class_color(prediction.category), classes[prediction.category]
        cv2.rectangle(canvas, (0, 0), (width - 1, height - 1), color, 2)
        size = max(height, 64) / 400
        cv2.putText(canvas, text, (4, height - 6), cv2.FONT_HERSHEY_SIMPLEX, size, color, 1, cv2.LINE_AA)
        return canvas


class _LabelWriter:
    """Collects the labels, which are small."""

    def __init__(self) -> None:
        self.labels: dict[str, Label] = {}

    def write(self, image_id: str, label: Label, /) -> None:
        self.labels[image_id] = label


@dataclass(frozen=True)
class ClassificationRecords:
    """True and predicted class indices of N images and C classes."""

    kind: ClassVar[str] = "classification"

    image_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    truth: NDArray[np.int64]  # (N,)
    predicted: NDArray[np.int64]  # (N,)

    @classmethod
    def gather(
        cls, truth: Mapping[str, int], predicted: Mapping[str, int], class_names: Sequence[str]
    ) -> "ClassificationRecords":
        """Records of {image id: class index}; images are put in the order of their ids.

        Raises:
            RecordsError: the two are not of the same images, or a class index is outside 0..C-1.
        """
        if not truth or truth.keys() != predicted.keys():
            raise RecordsError(f"expected predictions of {len(truth)} images with labels, got {len(predicted)}")
        for image_id in truth:
            for what, index in (("class", truth[image_id]), ("prediction", predicted[image_id])):
                if not 0 <= index < len(class_names):
                    raise RecordsError(
                        f"image {image_id!r}: expected a {what} of 0..{len(class_names) - 1}, got {index}"
                    )
        ids = tuple(sorted(truth))
        columns = [np.array([table[image_id] for image_id in ids], np.int64) for table in (truth, predicted)]
        return cls(ids, tuple(class_names), *columns)

    def scores(self, weights: ArrayLike | None = None) -> tuple[Metrics, dict[str, Metrics]]:
        """`metrics`, and by class name {"recall"}; NaN if no image of it is taken. Each (R,)."""
        taken = check_weights(weights, len(self.image_ids))
        right = self.truth == self.predicted
        member = np.eye(len(self.class_names))[self.truth]
        recall = ratio(taken @ (member * right[:, None]), taken @ member)  # (R, C)
        metrics = {
            "accuracy": ratio(taken @ right.astype(np.float64), taken.sum(axis=1)),
            "balanced accuracy": mean_of_defined(recall),
        }
        return metrics, {name: {"recall": recall[:, index]} for index, name in enumerate(self.class_names)}

    def metrics(self, weights: ArrayLike | None = None) -> Metrics:
        """Shares of images whose likeliest class is the true one, in each of R resamples.

        Accuracy is over all images; balanced accuracy is the mean over the classes that occur in the resample
        of the share within the class. NaN where no image is taken.

        Args:
            weights: (R, N) how often each image is taken; None: each once, R = 1.

        Returns:
            {"accuracy": (R,), "balanced accuracy": (R,)}, in [0, 1]

        Raises:
            RecordsError: weights of another shape, negative or not finite.
        """
        return self.scores(weights)[0]

    def class_objects(self) -> dict[str, int]:
        """How many images of each class there are."""
        counts = np.bincount(self.truth, minlength=len(self.class_names))
        return dict(zip(self.class_names, counts.tolist(), strict=True))

    def missing_truth(self) -> str:
        """See `Records.missing_truth`."""
        return ONE_CLASS if len(self.class_names) == 1 else ""

    def image_scores(self) -> dict[str, NDArray[np.float64]]:
        """{"accuracy": (N,)}, 1 where the class is right and 0 where it is not."""
        return {"accuracy": (self.truth == self.predicted).astype(np.float64)}

    def save(self, path: Path) -> None:
        """Write an .npz file; the same records give the same bytes."""
        names = {"image_ids": np.array(self.image_ids, str), "class_names": np.array(self.class_names, str)}
        write_arrays(path, self.kind, {**names, "truth": self.truth, "predicted": self.predicted})

    @classmethod
    def load(cls, path: Path) -> "ClassificationRecords":
        """Read what `save` wrote.

        Raises:
            RecordsError: the file is missing or broken, or holds other records.
        """
        stored = read_kind(path, cls.kind)
        names = names_of(stored, "image_ids"), names_of(stored, "class_names")
        return cls(*names, stored["truth"], stored["predicted"])
