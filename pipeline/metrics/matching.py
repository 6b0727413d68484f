"""Boxes of one image, and COCO's matching of predicted to true objects by faster-coco-eval."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.records import RecordsError

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
MAX_DETECTIONS = 100  # for each image and class
BLOCK = 100  # images that are matched at a time
ALL_AREAS = (0.0, 1e10)  # COCO's area range "all", in square pixels
Overlap = Literal["bbox", "segm"]  # of boxes or of masks


@dataclass(frozen=True)
class DetectionPrediction:
    """Boxes that a detector found in one image; K may be 0."""

    boxes: NDArray[np.floating]  # (K, 4) left, top, right, bottom in pixels
    scores: NDArray[np.floating]  # (K,)
    classes: NDArray[np.integer]  # (K,) class indices


@dataclass(frozen=True)
class Boxes:
    """Boxes that an image has; G may be 0."""

    boxes: NDArray[np.floating]  # (G, 4) left, top, right, bottom in pixels
    classes: NDArray[np.integer]  # (G,) class indices
    crowd: NDArray[np.bool_] | None = None  # (G,) groups of objects, which detections may hit unpunished


@dataclass(frozen=True)
class Matches:
    """Detections image by image, in each image class by class by falling score; at most 100 of each."""

    truth: NDArray[np.int64]  # (N, C) objects, crowds not counted
    image: NDArray[np.int64]  # (D,)
    category: NDArray[np.int64]  # (D,)
    score: NDArray[np.float64]  # (D,)
    correct: NDArray[np.bool_]  # (D, T)
    ignored: NDArray[np.bool_]  # (D, T)


def match_images(
    predictions: Mapping[str, DetectionPrediction],
    truth: Mapping[str, Boxes],
    image_ids: tuple[str, ...],
    classes: int,
    image_sizes: Mapping[str, tuple[int, int]],
) -> Matches:
    """Match every image's boxes; see `detection_records.match_detections` for the arguments and errors."""
    check_images(predictions, truth, image_sizes)
    for name in image_ids:
        _check_truth(name, truth[name], classes, image_sizes[name])
        _check_prediction(name, predictions[name], classes)

    def match(ids: tuple[str, ...]) -> Matches:
        return match_objects(coco_truth(truth, ids, classes, image_sizes), coco_predictions(predictions, ids), "bbox")

    return match_blocks(image_ids, match)


def match_blocks(image_ids: tuple[str, ...], match: Callable[[tuple[str, ...]], Matches]) -> Matches:
    """Match some images at a time, which the library holds as one object for each box; the result is the same."""
    starts = range(0, len(image_ids), BLOCK)
    return join_blocks([(start, match(image_ids[start : start + BLOCK])) for start in starts])


def join_blocks(found: Sequence[tuple[int, Matches]]) -> Matches:
    """The matches of all images from those of some at a time, each with the number of its first image."""
    blocks = [replace(matches, image=matches.image + start) for start, matches in found]
    fields = ("truth", "image", "category", "score", "correct", "ignored")
    return Matches(*(np.concatenate([getattr(block, field) for block in blocks]) for field in fields))


def match_objects(
    truth: dict[str, Any], found: Iterable[dict[str, Any]], kind: Overlap, areas: Sequence[float] = ALL_AREAS
) -> Matches:
    """Match COCO's list of results to COCO's annotations by the overlap of boxes or of masks.

    Objects outside the range of areas, in square pixels, are ignored as crowds are, and so are detections outside it
    that match nothing.
    """
    return _gather(_evaluate(truth, found, kind, IOU_THRESHOLDS, areas))


def blocks_of(
    truth: dict[str, Any], found: Iterable[dict[str, Any]]
) -> Iterator[tuple[int, dict[str, Any], list[dict[str, Any]]]]:
    """Some images at a time: the number of the first, their annotations, and their results, which are read one by one.

    Args:
        truth: COCO's annotations, as `coco_truth` makes them.
        found: COCO's results, image by image.
    """
    rest = groupby(found, lambda result: (int(result["image_id"]) - 1) // BLOCK)
    number, group = next(rest, (-1, iter(())))
    for start in range(0, len(truth["images"]), BLOCK):
        own: list[dict[str, Any]] = []
        if number == start // BLOCK:
            own = [{**result, "image_id": result["image_id"] - start} for result in group]
            number, group = next(rest, (-1, iter(())))
        images = [{**entry, "id": entry["id"] - start} for entry in truth["images"][start : start + BLOCK]]
        labels = [
            {**entry, "image_id": entry["image_id"] - start}
            for entry in truth["annotations"]
            if start < entry["image_id"] <= start + BLOCK
        ]
        yield start, {**truth, "images": images, "annotations": labels}, own


def pair_objects(
    truth: dict[str, Any], found: Iterable[dict[str, Any]], kind: Overlap, threshold: float
) -> list[tuple[int, int]]:
    """Which result matched which annotation, both as indices into their lists, at one IoU threshold.

    A crowd may be matched several times.
    """
    results = _evaluate(truth, found, kind, np.array([threshold]), ALL_AREAS)
    # The C++ result shows its fields only through the state that it is pickled from; ids count from 1.
    return [(pair[0] - 1, pair[1] - 1) for one in results.ravel() for pair in one.__getstate__()[5]]


def _evaluate(
    truth: dict[str, Any],
    found: Iterable[dict[str, Any]],
    kind: Overlap,
    thresholds: NDArray[np.float64],
    areas: Sequence[float],
) -> NDArray[Any]:
    """The library's result for each class and image, (C, N)."""
    from faster_coco_eval import COCO, COCOeval_faster

    objects = COCO(truth, print_function=_silent)
    own = objects.loadRes([dict(result) for result in found])  # which writes into what it is given
    evaluator = COCOeval_faster(objects, own, kind, print_function=_silent, separate_eval=True)
    evaluator.params.iouThrs = thresholds
    evaluator.params.maxDets = [MAX_DETECTIONS]
    evaluator.params.areaRng, evaluator.params.areaRngLbl = [list(areas)], ["all"]
    evaluator.evaluate()
    # Results lie class by class, in each class image by image; there is one area range.
    shape = len(truth["categories"]), len(truth["images"])
    return np.array(evaluator._evalImgs_cpp, dtype=object).reshape(shape)


def _gather(results: NDArray[Any]) -> Matches:
    classes, images = results.shape
    truth = np.zeros((images, classes), dtype=np.int64)
    image, category, score, correct, ignored = [], [], [], [], []
    for n in range(images):
        for c in range(classes):
            # The C++ result shows its fields only through the state that it is pickled from.
            matched_ids, _, scores, truth_ignored, detection_ignored, *_ = results[c, n].__getstate__()
            found = len(scores)
            skip = np.array(detection_ignored, dtype=bool).reshape(-1, found).T if found else _no_rows(bool)
            hit = np.array(matched_ids, dtype=np.int64).reshape(-1, found).T != 0 if found else _no_rows(bool)
            truth[n, c] = np.count_nonzero(~np.array(truth_ignored, dtype=bool))
            image.append(np.full(found, n))
            category.append(np.full(found, c))
            score.append(np.array(scores, dtype=np.float64))
            correct.append(hit & ~skip)
            ignored.append(skip)
    return Matches(
        truth,
        np.concatenate(image).astype(np.int64),
        np.concatenate(category).astype(np.int64),
        np.concatenate(score),
        np.concatenate(correct),
        np.concatenate(ignored),
    )


def _no_rows(dtype: type) -> NDArray[Any]:
    return np.zeros((0, len(IOU_THRESHOLDS)), dtype=dtype)


def coco_truth(
    truth: Mapping[str, Boxes],
    image_ids: tuple[str, ...],
    classes: int,
    image_sizes: Mapping[str, tuple[int, int]],
) -> dict[str, Any]:
    """COCO's annotation dictionary; image number n has id n + 1, class c has id c + 1."""
    annotations: list[dict[str, Any]] = []
    for number, name in enumerate(image_ids, start=1):
        true = truth[name]
        crowd = true.crowd if true.crowd is not None else np.zeros(len(true.classes), dtype=bool)
        for box, category, is_crowd in zip(_xywh(true.boxes), true.classes, crowd, strict=True):
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
    return coco_frame([image_sizes[name] for name in image_ids], classes) | {"annotations": annotations}


def coco_frame(sizes: Sequence[tuple[int, int]], classes: int) -> dict[str, Any]:
    """COCO's images, given as (height, width) in pixels, and categories: number n has id n + 1."""
    images = [{"id": number, "height": height, "width": width} for number, (height, width) in enumerate(sizes, 1)]
    categories = [{"id": index + 1, "name": str(index)} for index in range(classes)]
    return {"images": images, "categories": categories}


def coco_predictions(
    predictions: Mapping[str, DetectionPrediction], image_ids: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    """COCO's results one by one, with the ids of `coco_truth`."""
    for number, found in enumerate((predictions[name] for name in image_ids), start=1):
        for box, category, score in zip(_xywh(found.boxes), found.classes, found.scores, strict=True):
            yield {"image_id": number, "category_id": int(category) + 1, "bbox": box, "score": float(score)}


def _xywh(boxes: NDArray[np.floating]) -> list[list[float]]:
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]]).tolist()


def _silent(*_: object) -> None:
    """Takes the library's messages."""


def check_images(predictions: Mapping[str, Any], truth: Mapping[str, Any], image_sizes: Mapping[str, Any]) -> None:
    """Raise RecordsError unless there are images, and predictions, truth and sizes are of the same ones."""
    if not truth:
        raise RecordsError("no images: expected the true objects of at least one image")
    given: dict[str, set[str]] = {"prediction": set(predictions), "size": set(image_sizes)}
    for what, names in given.items():
        if missing := sorted(truth.keys() - names):
            raise RecordsError(f"image {missing[0]!r} has no {what} ({len(missing)} such images)")
    if unknown := sorted(given["prediction"] - truth.keys()):
        raise RecordsError(f"image {unknown[0]!r} has a prediction but no truth ({len(unknown)} such images)")


def _check_truth(name: str, truth: Boxes, classes: int, size: tuple[int, int]) -> None:
    fail = _failure(f"image {name!r}, truth")
    _check_boxes(truth.boxes, truth.classes, classes, fail)
    if truth.crowd is not None and len(truth.crowd) != len(truth.classes):
        raise fail(f"{len(truth.classes)} boxes, but {len(truth.crowd)} crowd flags")
    boxes, (height, width) = truth.boxes, size
    outside = (boxes[:, 0] >= width) | (boxes[:, 1] >= height) | (boxes[:, 2] <= 0) | (boxes[:, 3] <= 0)
    if outside.any():
        raise fail(f"box {boxes[outside][0].tolist()} lies outside the image of {height} x {width} pixels")


def _check_prediction(name: str, prediction: DetectionPrediction, classes: int) -> None:
    fail = _failure(f"image {name!r}, prediction")
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
