"""dataset.json: what a canonical dataset says about itself, checked when it is read."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import images

IGNORE_INDEX = 255
INFO_FILE = "dataset.json"
SPLIT_NAME = re.compile(r"[A-Za-z0-9][\w.@-]*")  # they are folders: none leads out of the dataset's


class DatasetError(ValueError):
    """A dataset folder that does not hold what it must; the text names the file."""


@dataclass(frozen=True)
class DatasetInfo:
    """What dataset.json says. `classes` maps kinds of labels (`LABELS`) to their class names, in index order."""

    name: str
    classes: dict[str, list[str]]
    splits: dict[str, int]
    source: dict[str, Any]
    ignore_index: int = IGNORE_INDEX

    def classes_of(self, labels: str, task: str) -> list[str]:
        """The class names of the labels that a task is judged by.

        Raises:
            DatasetError: the dataset has no such labels; the text lists those that it has.
        """
        if not self.classes.get(labels):
            known = ", ".join(name for name, classes in self.classes.items() if classes) or "no task at all"
            raise DatasetError(
                f"tasks: the data set {self.name!r} has no labels for {task}, but for {known}; "
                f"take {task} out of tasks in params.yaml, or choose other data"
            )
        return self.classes[labels]


def read_info(path: Path) -> DatasetInfo:
    """Read a dataset.json.

    Raises:
        DatasetError: it is missing, is no JSON, or an entry is missing, unknown or of another kind.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        info = DatasetInfo(**content)
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not a dataset description ({' '.join(str(error).split())})") from error
    for key, fits, expected in CHECKS:
        if not fits(getattr(info, key)):
            raise DatasetError(f"{path}: {key}: expected {expected}, got {str(getattr(info, key))[:80]!r}")
    return info


def _is_classes(value: Any) -> bool:
    lists = isinstance(value, dict) and all(isinstance(names, list) for names in value.values())
    return lists and all(isinstance(name, str) for names in value.values() for name in names)


def _is_splits(value: Any) -> bool:
    named = isinstance(value, dict) and all(SPLIT_NAME.fullmatch(name) for name in value)
    return named and all(type(count) is int and count >= 0 for count in value.values())


CHECKS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("name", lambda value: isinstance(value, str), "a text"),
    ("classes", _is_classes, "lists of class names by kind of labels"),
    ("splits", _is_splits, "numbers of images by split, such as {'train': 10}"),
    ("source", lambda value: isinstance(value, dict), "keys and values"),
    ("ignore_index", lambda value: type(value) is int and 0 <= value <= IGNORE_INDEX, f"0 to {IGNORE_INDEX}"),
)


UNPAIRED = "unpaired"  # in dataset.json's source: real degraded images, which have no clean counterpart
LABELS = ("detection", "segmentation", "instance-segmentation", "classification")  # keys of a dataset's classes
LONGEST_INDEX = 9  # digits of a class index
LABEL_FOLDERS = ("labels", "ignored", "instances", "categories", "masks")


@dataclass(frozen=True)
class Instance:
    """One object, or a crowd of them, with its mask in COCO's compressed run-length form (size: the image's)."""

    category: int
    counts: str
    crowd: bool = False


@dataclass(frozen=True)
class Split:
    """One split of a dataset: where its files lie and which ids it has."""

    folder: Path
    ids: tuple[str, ...] = field(repr=False)

    def image(self, name: str) -> NDArray[np.uint8]:
        """uint8 RGB (H, W, 3)."""
        return images.read_image(self.folder / "images" / f"{name}.png")

    def mask(self, name: str) -> NDArray[np.uint8]:
        """uint8 (H, W) class indices."""
        return images.read_mask(self.folder / "masks" / f"{name}.png")

    def depth(self, name: str) -> NDArray[np.float32] | None:
        """float32 (H, W) metres, or None where the dataset has no depth."""
        path = self.folder / "depth" / f"{name}.png"
        return images.read_depth(path) if path.exists() else None

    def boxes(self, name: str) -> NDArray[np.float64]:
        """(K, 5): class index, centre x, centre y, width, height, normalised to [0, 1]."""
        return read_boxes(self.folder / "labels" / f"{name}.txt")

    def ignored(self, name: str) -> NDArray[np.float64]:
        """(K, 5) as `boxes`: crowds; none where the dataset does not know any."""
        path = self.folder / "ignored" / f"{name}.txt"
        return read_boxes(path) if path.exists() else np.empty((0, 5))

    def instances(self, name: str) -> tuple[Instance, ...]:
        """The masks of all objects and crowds."""
        return read_instances(self.folder / "instances" / f"{name}.json")

    def category(self, name: str) -> int:
        """The class index of the whole image."""
        return read_category(self.folder / "categories" / f"{name}.txt")


@dataclass(frozen=True)
class Dataset:
    """A canonical dataset folder, opened for reading."""

    folder: Path
    info: DatasetInfo

    @classmethod
    def open(cls, folder: Path) -> "Dataset":
        """Open a folder.

        Raises:
            DatasetError: there is no valid dataset.json.
        """
        return cls(folder, read_info(folder / INFO_FILE))

    @cached_property
    def evaluation_split(self) -> str:
        """The split that results are reported on: test, or val where there is no test."""
        return "test" if any(_base(name) == "test" for name in self.info.splits) else "val"

    @cached_property
    def evaluation_splits(self) -> tuple[str, ...]:
        """That split, or in a degraded dataset of several severities one copy for each: `test@1`, `test@3`, ..."""
        return tuple(name for name in self.info.splits if _base(name) == self.evaluation_split)

    @property
    def has_clean_images(self) -> bool:
        """Whether the images of the evaluation split exist without degradation, too."""
        return not self.info.source.get(UNPAIRED, False)

    def split(self, name: str) -> Split:
        """Open one split.

        Raises:
            DatasetError: no such split, or its files do not match the recorded count.
        """
        if name not in self.info.splits:
            raise DatasetError(f"{self.folder}: no split {name!r}; there are {', '.join(self.info.splits)}")
        ids = tuple(sorted(path.stem for path in (self.folder / name / "images").glob("*.png")))
        if len(ids) != self.info.splits[name]:
            raise DatasetError(
                f"{self.folder / name / 'images'}: {len(ids)} images, but {INFO_FILE} says {self.info.splits[name]}"
            )
        return Split(self.folder / name, ids)


def write_info(folder: Path, info: DatasetInfo) -> None:
    """Write dataset.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INFO_FILE).write_text(json.dumps(asdict(info), indent=1) + "\n")


def read_boxes(path: Path) -> NDArray[np.float64]:
    """Read YOLO lines as (K, 5).

    Raises:
        DatasetError: the file cannot be read, or a line is not a class index and four numbers; the text names
            file and line.
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
    """Write (K, 5) boxes as YOLO lines."""
    lines = [f"{int(c)} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for c, x, y, w, h in boxes]
    path.write_text("".join(lines))


def read_instances(path: Path) -> tuple[Instance, ...]:
    """Read the masks of one image's objects.

    Raises:
        DatasetError: the file is missing or does not hold them.
    """
    try:
        found = tuple(Instance(**entry) for entry in json.loads(_text(path, "a list of instances")))
    except (TypeError, json.JSONDecodeError, RecursionError) as error:
        raise DatasetError(f"{path}: expected a list of instances ({' '.join(str(error).split())})") from error
    for one in found:
        if type(one.category) is not int or one.category < 0 or not isinstance(one.counts, str):
            raise DatasetError(f"{path}: expected instances of a class index and run lengths, got {str(one)[:80]}")
    return found


def write_instances(path: Path, instances: Iterable[Instance]) -> None:
    """Write the masks of one image's objects."""
    path.write_text(json.dumps([asdict(instance) for instance in instances]) + "\n")


def read_category(path: Path) -> int:
    """Read the class index of one image.

    Raises:
        DatasetError: the file is missing or is not a whole number from 0 on.
    """
    text = _text(path, "one class index").strip()
    if not (text.isascii() and text.isdigit() and len(text) <= LONGEST_INDEX):
        raise DatasetError(f"{path}: expected one class index, got {text[:60]!r}")
    return int(text)


def _text(path: Path, expected: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: expected {expected} ({error})") from error


def _base(split: str) -> str:
    return split.partition("@")[0]
