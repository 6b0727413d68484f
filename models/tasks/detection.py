"""Object detection with any YOLO detector that ultralytics can build."""

import json
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.detection import DetectionRecords, match_detections
from pipeline.metrics.matching import Boxes, DetectionPrediction, Overlap, coco_predictions, coco_truth
from pipeline.metrics.records import IMAGES_FILE, PREDICTIONS_FILE, read_rows, reading, write_rows

from .contract import Image, LabelledSplit, ObjectTask
from .palette import color
from .yolo import YoloTask
from .yolo_training import training_view

DRAWN_SCORE = 0.25  # boxes under this confidence are scored, but not drawn


class Detection(YoloTask[DetectionPrediction], ObjectTask[DetectionPrediction]):
    """A YOLO detector, scored with COCO's average precision."""

    name = "detection"
    labels = "detection"
    kind = "detect"
    label_folder = "labels"
    overlap: ClassVar[Overlap] = "bbox"

    @classmethod
    def view(cls, split: LabelledSplit, classes: list[str], folder: Path) -> Path:
        return training_view(split, classes, folder, lambda name: (split.folder / "labels" / f"{name}.txt").read_text())

    def predict(self, image: Image) -> DetectionPrediction:
        result, classes = self.look(image)
        boxes = result.boxes.cpu().numpy()
        return DetectionPrediction(boxes.xyxy.astype(np.float64), boxes.conf.astype(np.float64), classes)

    @staticmethod
    def truth(split: LabelledSplit, name: str) -> DetectionPrediction:
        objects = split.boxes(name)
        corners = _to_corners(objects[:, 1:], split.image(name).shape[:2])
        return DetectionPrediction(corners, np.ones(len(objects)), objects[:, 0].astype(np.int64))

    def score(self, predictions: Mapping[str, DetectionPrediction], split: LabelledSplit) -> DetectionRecords:
        sizes = {name: split.image(name).shape[:2] for name in predictions}
        truth = {name: _labels(split, name, sizes[name]) for name in predictions}
        return match_detections(predictions, truth, self.classes, sizes)

    @staticmethod
    def coco_labels(split: LabelledSplit, classes: int) -> dict[str, Any]:
        ids = tuple(sorted(split.ids))
        sizes = {name: split.image(name).shape[:2] for name in ids}
        return coco_truth({name: _labels(split, name, sizes[name]) for name in ids}, ids, classes, sizes)

    @staticmethod
    def coco_results(predictions: Mapping[str, DetectionPrediction]) -> Iterator[dict[str, Any]]:
        return coco_predictions(predictions, tuple(sorted(predictions)))

    @staticmethod
    def write(folder: Path, predictions: Mapping[str, DetectionPrediction]) -> None:
        rows = (
            {
                "image_id": name,
                "category_id": int(c),
                "bbox": [round(v, 3) for v in (x0, y0, x1 - x0, y1 - y0)],
                "score": round(float(s), 6),
            }
            for name, found in predictions.items()
            for (x0, y0, x1, y1), s, c in zip(found.boxes.tolist(), found.scores, found.classes, strict=True)
        )
        write_rows(folder / PREDICTIONS_FILE, "detections", rows)
        (folder / IMAGES_FILE).write_text(json.dumps(sorted(predictions)) + "\n")

    @staticmethod
    def read(folder: Path) -> dict[str, DetectionPrediction]:
        with reading(folder / IMAGES_FILE):
            rows = {name: array("d") for name in json.loads((folder / IMAGES_FILE).read_text())}
        with reading(folder / PREDICTIONS_FILE):
            for row in read_rows(folder / PREDICTIONS_FILE, "detections"):
                x, y, w, h = row["bbox"]
                rows[row["image_id"]].extend([x, y, x + w, y + h, row["score"], row["category_id"]])
        tables = {name: np.array(found, dtype=np.float64).reshape(-1, 6) for name, found in rows.items()}
        return {name: DetectionPrediction(t[:, :4], t[:, 4], t[:, 5].astype(np.int64)) for name, t in tables.items()}

    @staticmethod
    def draw(image: Image, prediction: DetectionPrediction, classes: list[str]) -> Image:
        canvas = np.ascontiguousarray(image).copy()
        sure = prediction.scores >= DRAWN_SCORE
        for (x0, y0, x1, y1), c in zip(prediction.boxes[sure], prediction.classes[sure], strict=True):
            cv2.rectangle(canvas, (round(x0), round(y0)), (round(x1), round(y1)), color(int(c)), 1)
        return canvas


def _labels(split: LabelledSplit, name: str, size: tuple[int, int]) -> Boxes:
    objects, crowds = split.boxes(name), split.ignored(name)
    rows = np.concatenate([objects, crowds])
    is_crowd = np.arange(len(rows)) >= len(objects)
    return Boxes(_to_corners(rows[:, 1:], size), rows[:, 0].astype(np.int64), is_crowd)


def _to_corners(boxes: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """(K, 4) centre and size in [0, 1] to pixel corners."""
    height, width = size
    centre, extent = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([centre - extent / 2, centre + extent / 2], axis=1) * [width, height, width, height]
