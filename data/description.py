"""dataset.json: what a canonical dataset says about itself, checked when it is read."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
