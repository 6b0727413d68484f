"""Instance segmentation with any YOLO network that ultralytics can build with a head for masks."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pipeline.metrics.detection import DetectionRecords
from pipeline.metrics.instance_segmentation import (
    InstancePrediction,
    Masks,
    Size,
    coco_found,
    coco_masks,
    decode,
    encode,
    match_instances,
)
from pipeline.metrics.matching import Overlap
from pipeline.metrics.records import IMAGES_FILE, PREDICTIONS_FILE, read_rows, reading, write_rows

from .contract import Image, LabelledSplit, ObjectTask
from .palette import color
from .yolo import YoloSettings, YoloTask
from .yolo_training import outline, training_view

DRAWN_SCORE = 0.25  # objects under this confidence are scored, but not drawn


@dataclass(frozen=True)
class InstanceSettings(YoloSettings):
    """Those of every YOLO task, with a model that has a head for masks."""

    model: str = "yolo11n-seg.yaml"


class InstanceSegmentation(YoloTask[InstancePrediction], ObjectTask[InstancePrediction]):
    """A YOLO network that gives every object a mask, scored with COCO's average precision of masks."""

    name = "instance-segmentation"
    labels = "instance-segmentation"
    kind = "segment"
    label_folder = "instances"
    overlap: ClassVar[Overlap] = "segm"
    Settings = InstanceSettings

    @classmethod
    def view(cls, split: LabelledSplit, classes: list[str], folder: Path) -> Path:
        return training_view(split, classes, folder, lambda name: _lines(split, name))

    def predict(self, image: Image) -> InstancePrediction:
        result, classes = self.look(image)
        size = image.shape[:2]
        masks = np.zeros((0, *size), np.uint8) if result.masks is None else result.masks.data.byte().cpu().numpy()
        return InstancePrediction(size, encode(masks), result.boxes.conf.cpu().numpy().astype(np.float64), classes)

    @staticmethod
    def truth(split: LabelledSplit, name: str) -> InstancePrediction:
        objects = [entry for entry in split.instances(name) if not entry.crowd]
        classes = np.array([entry.category for entry in objects], np.int64)
        masks = tuple(entry.counts for entry in objects)
        return InstancePrediction(_size(split, name), masks, np.ones(len(objects)), classes)

    def score(self, predictions: Mapping[str, InstancePrediction], split: LabelledSplit) -> DetectionRecords:
        return match_instances(predictions, {name: _labels(split, name) for name in predictions}, self.classes)

    @staticmethod
    def coco_labels(split: LabelledSplit, classes: int) -> dict[str, Any]:
        ids = sorted(split.ids)
        return coco_masks(
            {name: _labels(split, name) for name in ids}, {name: _size(split, name) for name in ids}, classes
        )

    @staticmethod
    def coco_results(predictions: Mapping[str, InstancePrediction]) -> Iterator[dict[str, Any]]:
        return coco_found(predictions, sorted(predictions))

    @staticmethod
    def write(folder: Path, predictions: Mapping[str, InstancePrediction]) -> None:
        sizes: dict[str, Size] = {}

        def rows() -> Iterator[dict[str, Any]]:
            for name, found in predictions.items():
                sizes[name] = found.size
                for counts, score, category in zip(found.masks, found.scores, found.classes, strict=True):
                    yield {
                        "image_id": name,
                        "category_id": int(category),
                        "segmentation": {"size": list(found.size), "counts": counts},
                        "score": round(float(score), 6),
                    }

        write_rows(folder / PREDICTIONS_FILE, "instances", rows())
        (folder / IMAGES_FILE).write_text(json.dumps(sizes, sort_keys=True) + "\n")

    @staticmethod
    def read(folder: Path) -> dict[str, InstancePrediction]:
        with reading(folder / IMAGES_FILE):
            sizes = {name: (size[0], size[1]) for name, size in json.loads((folder / IMAGES_FILE).read_text()).items()}
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in sizes}
        with reading(folder / PREDICTIONS_FILE):
            for row in read_rows(folder / PREDICTIONS_FILE, "instances"):
                rows[row["image_id"]].append(row)
            return {
                name: InstancePrediction(
                    sizes[name],
                    tuple(row["segmentation"]["counts"] for row in found),
                    np.array([row["score"] for row in found], np.float64),
                    np.array([row["category_id"] for row in found], np.int64),
                )
                for name, found in rows.items()
            }

    @staticmethod
    def draw(image: Image, prediction: InstancePrediction, classes: list[str]) -> Image:
        canvas = np.ascontiguousarray(image).copy()
        for counts, score, category in zip(prediction.masks, prediction.scores, prediction.classes, strict=True):
            if score >= DRAWN_SCORE:
                inside = decode(counts, prediction.size).astype(bool)
                canvas[inside] = (0.5 * canvas[inside] + 0.5 * np.array(color(int(category)))).astype(np.uint8)
        return canvas


def _size(split: LabelledSplit, name: str) -> Size:
    height, width = split.image(name).shape[:2]
    return height, width


def _labels(split: LabelledSplit, name: str) -> Masks:
    objects = split.instances(name)
    return Masks(
        tuple(entry.counts for entry in objects),
        np.array([entry.category for entry in objects], np.int64),
        np.array([entry.crowd for entry in objects], bool),
    )


def _lines(split: LabelledSplit, name: str) -> str:
    """The polygons of an image's objects as ultralytics' label lines; crowds are not taught."""
    height, width = _size(split, name)
    lines = []
    for entry in split.instances(name):
        polygon = outline(decode(entry.counts, (height, width)))
        if not entry.crowd and len(polygon):
            numbers = (polygon / [width, height]).ravel()
            lines.append(f"{entry.category} {' '.join(f'{number:.6f}' for number in numbers)}\n")
    return "".join(lines)
