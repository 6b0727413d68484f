"""Masks of objects as COCO's run lengths, and COCO's matching of predicted to true ones."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.detection import DetectionRecords, records_of
from pipeline.metrics.matching import Matches, check_images, coco_frame, match_blocks, match_objects
from pipeline.metrics.records import RecordsError

Size = tuple[int, int]


@dataclass(frozen=True)
class InstancePrediction:
    """Objects that a network found in one image; K may be 0."""

    size: Size  # (height, width) of the image in pixels
    masks: tuple[str, ...]  # K times COCO's compressed run lengths, of the image's size
    scores: NDArray[np.floating]  # (K,)
    classes: NDArray[np.integer]  # (K,) class indices


@dataclass(frozen=True)
class Masks:
    """Objects that an image has; G may be 0."""

    masks: tuple[str, ...]  # G times COCO's compressed run lengths, of the image's size
    classes: NDArray[np.integer]  # (G,) class indices
    crowd: NDArray[np.bool_]  # (G,) groups of objects, which predictions may hit unpunished


def encode(masks: NDArray[np.uint8]) -> tuple[str, ...]:
    """(K, H, W) masks of 0 and 1 as COCO's compressed run lengths."""
    from faster_coco_eval.core import mask as coco

    if not len(masks):
        return ()
    counts = [run["counts"] for run in coco.encode(np.asfortranarray(masks.transpose(1, 2, 0)))]
    return tuple(text.decode() if isinstance(text, bytes) else text for text in counts)


def decode(counts: str, size: Size) -> NDArray[np.uint8]:
    """The (H, W) mask of 0 and 1 behind COCO's compressed run lengths."""
    from faster_coco_eval.core import mask as coco

    mask: NDArray[np.uint8] = np.ascontiguousarray(coco.decode(_run(counts, size)))
    return mask


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
    sizes = {name: found.size for name, found in predictions.items()}
    check_images(predictions, truth, sizes)
    ids = tuple(sorted(truth))
    for name in ids:
        for what, objects in (("truth", truth[name]), ("prediction", predictions[name])):
            _check(f"image {name!r}, {what}", objects.masks, objects.classes, len(class_names))

    def match(some: tuple[str, ...]) -> Matches:
        labels = coco_masks({name: truth[name] for name in some}, sizes, len(class_names))
        return match_objects(labels, coco_found(predictions, some), "segm")

    return records_of(match_blocks(ids, match), ids, class_names)


def coco_masks(truth: Mapping[str, Masks], sizes: Mapping[str, Size], classes: int) -> dict[str, Any]:
    """COCO's annotation dictionary; image number n, in the order of the ids, has id n + 1, class c has id c + 1."""
    ids = sorted(truth)
    return coco_frame([sizes[name] for name in ids], classes) | {"annotations": _annotations(truth, ids, sizes)}


def _annotations(truth: Mapping[str, Masks], ids: Sequence[str], sizes: Mapping[str, Size]) -> list[dict[str, Any]]:
    from faster_coco_eval.core import mask as coco

    annotations: list[dict[str, Any]] = []
    for number, name in enumerate(ids, start=1):
        for counts, category, crowd in zip(truth[name].masks, truth[name].classes, truth[name].crowd, strict=True):
            run = _run(counts, sizes[name])
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


def coco_found(predictions: Mapping[str, InstancePrediction], ids: Sequence[str]) -> Iterator[dict[str, Any]]:
    """COCO's results one by one, with the ids of `coco_masks`."""
    for number, found in enumerate((predictions[name] for name in ids), start=1):
        for counts, category, score in zip(found.masks, found.classes, found.scores, strict=True):
            yield {
                "image_id": number,
                "category_id": int(category) + 1,
                "segmentation": _run(counts, found.size),
                "score": float(score),
            }


def _run(counts: str, size: Size) -> dict[str, Any]:
    return {"size": list(size), "counts": counts}


def _check(where: str, masks: tuple[str, ...], indices: NDArray[np.integer], classes: int) -> None:
    if indices.shape != (len(masks),):
        raise RecordsError(f"{where}: {len(masks)} masks, but classes of shape {indices.shape}")
    if indices.size and not (indices.min() >= 0 and indices.max() < classes):
        raise RecordsError(f"{where}: expected class indices 0..{classes - 1}, got {indices.min()}..{indices.max()}")
