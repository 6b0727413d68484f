"""A training split as ultralytics wants to find it on disk."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.tasks.contract import LabelledSplit
from models.tasks.yolo_library import library

DATA_FILE = "data.yaml"


def training_view(split: LabelledSplit, classes: list[str], folder: Path, labels: Callable[[str], str]) -> Path:
    """Copy a split's images and write its labels into a scratch folder with ultralytics' layout and description.

    Real copies: ultralytics writes its label cache beside the labels, and follows links to where they lead.

    Args:
        split: the training split.
        classes: names, in index order.
        folder: what is there is removed.
        labels: image id -> the lines of its label file.

    Returns:
        The folder; its `data.yaml` names the images and the classes.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for kind in ("images", "labels"):
        (folder / kind / "train").mkdir(parents=True)
    for name in split.ids:
        shutil.copyfile(split.folder / "images" / f"{name}.png", folder / "images" / "train" / f"{name}.png")
        (folder / "labels" / "train" / f"{name}.txt").write_text(labels(name))
    description = {
        "path": str(folder.resolve()),
        "train": "images/train",
        "val": "images/train",
        "names": dict(enumerate(classes)),
    }
    (folder / DATA_FILE).write_text(json.dumps(description))  # JSON is YAML
    return folder


def outline(mask: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(P, 2) x and y in pixels of one polygon around all parts of a mask; holes are filled."""
    library()
    from ultralytics.data.converter import merge_multi_segment

    found, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    shapes = [part.reshape(-1, 2) for part in found]
    shapes = [part if len(part) >= 3 else _frame(part) for part in shapes]
    if not shapes:
        return np.zeros((0, 2))
    if len(shapes) > 1:
        shapes = merge_multi_segment([part.ravel().tolist() for part in shapes])
    return np.concatenate(shapes).astype(np.float64)


def _frame(part: NDArray[Any]) -> NDArray[Any]:
    """The corners of a part that is a point or a line, and so has no polygon."""
    x, y, width, height = cv2.boundingRect(part)
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])
