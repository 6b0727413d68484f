"""Labelled objects: boxes and outlines of a source, checked and turned into the labels of a sample."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..labels import DatasetError, Instance, decode_mask
from ..samples import Fault
from .class_map import ClassMap

# Labels that reach less than this outside the image are cut at its edge; others are faults. The share is ultralytics'.
OVERHANG_SHARE = 0.01
OVERHANG_PIXELS = 1.0
MOST_CLASSES = 255  # of an 8-bit mask, in which 255 means ignored

Box = tuple[float, float, float, float]


class LabelError(ValueError):
    """A label that cannot be used; the message is the text of its fault."""


@dataclass(frozen=True)
class LabelledObject:
    """One labelled object.

    Attributes:
        category: class index in `ClassMap.objects`.
        box: (left, top, right, bottom) in pixels.
        ignored: whether it counts neither as an object nor as background: crowds and difficult objects.
        counts: its mask as COCO's compressed run lengths.
    """

    category: int
    box: Box
    ignored: bool = False
    counts: str | None = None


def object_classes(classes: ClassMap, masks: bool, category: bool, key: str) -> dict[str, list[str]]:
    """Class names by task of a source that labels objects.

    Args:
        classes: the class map.
        masks: whether objects have outlines.
        category: whether images get a class.
        key: the section of params.yaml, for error messages.

    Raises:
        DatasetError: there are more classes than an 8-bit mask can hold.
    """
    tasks = {"detection": classes.objects}
    if masks:
        if len(classes.pixels) > MOST_CLASSES:
            raise DatasetError(
                f"{key}.masks: {len(classes.pixels)} classes, but a mask holds at most {MOST_CLASSES}. "
                f"Keep fewer classes with {key}.map, or set {key}.masks to false"
            )
        tasks |= {"segmentation": classes.pixels, "instance-segmentation": classes.objects}
    if category:
        tasks["classification"] = classes.objects
    return tasks


def object_labels(
    objects: Sequence[LabelledObject],
    shape: tuple[int, int],
    classes: ClassMap,
    *,
    masks: bool = False,
    category: bool = False,
) -> dict[str, Any]:
    """The label fields of `Sample` made from objects.

    Args:
        objects: all objects of an image.
        shape: (height, width) of the image in pixels.
        classes: the class map of the dataset.
        masks: whether to make instances and a mask from outlines. Larger objects are painted first, and crowds are
            painted as their class, as in COCO-Stuff.
        category: whether the image gets the class with the largest area, of outlines if `masks`, else of boxes.
    """
    labels: dict[str, Any] = {
        "boxes": _rows([labelled for labelled in objects if not labelled.ignored], shape),
        "ignored": _rows([labelled for labelled in objects if labelled.ignored], shape),
    }
    if masks:
        outlines = [decode_mask(labelled.counts or "", shape) for labelled in objects]
        labels["mask"] = _paint(objects, outlines, shape, classes)
        labels["instances"] = tuple(Instance(o.category, o.counts or "", o.ignored) for o in objects)
        areas = [float(outline.sum()) for outline in outlines]
    else:
        areas = [(o.box[2] - o.box[0]) * (o.box[3] - o.box[1]) for o in objects]
    if category:
        labels["category"] = _dominant(objects, areas, len(classes.objects))
    return labels


def fitted_box(box: Box, shape: tuple[int, int]) -> Box:
    """The box, (left, top, right, bottom) in pixels, cut at the edge of an image of (height, width) `shape`.

    Raises:
        LabelError: the box reaches too far outside the image, has no area, or is not finite.
    """
    height, width = shape
    shown = f"({', '.join(f'{value:.6g}' for value in box)}) in {width} x {height} pixels"
    if not np.isfinite(box).all():
        raise LabelError(f"box that is no number: {shown}")
    if not (box[0] < box[2] and box[1] < box[3]):
        raise LabelError(f"box without area: {shown}")
    margins = [max(OVERHANG_PIXELS, OVERHANG_SHARE * side) for side in (width, height)]
    low = min(box[0] + margins[0], box[1] + margins[1])
    if low < 0 or box[2] > width + margins[0] or box[3] > height + margins[1]:
        raise LabelError(f"box outside the image: {shown}")
    left, right = np.clip([box[0], box[2]], 0, width)
    top, bottom = np.clip([box[1], box[3]], 0, height)
    if left >= right or top >= bottom:
        raise LabelError(f"box without area: {shown}")
    return float(left), float(top), float(right), float(bottom)


def polygon_counts(polygons: Any, shape: tuple[int, int]) -> str:
    """Convert polygons [[x0, y0, x1, y1, ...], ...] in pixels to one mask as compressed run lengths.

    Raises:
        LabelError: fewer than three corners, an odd number of coordinates, or no pixel covered.
    """
    from faster_coco_eval.core import mask as coco

    try:
        arrays = [np.asarray(polygon, dtype=np.float64) for polygon in polygons]
    except (TypeError, ValueError, OverflowError) as error:
        raise LabelError("malformed outline: a polygon that is not a list of numbers") from error
    for array in arrays:
        if array.ndim != 1 or array.size < 6 or array.size % 2:
            raise LabelError(
                f"malformed outline: a polygon of {array.size} numbers; expected x, y of 3 or more corners"
            )
        _check_corners(array, shape)
    if not arrays:
        raise LabelError("malformed outline: no polygon")
    merged = coco.merge(coco.frPyObjects([array.tolist() for array in arrays], *shape))
    return _text(merged)


def run_length_counts(code: Mapping[str, Any], shape: tuple[int, int]) -> str:
    """Convert COCO's run lengths, compressed or not, to compressed ones.

    Raises:
        LabelError: they are malformed, have another size than `shape`, or cover no pixel.
    """
    from faster_coco_eval.core import mask as coco

    size, counts = code.get("size"), code.get("counts")
    if size != list(shape):
        raise LabelError(f"size differs: run lengths of {size}, image of {list(shape)} (height, width)")
    try:
        if isinstance(counts, str):
            merged = {"size": list(shape), "counts": counts.encode("ascii")}
            decode_mask(counts, shape)
        else:
            merged = coco.frPyObjects({"size": list(shape), "counts": _whole(counts)}, *shape)
            coco.decode(merged)
    except (TypeError, ValueError, RuntimeError) as error:
        raise LabelError(f"malformed outline: {' '.join(str(error).split())[:120]}") from error
    return _text(merged)


def report(faults: list[Fault], where: str, error: LabelError) -> None:
    """Add an unusable label to the faults."""
    faults.append(Fault(where, str(error), "label"))


def _check_corners(array: NDArray[np.float64], shape: tuple[int, int]) -> None:
    if not np.isfinite(array).all():
        raise LabelError("malformed outline: a corner that is no number")
    for values, side in ((array[0::2], shape[1]), (array[1::2], shape[0])):
        margin = max(OVERHANG_PIXELS, OVERHANG_SHARE * side)
        if values.min() < -margin or values.max() > side + margin:
            raise LabelError(f"outline outside the image: {values.min():.6g} to {values.max():.6g} of {side} pixels")


def _whole(counts: Any) -> list[int]:
    if not isinstance(counts, list) or not all(isinstance(n, int) and n >= 0 for n in counts):
        raise ValueError("counts: expected a string or a list of whole numbers")
    return counts


def _text(code: Mapping[str, Any]) -> str:
    from faster_coco_eval.core import mask as coco

    if not int(coco.area(code)):
        raise LabelError("outline without area: it covers no pixel")
    return str(code["counts"].decode("ascii"))


def _rows(objects: Sequence[LabelledObject], shape: tuple[int, int]) -> NDArray[np.float64]:
    height, width = shape
    rows = []
    for labelled in objects:
        x0, y0, x1, y1 = labelled.box
        centre = (x0 + x1) / 2 / width, (y0 + y1) / 2 / height
        rows.append((labelled.category, *centre, (x1 - x0) / width, (y1 - y0) / height))
    return np.array(rows, dtype=np.float64).reshape(-1, 5)


def _paint(
    objects: Sequence[LabelledObject], masks: Sequence[NDArray[np.uint8]], shape: tuple[int, int], classes: ClassMap
) -> NDArray[np.uint8]:
    painted = np.full(shape, classes.rest_index, dtype=np.uint8)
    for index in sorted(range(len(objects)), key=lambda i: -int(masks[i].sum())):
        painted[masks[index] > 0] = classes.pixel_of_object(objects[index].category)
    return painted


def _dominant(objects: Sequence[LabelledObject], areas: Sequence[float], classes: int) -> int | None:
    totals = np.zeros(classes)
    for labelled, area in zip(objects, areas, strict=True):
        if not labelled.ignored:
            totals[labelled.category] += area
    return int(totals.argmax()) if totals.any() else None
