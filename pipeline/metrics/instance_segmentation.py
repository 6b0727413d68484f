"""Scoring of instance segmentation: masks are matched as COCO does and scored with COCO's average precision."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.dataset import Split
from models.tasks.predictions import InstancePrediction, Size, decode_mask, run_lengths
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
class Masks:
    """The true objects of one image; G may be 0."""

    masks: tuple[str, ...]  # G masks of the image's size, as COCO's compressed run lengths
    classes: NDArray[np.integer]  # (G,) class indices
    crowd: NDArray[np.bool_]  # (G,) groups of objects, on which predictions are not counted as wrong


class InstanceScoring(ObjectScoring[InstancePrediction]):
    """COCO's mAP of masks."""

    labels = "instance-segmentation"
    overlap = "segm"

    @staticmethod
    def truth(split: Split, image_id: str) -> InstancePrediction:
        objects = [instance for instance in split.instances(image_id) if not instance.crowd]
        classes = np.array([instance.category for instance in objects], np.int64)
        masks = tuple(instance.counts for instance in objects)
        return InstancePrediction(_size(split, image_id), masks, np.ones(len(objects)), classes)

    @staticmethod
    @contextmanager
    def writer(folder: Path) -> Iterator["_InstanceWriter"]:
        with row_writer(folder / PREDICTIONS_FILE, "instances") as rows:
            writer = _InstanceWriter(rows)
            yield writer
        (folder / IMAGES_FILE).write_text(json.dumps(writer.sizes, sort_keys=True) + "\n")

    @staticmethod
    def read(folder: Path) -> dict[str, InstancePrediction]:
        with naming_file(folder / IMAGES_FILE):
            stored = json.loads((folder / IMAGES_FILE).read_text())
            sizes = {image_id: (size[0], size[1]) for image_id, size in stored.items()}
        rows: dict[str, list[dict[str, Any]]] = {image_id: [] for image_id in sizes}
        with naming_file(folder / PREDICTIONS_FILE):
            for row in read_rows(folder / PREDICTIONS_FILE, "instances"):
                rows[row["image_id"]].append(row)
            return {image_id: _prediction(sizes[image_id], objects) for image_id, objects in rows.items()}

    @staticmethod
    def score(predictions: Mapping[str, InstancePrediction], split: Split, classes: list[str]) -> DetectionRecords:
        return match_instances(predictions, {image_id: _labels(split, image_id) for image_id in predictions}, classes)

    @staticmethod
    def draw(image: Image, prediction: InstancePrediction, classes: list[str]) -> Image:
        canvas = np.ascontiguousarray(image).copy()
        for counts, score, category in zip(prediction.masks, prediction.scores, prediction.classes, strict=True):
            if score >= SURE:
                inside = decode_mask(counts, prediction.size).astype(bool)
                canvas[inside] = (0.5 * canvas[inside] + 0.5 * np.array(class_color(int(category)))).astype(np.uint8)
        return canvas

    @staticmethod
    def coco_labels(split: Split, classes: int) -> dict[str, Any]:
        ids = sorted(split.ids)
        truth = {image_id: _labels(split, image_id) for image_id in ids}
        return coco_masks(truth, {image_id: _size(split, image_id) for image_id in ids}, classes)

    @staticmethod
    def coco_results(predictions: Mapping[str, InstancePrediction]) -> Iterator[dict[str, Any]]:
        return coco_mask_predictions(predictions, sorted(predictions))


class _InstanceWriter:
    """Writes a row for each object, and collects the sizes of the images."""

    def __init__(self, rows: RowWriter) -> None:
        self._rows, self.sizes = rows, dict[str, Size]()

    def write(self, image_id: str, prediction: InstancePrediction, /) -> None:
        self.sizes[image_id] = prediction.size
        for counts, score, category in zip(prediction.masks, prediction.scores, prediction.classes, strict=True):
            self._rows.write(
                {
                    "image_id": image_id,
                    "category_id": int(category),
                    "segmentation": run_lengths(counts, prediction.size),
                    "score": round(float(score), 6),
                }
            )


def _prediction(size: Size, rows: Sequence[dict[str, Any]]) -> InstancePrediction:
    return InstancePrediction(
        size,
        tuple(row["segmentation"]["counts"] for row in rows),
        np.array([row["score"] for row in rows], np.float64),
        np.array([row["category_id"] for row in rows], np.int64),
    )


def _size(split: Split, image_id: str) -> Size:
    height, width = split.size(image_id)
    return height, width


def _labels(split: Split, image_id: str) -> Masks:
    objects = split.instances(image_id)
    return Masks(
        tuple(instance.counts for instance in objects),
        np.array([instance.category for instance in objects], np.int64),
        np.array([instance.crowd for instance in objects], bool),
    )


def match_instances(
    predictions: Mapping[str, InstancePrediction], truth: Mapping[str, Masks], class_names: Sequence[str]
) -> DetectionRecords:
    """Match predicted masks to true ones as COCO does, image by image and class by class.

    Args:
        predictions: by image id; an image without objects has empty arrays.
        truth: by image id; the records' images are these, in the order of their ids.
        class_names: C names, in index order.

    Raises:
        RecordsError: predictions and truth are not of the same images, or a class index is outside 0..C-1.
    """
    sizes = {image_id: prediction.size for image_id, prediction in predictions.items()}
    check_images(predictions, truth, sizes)
    ids = tuple(sorted(truth))
    for image_id in ids:
        for what, objects in (("truth", truth[image_id]), ("prediction", predictions[image_id])):
            _check(f"image {image_id!r}, {what}", objects.masks, objects.classes, len(class_names))

    def match(block: tuple[str, ...]) -> ByArea:
        labels = coco_masks({image_id: truth[image_id] for image_id in block}, sizes, len(class_names))
        return match_objects(labels, coco_mask_predictions(predictions, block), "segm")

    return records_of(match_blocks(ids, match), ids, class_names)


def coco_masks(truth: Mapping[str, Masks], sizes: Mapping[str, Size], classes: int) -> dict[str, Any]:
    """COCO's annotations; image n in the order of the ids has id n + 1, class c has id c + 1."""
    ids = sorted(truth)
    return coco_frame([sizes[image_id] for image_id in ids], classes) | {"annotations": _annotations(truth, ids, sizes)}


def _annotations(truth: Mapping[str, Masks], ids: Sequence[str], sizes: Mapping[str, Size]) -> list[dict[str, Any]]:
    from faster_coco_eval.core import mask as coco

    annotations: list[dict[str, Any]] = []
    for number, image_id in enumerate(ids, start=1):
        objects = truth[image_id]
        for counts, category, crowd in zip(objects.masks, objects.classes, objects.crowd, strict=True):
            run = run_lengths(counts, sizes[image_id])
            annotations.append(
                {
                    "id": len(annotations) + 1,  # from 1: the library takes id 0 for "not matched"
                    "image_id": number,
                    "category_id": int(category) + 1,
                    "segmentation": run,
                    "bbox": coco.toBbox(run).tolist(),
                    "area": float(coco.area(run)),
                    "iscrowd": int(crowd),
                }
            )
    return annotations


def coco_mask_predictions(
    predictions: Mapping[str, InstancePrediction], ids: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """COCO's results one by one, with the ids of `coco_masks`."""
    for number, image_id in enumerate(ids, start=1):
        prediction = predictions[image_id]
        for counts, category, score in zip(prediction.masks, prediction.classes, prediction.scores, strict=True):
            yield {
                "image_id": number,
                "category_id": int(category) + 1,
                "segmentation": run_lengths(counts, prediction.size),
                "score": float(score),
            }


def _check(where: str, masks: tuple[str, ...], indices: NDArray[np.integer], classes: int) -> None:
    if indices.shape != (len(masks),):
        raise RecordsError(f"{where}: {len(masks)} masks, but classes of shape {indices.shape}")
    if indices.size and not (indices.min() >= 0 and indices.max() < classes):
        raise RecordsError(f"{where}: expected class indices 0..{classes - 1}, got {indices.min()}..{indices.max()}")
