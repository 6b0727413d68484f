"""Scoring of detections: boxes are matched as COCO does and scored with COCO's average precision."""

import json
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from data.dataset import Split
from models.tasks.predictions import DetectionPrediction
from pipeline.metrics.detection_records import SURE, DetectionRecords, records_of
from pipeline.metrics.matching import ByArea, check_images, coco_frame, match_blocks, match_objects
from pipeline.metrics.prediction_files import (
    IMAGES_FILE,
    PREDICTIONS_FILE,
    RowWriter,
    naming_file,
    read_rows,
    row_writer,
)
from pipeline.metrics.records import RecordsError
from pipeline.metrics.scoring import Image, ObjectScoring, class_color


@dataclass(frozen=True)
class Boxes:
    """The true boxes of one image; G may be 0."""

    boxes: NDArray[np.floating]  # (G, 4) left, top, right, bottom in pixels
    classes: NDArray[np.integer]  # (G,) class indices
    crowd: NDArray[np.bool_] | None = None  # (G,) groups of objects, on which detections are not counted as wrong


class DetectionScoring(ObjectScoring[DetectionPrediction]):
    """COCO's mAP of boxes."""

    labels = "detection"
    overlap = "bbox"

    @staticmethod
    def truth(split: Split, image_id: str) -> DetectionPrediction:
        objects = split.boxes(image_id)
        corners = _to_corners(objects[:, 1:], split.size(image_id))
        return DetectionPrediction(corners, np.ones(len(objects)), objects[:, 0].astype(np.int64))

    @staticmethod
    @contextmanager
    def writer(folder: Path) -> Iterator["_BoxWriter"]:
        with row_writer(folder / PREDICTIONS_FILE, "detections") as rows:
            writer = _BoxWriter(rows)
            yield writer
        (folder / IMAGES_FILE).write_text(json.dumps(sorted(writer.image_ids)) + "\n")

    @staticmethod
    def read(folder: Path) -> dict[str, DetectionPrediction]:
        with naming_file(folder / IMAGES_FILE):
            values = {image_id: array("d") for image_id in json.loads((folder / IMAGES_FILE).read_text())}
        with naming_file(folder / PREDICTIONS_FILE):
            for row in read_rows(folder / PREDICTIONS_FILE, "detections"):
                x, y, w, h = row["bbox"]
                values[row["image_id"]].extend([x, y, x + w, y + h, row["score"], row["category_id"]])
        tables = {image_id: np.array(numbers, dtype=np.float64).reshape(-1, 6) for image_id, numbers in values.items()}
        return {
            image_id: DetectionPrediction(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))
            for image_id, table in tables.items()
        }

    @staticmethod
    def score(predictions: Mapping[str, DetectionPrediction], split: Split, classes: list[str]) -> DetectionRecords:
        sizes = {image_id: split.size(image_id) for image_id in predictions}
        truth = {image_id: _labels(split, image_id, sizes[image_id]) for image_id in predictions}
        return match_detections(predictions, truth, classes, sizes)

    @staticmethod
    def draw(image: Image, prediction: DetectionPrediction, classes: list[str]) -> Image:
        canvas = np.ascontiguousarray(image).copy()
        sure = prediction.scores >= SURE
        for (x0, y0, x1, y1), category in zip(prediction.boxes[sure], prediction.classes[sure], strict=True):
            cv2.rectangle(canvas, (round(x0), round(y0)), (round(x1), round(y1)), class_color(int(category)), 1)
        return canvas

    @staticmethod
    def coco_labels(split: Split, classes: int) -> dict[str, Any]:
        ids = tuple(sorted(split.ids))
        sizes = {image_id: split.size(image_id) for image_id in ids}
        return coco_truth(
            {image_id: _labels(split, image_id, sizes[image_id]) for image_id in ids}, ids, classes, sizes
        )

    @staticmethod
    def coco_results(predictions: Mapping[str, DetectionPrediction]) -> Iterator[dict[str, Any]]:
        return coco_predictions(predictions, tuple(sorted(predictions)))


class _BoxWriter:
    """Writes a row for each box, and collects the ids of the images."""

    def __init__(self, rows: RowWriter) -> None:
        self._rows, self.image_ids = rows, list[str]()

    def write(self, image_id: str, prediction: DetectionPrediction, /) -> None:
        boxes = np.round(np.array(_xywh(prediction.boxes)).reshape(-1, 4), 3).tolist()
        scores = np.round(prediction.scores.astype(np.float64), 6).tolist()
        for box, score, category in zip(boxes, scores, prediction.classes.tolist(), strict=True):
            self._rows.write({"image_id": image_id, "category_id": category, "bbox": box, "score": score})
        self.image_ids.append(image_id)


def _labels(split: Split, image_id: str, size: tuple[int, int]) -> Boxes:
    objects, crowds = split.boxes(image_id), split.ignored(image_id)
    rows = np.concatenate([objects, crowds])
    is_crowd = np.arange(len(rows)) >= len(objects)
    return Boxes(_to_corners(rows[:, 1:], size), rows[:, 0].astype(np.int64), is_crowd)


def _to_corners(boxes: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """(K, 4) centre and size in [0, 1] to pixel corners."""
    height, width = size
    centre, extent = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([centre - extent / 2, centre + extent / 2], axis=1) * [width, height, width, height]


def match_detections(
    predictions: Mapping[str, DetectionPrediction],
    truth: Mapping[str, Boxes],
    class_names: Sequence[str],
    image_sizes: Mapping[str, tuple[int, int]],
) -> DetectionRecords:
    """Match predicted boxes to true ones as COCO does, image by image and class by class.

    Args:
        predictions: by image id; an image without boxes has empty arrays.
        truth: by image id; the records' images are these, in the order of their ids.
        class_names: C names, in index order.
        image_sizes: (height, width) in pixels by image id.

    Raises:
        RecordsError: predictions, truth and sizes are not of the same images; a box is malformed, a true box
            lies outside its image, or a class index is outside 0..C-1. The text names the image.
    """
    ids, classes = tuple(sorted(truth)), len(class_names)
    check_images(predictions, truth, image_sizes)
    for image_id in ids:
        _check_truth(image_id, truth[image_id], classes, image_sizes[image_id])
        _check_prediction(image_id, predictions[image_id], classes)

    def match(block: tuple[str, ...]) -> ByArea:
        labels = coco_truth(truth, block, classes, image_sizes)
        return match_objects(labels, coco_predictions(predictions, block), "bbox")

    return records_of(match_blocks(ids, match), ids, class_names)


def coco_truth(
    truth: Mapping[str, Boxes],
    image_ids: tuple[str, ...],
    classes: int,
    image_sizes: Mapping[str, tuple[int, int]],
) -> dict[str, Any]:
    """COCO's annotations of some images; image n has id n + 1, class c has id c + 1."""
    annotations: list[dict[str, Any]] = []
    for number, image_id in enumerate(image_ids, start=1):
        objects = truth[image_id]
        crowd = objects.crowd if objects.crowd is not None else np.zeros(len(objects.classes), dtype=bool)
        for box, category, is_crowd in zip(_xywh(objects.boxes), objects.classes, crowd, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,  # from 1: the library takes id 0 for "not matched"
                    "image_id": number,
                    "category_id": int(category) + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(is_crowd),
                }
            )
    return coco_frame([image_sizes[image_id] for image_id in image_ids], classes) | {"annotations": annotations}


def coco_predictions(
    predictions: Mapping[str, DetectionPrediction], image_ids: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    """COCO's results one by one, with the ids of `coco_truth`."""
    for number, image_id in enumerate(image_ids, start=1):
        prediction = predictions[image_id]
        boxes = _xywh(prediction.boxes)
        for box, category, score in zip(boxes, prediction.classes, prediction.scores, strict=True):
            yield {"image_id": number, "category_id": int(category) + 1, "bbox": box, "score": float(score)}


def _xywh(boxes: NDArray[np.floating]) -> list[list[float]]:
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]]).tolist()


def _check_truth(image_id: str, truth: Boxes, classes: int, size: tuple[int, int]) -> None:
    fail = _failure(f"image {image_id!r}, truth")
    _check_boxes(truth.boxes, truth.classes, classes, fail)
    if truth.crowd is not None and len(truth.crowd) != len(truth.classes):
        raise fail(f"{len(truth.classes)} boxes, but {len(truth.crowd)} crowd flags")
    boxes, (height, width) = truth.boxes, size
    outside = (boxes[:, 0] >= width) | (boxes[:, 1] >= height) | (boxes[:, 2] <= 0) | (boxes[:, 3] <= 0)
    if outside.any():
        raise fail(f"box {boxes[outside][0].tolist()} lies outside the image of {height} x {width} pixels")


def _check_prediction(image_id: str, prediction: DetectionPrediction, classes: int) -> None:
    fail = _failure(f"image {image_id!r}, prediction")
    _check_boxes(prediction.boxes, prediction.classes, classes, fail)
    if prediction.scores.shape != prediction.classes.shape or not np.isfinite(prediction.scores).all():
        raise fail(f"expected {len(prediction.classes)} finite scores, got {prediction.scores.shape}")


def _check_boxes(
    boxes: NDArray[np.floating],
    indices: NDArray[np.integer],
    classes: int,
    fail: Callable[[str], RecordsError],
) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4 or indices.shape != (len(boxes),):
        raise fail(f"expected boxes (K, 4) and classes (K,), got {boxes.shape} and {indices.shape}")
    wrong = ~np.isfinite(boxes).all(axis=1) | (boxes[:, 2:] < boxes[:, :2]).any(axis=1)
    if wrong.any():
        raise fail(f"expected left <= right and top <= bottom in pixels, got {boxes[wrong][0].tolist()}")
    if indices.size and not (indices.min() >= 0 and indices.max() < classes):
        raise fail(f"expected class indices 0..{classes - 1}, got {indices.min()}..{indices.max()}")


def _failure(where: str) -> Callable[[str], RecordsError]:
    return lambda what: RecordsError(f"{where}: {what}")
