"""COCO's matching of predicted to true objects, boxes or masks, by faster-coco-eval."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.records import RecordsError
from pipeline.metrics.scoring import Overlap

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
MAX_DETECTIONS = 100  # for each image and class
BLOCK = 100  # images that are matched at a time
ALL = "all"
# COCO's ranges of areas in square pixels, of the box or of the mask; both ends are included.
AREAS = {ALL: (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}


@dataclass(frozen=True)
class Matches:
    """Detections image by image, in each image class by class by falling score; at most 100 of each."""

    truth: NDArray[np.int64]  # (N, C) objects, crowds not counted
    image: NDArray[np.int64]  # (D,)
    category: NDArray[np.int64]  # (D,)
    score: NDArray[np.float64]  # (D,)
    correct: NDArray[np.bool_]  # (D, T)
    ignored: NDArray[np.bool_]  # (D, T)


ByArea = Mapping[str, Matches]  # by the names of AREAS


def match_blocks(image_ids: tuple[str, ...], match: Callable[[tuple[str, ...]], ByArea]) -> ByArea:
    """Match blocks of images one after another, because the library keeps a Python object for each box.

    The result is the same as of all images at once.
    """
    starts = range(0, len(image_ids), BLOCK)
    blocks = [(start, match(image_ids[start : start + BLOCK])) for start in starts]
    return {area: join_blocks([(start, matches[area]) for start, matches in blocks]) for area in AREAS}


def join_blocks(blocks: Sequence[tuple[int, Matches]]) -> Matches:
    """The matches of all images from those of blocks, each given with the number of its first image."""
    numbered = [replace(matches, image=matches.image + start) for start, matches in blocks]
    fields = ("truth", "image", "category", "score", "correct", "ignored")
    return Matches(*(np.concatenate([getattr(matches, field) for matches in numbered]) for field in fields))


def match_objects(labels: dict[str, Any], results: Iterable[dict[str, Any]], overlap: Overlap) -> ByArea:
    """Match COCO's results to COCO's annotations by the overlap of boxes or of masks, once for each range of areas.

    Objects outside a range are ignored as crowds are, and so are detections outside it that match nothing.
    """
    cells = _evaluate(labels, results, overlap, IOU_THRESHOLDS, list(AREAS.values()))
    return {area: _gather(cells[:, index]) for index, area in enumerate(AREAS)}


def pair_objects(
    labels: dict[str, Any], results: Iterable[dict[str, Any]], overlap: Overlap, threshold: float
) -> list[tuple[int, int]]:
    """Pairs of matched results and annotations at one IoU threshold, as indices into their lists.

    A crowd may be matched several times.
    """
    cells = _evaluate(labels, results, overlap, np.array([threshold]), [AREAS[ALL]])
    # The C++ result shows its fields only through the state that it is pickled from; ids count from 1.
    return [(pair[0] - 1, pair[1] - 1) for cell in cells.ravel() for pair in cell.__getstate__()[5]]


def _evaluate(
    labels: dict[str, Any],
    results: Iterable[dict[str, Any]],
    overlap: Overlap,
    thresholds: NDArray[np.float64],
    areas: Sequence[Sequence[float]],
) -> NDArray[Any]:
    """The library's result for each class, range of areas and image, (C, A, N)."""
    from faster_coco_eval import COCO, COCOeval_faster

    truth = COCO(labels, print_function=_silent)
    predicted = truth.loadRes([dict(result) for result in results])  # copies, because the library changes them
    evaluator = COCOeval_faster(truth, predicted, overlap, print_function=_silent, separate_eval=True)
    evaluator.params.iouThrs = thresholds
    evaluator.params.maxDets = [MAX_DETECTIONS]
    evaluator.params.areaRng = [list(limits) for limits in areas]
    evaluator.params.areaRngLbl = [str(number) for number in range(len(areas))]
    evaluator.evaluate()
    # Results lie class by class, in each class area range by area range.
    shape = len(labels["categories"]), len(areas), len(labels["images"])
    return np.array(evaluator._evalImgs_cpp, dtype=object).reshape(shape)


def _gather(cells: NDArray[Any]) -> Matches:
    """The matches in the library's results for each class and image, (C, N)."""
    classes, images = cells.shape
    truth = np.zeros((images, classes), dtype=np.int64)
    image, category, score, correct, ignored = [], [], [], [], []
    for n in range(images):
        for c in range(classes):
            # The C++ result shows its fields only through the state that it is pickled from.
            matched_ids, _, scores, truth_ignored, detection_ignored, *_ = cells[c, n].__getstate__()
            count = len(scores)
            skip = np.array(detection_ignored, dtype=bool).reshape(-1, count).T if count else _no_rows()
            hit = np.array(matched_ids, dtype=np.int64).reshape(-1, count).T != 0 if count else _no_rows()
            truth[n, c] = np.count_nonzero(~np.array(truth_ignored, dtype=bool))
            image.append(np.full(count, n))
            category.append(np.full(count, c))
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


def _no_rows() -> NDArray[np.bool_]:
    return np.zeros((0, len(IOU_THRESHOLDS)), dtype=bool)


def coco_frame(sizes: Sequence[tuple[int, int]], classes: int) -> dict[str, Any]:
    """COCO's images, of (height, width) in pixels, and categories; number n has id n + 1."""
    images = [{"id": number, "height": height, "width": width} for number, (height, width) in enumerate(sizes, 1)]
    categories = [{"id": index + 1, "name": str(index)} for index in range(classes)]
    return {"images": images, "categories": categories}


def _silent(*_: object) -> None:
    """Takes the library's messages."""


def check_images(predictions: Mapping[str, Any], truth: Mapping[str, Any], image_sizes: Mapping[str, Any]) -> None:
    """Raise RecordsError unless there are images, and predictions, truth and sizes are of the same ones."""
    if not truth:
        raise RecordsError("no images: expected the true objects of at least one image")
    image_ids: dict[str, set[str]] = {"prediction": set(predictions), "size": set(image_sizes)}
    for what, known in image_ids.items():
        if missing := sorted(truth.keys() - known):
            raise RecordsError(f"image {missing[0]!r} has no {what} ({len(missing)} such images)")
    if unknown := sorted(image_ids["prediction"] - truth.keys()):
        raise RecordsError(f"image {unknown[0]!r} has a prediction but no truth ({len(unknown)} such images)")
