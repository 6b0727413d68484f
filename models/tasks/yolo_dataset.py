"""A training split on disk in ultralytics' layout, and masks as its polygons."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .contract import LabelledSplit
from .yolo_library import library

DATA_FILE = "data.yaml"


def write_yolo_dataset(split: LabelledSplit, classes: list[str], folder: Path, labels: Callable[[str], str]) -> Path:
    """Write a split's images and labels in ultralytics' layout into a scratch folder.

    Images are copied, not linked: ultralytics follows links and writes its label cache beside the labels.

    Args:
        split: the training split.
        classes: names, in index order.
        folder: its content is removed first.
        labels: image id -> the lines of its label file.

    Returns:
        The folder; its `data.yaml` names the images and the classes.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for kind in ("images", "labels"):
        (folder / kind / "train").mkdir(parents=True)
    for image_id in split.ids:
        shutil.copyfile(split.folder / "images" / f"{image_id}.png", folder / "images" / "train" / f"{image_id}.png")
        (folder / "labels" / "train" / f"{image_id}.txt").write_text(labels(image_id))
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

    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    parts = [contour.reshape(-1, 2) for contour in contours]
    parts = [part if len(part) >= 3 else _bounding_corners(part) for part in parts]
    if not parts:
        return np.zeros((0, 2))
    if len(parts) > 1:
        parts = merge_multi_segment([part.ravel().tolist() for part in parts])
    return np.concatenate(parts).astype(np.float64)


def _bounding_corners(part: NDArray[Any]) -> NDArray[Any]:
    """The corners of a part that is a point or a line and so has no polygon."""
    x, y, width, height = cv2.boundingRect(part)
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])
