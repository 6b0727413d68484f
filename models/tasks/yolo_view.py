"""A training split as ultralytics wants to find it on disk."""

import json
import shutil
from pathlib import Path

from models.tasks.contract import LabelledSplit

DATA_FILE = "data.yaml"


def training_view(split: LabelledSplit, classes: list[str], folder: Path) -> Path:
    """Copy a split's images and labels into a scratch folder with ultralytics' layout and description.

    Real copies: ultralytics writes its label cache beside the labels, and follows links to where they lead.

    Returns:
        The folder; its `data.yaml` names the images and the classes.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for kind, suffix in (("images", "png"), ("labels", "txt")):
        (folder / kind / "train").mkdir(parents=True)
        for name in split.ids:
            shutil.copyfile(split.folder / kind / f"{name}.{suffix}", folder / kind / "train" / f"{name}.{suffix}")
    description = {
        "path": str(folder.resolve()),
        "train": "images/train",
        "val": "images/train",
        "names": dict(enumerate(classes)),
    }
    (folder / DATA_FILE).write_text(json.dumps(description))  # JSON is YAML
    return folder
