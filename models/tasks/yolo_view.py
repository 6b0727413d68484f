"""A training split as ultralytics wants to find it on disk."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from models.tasks.contract import LabelledSplit

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
