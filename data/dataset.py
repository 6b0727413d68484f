"""Canonical datasets: dataset.json, checked when it is read, and the images and labels of each split."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import images
from .labels import IGNORE_INDEX, DatasetError, Instance, read_boxes, read_category, read_instances

INFO_FILE = "dataset.json"
UNPAIRED = "unpaired"  # in dataset.json's source: real degraded images, which have no clean counterpart
SPLIT_NAME = re.compile(r"[A-Za-z0-9][\w.@-]*")  # a folder's name that cannot lead out of the dataset


@dataclass(frozen=True)
class DatasetInfo:
    """What dataset.json says.

    Attributes:
        classes: the class names of each kind of labels (`LABELS`), in index order.
        groups: of images that are not independent (a video, a site): for each split the group of an image id. An
            image without one is independent of all others.
    """

    name: str
    classes: dict[str, list[str]]
    splits: dict[str, int]
    source: dict[str, Any]
    ignore_index: int = IGNORE_INDEX
    groups: dict[str, dict[str, str]] = field(default_factory=dict)

    def classes_of(self, labels: str, task: str) -> list[str]:
        """The class names of the labels that a task is scored with.

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


def _is_groups(value: Any) -> bool:
    splits = isinstance(value, dict) and all(isinstance(groups, dict) for groups in value.values())
    return splits and all(isinstance(group, str) for groups in value.values() for group in groups.values())


CHECKS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("name", lambda value: isinstance(value, str), "a text"),
    ("classes", _is_classes, "lists of class names by kind of labels"),
    ("splits", _is_splits, "numbers of images by split, such as {'train': 10}"),
    ("source", lambda value: isinstance(value, dict), "keys and values"),
    ("ignore_index", lambda value: type(value) is int and 0 <= value <= IGNORE_INDEX, f"0 to {IGNORE_INDEX}"),
    ("groups", _is_groups, "names of groups by split and image id"),
)


@dataclass(frozen=True)
class Split:
    """One split of a dataset: where its files lie and which ids it has."""

    folder: Path
    ids: tuple[str, ...] = field(repr=False)

    def image(self, image_id: str) -> NDArray[np.uint8]:
        """uint8 RGB (H, W, 3)."""
        return images.read_image(self.folder / "images" / f"{image_id}.png")

    def mask(self, image_id: str) -> NDArray[np.uint8]:
        """uint8 (H, W) class indices."""
        return images.read_mask(self.folder / "masks" / f"{image_id}.png")

    def depth(self, image_id: str) -> NDArray[np.float32] | None:
        """float32 (H, W) metres, or None where the dataset has no depth."""
        path = self.folder / "depth" / f"{image_id}.png"
        return images.read_depth(path) if path.exists() else None

    def boxes(self, image_id: str) -> NDArray[np.float64]:
        """(K, 5): class index, centre x, centre y, width, height, normalised to [0, 1]."""
        return read_boxes(self.folder / "labels" / f"{image_id}.txt")

    def ignored(self, image_id: str) -> NDArray[np.float64]:
        """(K, 5) as `boxes`: crowds; none where the dataset does not know any."""
        path = self.folder / "ignored" / f"{image_id}.txt"
        return read_boxes(path) if path.exists() else np.empty((0, 5))

    def instances(self, image_id: str) -> tuple[Instance, ...]:
        """The masks of all objects and crowds."""
        return read_instances(self.folder / "instances" / f"{image_id}.json")

    def category(self, image_id: str) -> int:
        """The class index of the whole image."""
        return read_category(self.folder / "categories" / f"{image_id}.txt")


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
    def evaluation_groups(self) -> dict[str, str]:
        """The group of each image of the evaluation split that has one; all copies of the split share them."""
        return self.info.groups.get(self.evaluation_split, {})

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
    content = asdict(info)
    if not info.groups:
        del content["groups"]
    (folder / INFO_FILE).write_text(json.dumps(content, indent=1) + "\n")


def group_labels(image_ids: Sequence[str], groups: Mapping[str, str]) -> NDArray[np.intp]:
    """The index of each image's group, (N,), 0 to G - 1; an image without a group is a group of one.

    Args:
        image_ids: N ids.
        groups: the group of each id that has one.
    """
    names = [("group", groups[image_id]) if image_id in groups else ("image", image_id) for image_id in image_ids]
    index = {name: place for place, name in enumerate(dict.fromkeys(names))}
    return np.array([index[name] for name in names], dtype=np.intp)


def _base(split: str) -> str:
    return split.partition("@")[0]
