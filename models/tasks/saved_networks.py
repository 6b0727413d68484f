"""Files of saved tasks and of the user's weights, and classes matched by name."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import TaskError

DESCRIPTION_FILE = "task.json"  # every task saves it beside its weights
WEIGHTS_FILE = "weights.safetensors"


def weight_files(task: str, weights: str | None, frozen: bool) -> list[Path]:
    """The files of the setting `weights`: a file, or all files of a folder; empty if it is null.

    Raises:
        TaskError: the path does not exist, or `frozen` is true without weights.
    """
    if weights is None:
        if frozen:
            raise TaskError(f"train_task.{task}.frozen: true needs weights: the path of a network trained elsewhere")
        return []
    path = Path(weights)
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise TaskError(
            f"train_task.{task}.weights: {weights}: no such file or folder; nothing is downloaded: "
            "put it there, or set weights: null to train from scratch"
        )
    return files


def read_task_file(folder: Path, *keys: str) -> dict[str, Any]:
    """The description of a saved task.

    Raises:
        TaskError: the file is missing, is not JSON, or lacks one of the keys.
    """
    path = folder / DESCRIPTION_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TaskError(f"{path}: not the description of a saved task network ({error})") from error
    missing = [key for key in keys if not isinstance(content, dict) or key not in content]
    if missing:
        raise TaskError(f"{path}: not the description of a saved task network: it has no {missing[0]!r}")
    return dict(content)


def is_saved_task(path: Path) -> bool:
    """Whether a folder holds the files of a saved task."""
    return (path / DESCRIPTION_FILE).is_file() and (path / WEIGHTS_FILE).is_file()


def match_classes(task: str, network_classes: Sequence[str], classes: Sequence[str]) -> list[int]:
    """The network's index of each class of the data; names match if they differ in upper and lower case only.

    Args:
        task: the task's name, for the message.
        network_classes: the network's classes, in its index order; it may have more classes than the data.
        classes: the data's classes, in index order.

    Returns:
        The index in `network_classes` of each of `classes`.

    Raises:
        TaskError: the network lacks a class of the data, or has two classes of the same name. The text lists the
            classes of both.
    """
    indices = {name.strip().casefold(): index for index, name in enumerate(network_classes)}
    missing = [name for name in classes if name.strip().casefold() not in indices]
    if missing or len(indices) != len(network_classes):
        what = f"does not know {', '.join(map(repr, missing))}" if missing else "has classes of the same name"
        raise TaskError(
            f"train_task.{task}.weights: the frozen network {what}; it has: {', '.join(network_classes)}; "
            f"the data have: {', '.join(classes)}; names must agree but for upper and lower case"
        )
    return [indices[name.strip().casefold()] for name in classes]
