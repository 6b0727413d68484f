"""Canonical datasets: dataset.json, checked when it is read, and the images and labels of each split."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import images
from .labels import IGNORE_INDEX, DatasetError, Instance, read_boxes, read_category, read_instances

INFO_FILE = "dataset.json"
UNPAIRED = "unpaired"  # in dataset.json's source: real degraded photos without clean versions
SPLIT_NAME = re.compile(r"[A-Za-z0-9][\w.@-]*")  # a folder name that stays inside the dataset


@dataclass(frozen=True)
class DatasetInfo:
    """The content of dataset.json.

    Attributes:
        name: the dataset's name.
        classes: class names in index order, by kind of labels (`LABELS`).
        splits: number of images by split.
        source: where the data comes from, as the source describes it.
        ignore_index: the value of ignored pixels in masks.
        groups: of images that are not independent (a video, a site): for each split the group of an image id. An
            image without a group is independent of all others.
    """

    name: str
    classes: dict[str, list[str]]
    splits: dict[str, int]
    source: dict[str, Any]
    ignore_index: int = IGNORE_INDEX
    groups: dict[str, dict[str, str]] = field(default_factory=dict)

    def with_splits(self, splits: Mapping[str, int]) -> "DatasetInfo":
        """The same dataset with some of its splits, or with copies of them such as test@1.

        Args:
            splits: number of images by split.
        """
        kept = {_base(split) for split in splits}
        groups = {split: groups for split, groups in self.groups.items() if split in kept}
        return replace(self, splits=dict(splits), groups=groups)

    def classes_of(self, labels: str, task: str) -> list[str]:
        """The class names of the labels that a task is scored with.

        Raises:
            DatasetError: the dataset has no such labels; the text lists those that it has.
        """
        if not self.classes.get(labels):
            known = ", ".join(name for name, classes in self.classes.items() if classes) or "no task"
            raise DatasetError(
                f"tasks: dataset {self.name!r} has no labels for {task}, only for {known}. "
                f"Remove {task} from tasks in params.yaml, or use another dataset"
            )
        return self.classes[labels]


def read_info(path: Path) -> DatasetInfo:
    """Read a dataset.json.

    Raises:
        DatasetError: the file is missing or not JSON, or a key is missing, unknown or of the wrong type.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        info = DatasetInfo(**content)
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise DatasetError(
            f"{path}: not a valid {INFO_FILE} ({' '.join(str(error).split())}). Run prepare again"
        ) from error
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
    ("name", lambda value: isinstance(value, str), "a string"),
    ("classes", _is_classes, "lists of class names by kind of labels"),
    ("splits", _is_splits, "the number of images of each split, such as {'train': 10}"),
    ("source", lambda value: isinstance(value, dict), "a mapping"),
    ("ignore_index", lambda value: type(value) is int and 0 <= value <= IGNORE_INDEX, f"0 to {IGNORE_INDEX}"),
    ("groups", _is_groups, "names of groups by split and image id"),
)


@dataclass(frozen=True)
class Split:
    """One split of a dataset: its folder and the sorted ids of its images."""

    folder: Path
    ids: tuple[str, ...] = field(repr=False)

    def evenly_spaced(self, count: int) -> list[str]:
        """At most `count` of the ids, evenly spaced: nobody picked them."""
        places = np.linspace(0, len(self.ids) - 1, min(count, len(self.ids))).round().astype(int)
        return [self.ids[place] for place in places]

    def size(self, image_id: str) -> tuple[int, int]:
        """(height, width) in pixels, from the header of the image's file."""
        return images.png_size(self.folder / "images" / f"{image_id}.png")

    def image(self, image_id: str) -> NDArray[np.uint8]:
        """The image, uint8 RGB (H, W, 3)."""
        return images.read_image(self.folder / "images" / f"{image_id}.png")

    def mask(self, image_id: str) -> NDArray[np.uint8]:
        """The segmentation mask: class indices, uint8 (H, W); 255 = ignored."""
        return images.read_mask(self.folder / "masks" / f"{image_id}.png")

    def depth(self, image_id: str) -> NDArray[np.float32] | None:
        """The depth map in metres, float32 (H, W), or None if the dataset has no depth."""
        path = self.folder / "depth" / f"{image_id}.png"
        return images.read_depth(path) if path.exists() else None

    def boxes(self, image_id: str) -> NDArray[np.float64]:
        """Detection boxes (K, 5): class index, centre x, centre y, width, height, normalised to [0, 1]."""
        return read_boxes(self.folder / "labels" / f"{image_id}.txt")

    def ignored(self, image_id: str) -> NDArray[np.float64]:
        """Boxes of crowds (K, 5), in the format of `boxes`; empty if the dataset marks none."""
        path = self.folder / "ignored" / f"{image_id}.txt"
        return read_boxes(path) if path.exists() else np.empty((0, 5))

    def instances(self, image_id: str) -> tuple[Instance, ...]:
        """The masks of all objects and crowds of an image."""
        return read_instances(self.folder / "instances" / f"{image_id}.json")

    def category(self, image_id: str) -> int:
        """The class index of an image."""
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
            DatasetError: dataset.json is missing or not valid.
        """
        return cls(folder, read_info(folder / INFO_FILE))

    @cached_property
    def evaluation_split(self) -> str:
        """The split that results are reported on: test, or val if there is no test split."""
        return "test" if any(_base(name) == "test" for name in self.info.splits) else "val"

    @cached_property
    def evaluation_splits(self) -> tuple[str, ...]:
        """The evaluation split, or its copies, one for each severity: `test@1`, `test@3`, ..."""
        return tuple(name for name in self.info.splits if _base(name) == self.evaluation_split)

    @property
    def evaluation_groups(self) -> dict[str, str]:
        """The group of each image of the evaluation split that has one; all copies of the split share them."""
        return self.info.groups.get(self.evaluation_split, {})

    @property
    def has_clean_images(self) -> bool:
        """Whether clean versions of the evaluation images exist."""
        return not self.info.source.get(UNPAIRED, False)

    def split(self, name: str) -> Split:
        """Open one split.

        Raises:
            DatasetError: no such split, or its files do not match the recorded count.
        """
        if name not in self.info.splits:
            raise DatasetError(f"{self.folder}: no split {name!r}. Choose one of {', '.join(self.info.splits)}")
        ids = tuple(sorted(path.stem for path in (self.folder / name / "images").glob("*.png")))
        if len(ids) != self.info.splits[name]:
            raise DatasetError(
                f"{self.folder / name / 'images'}: {len(ids)} images, but {INFO_FILE} says {self.info.splits[name]}. "
                "Run the stage that wrote this folder again"
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
