"""Label files of one image: boxes as YOLO lines, instances as JSON, the image's category, and run-length masks."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

IGNORE_INDEX = 255  # in masks
LABELS = ("detection", "segmentation", "instance-segmentation", "classification")  # keys of a dataset's classes
LABEL_FOLDERS = ("labels", "ignored", "instances", "categories", "masks")
LONGEST_INDEX = 9  # digits of a class index


class DatasetError(ValueError):
    """A dataset, or a file of it, that is not valid; the message names the file."""


@dataclass(frozen=True)
class Instance:
    """The mask of one object or one crowd.

    Attributes:
        category: class index.
        counts: the mask, of the image's size, as COCO's compressed run lengths.
        crowd: whether it is a crowd instead of one object.
    """

    category: int
    counts: str
    crowd: bool = False


def read_boxes(path: Path) -> NDArray[np.float64]:
    """Read YOLO lines as (K, 5): class index, centre x, centre y, width, height, normalised to [0, 1].

    Raises:
        DatasetError: the file cannot be read, or a line is not a class index and four numbers.
    """
    rows = []
    for number, line in enumerate(_text(path, "YOLO lines").splitlines(), start=1):
        try:
            row = [float(word) for word in line.split()]
        except ValueError:
            row = []
        if len(row) != 5 or not np.isfinite(row).all() or row[0] < 0 or row[0] != int(row[0]):
            raise DatasetError(f"{path}:{number}: expected 'class cx cy w h', got {line[:60]!r}")
        rows.append(row)
    return np.array(rows, dtype=np.float64).reshape(-1, 5)


def write_boxes(path: Path, boxes: Iterable[Iterable[float]]) -> None:
    """Write boxes (K, 5), as `read_boxes` returns them, as YOLO lines."""
    lines = [f"{int(c)} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for c, x, y, w, h in boxes]
    path.write_text("".join(lines))


def read_instances(path: Path) -> tuple[Instance, ...]:
    """Read the instances of one image.

    Raises:
        DatasetError: the file is missing or not a list of instances.
    """
    try:
        instances = tuple(Instance(**entry) for entry in json.loads(_text(path, "a list of instances")))
    except (TypeError, json.JSONDecodeError, RecursionError) as error:
        raise DatasetError(f"{path}: expected a list of instances ({' '.join(str(error).split())})") from error
    for instance in instances:
        if type(instance.category) is not int or instance.category < 0 or not isinstance(instance.counts, str):
            shown = str(instance)[:80]
            raise DatasetError(f"{path}: expected instances of a class index and run lengths, got {shown}")
    return instances


def write_instances(path: Path, instances: Iterable[Instance]) -> None:
    """Write the instances of one image as JSON."""
    path.write_text(json.dumps([asdict(instance) for instance in instances]) + "\n")


def read_category(path: Path) -> int:
    """Read the class index of one image.

    Raises:
        DatasetError: the file is missing or not a whole number >= 0.
    """
    text = _text(path, "one class index").strip()
    if not (text.isascii() and text.isdigit() and len(text) <= LONGEST_INDEX):
        raise DatasetError(f"{path}: expected one class index, got {text[:60]!r}")
    return int(text)


def decode_mask(counts: str, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode compressed run lengths to a mask (H, W) of 0 and 1; `shape` is (H, W)."""
    from faster_coco_eval.core import mask as coco

    return np.asarray(coco.decode({"size": list(shape), "counts": counts.encode("ascii")}), dtype=np.uint8)


def encode_mask(mask: NDArray[np.uint8]) -> str:
    """Encode a mask (H, W) of 0 and 1 as compressed run lengths."""
    from faster_coco_eval.core import mask as coco

    return str(coco.encode(np.asfortranarray(mask))["counts"].decode("ascii"))


def _text(path: Path, expected: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: expected {expected} ({error})") from error
