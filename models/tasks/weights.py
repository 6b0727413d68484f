"""What the settings of all tasks share: reading them, weights from elsewhere, and classes matched by name.

A task declares its settings beside itself, as a dataclass with defaults whose ranges stand in the types; the
stage `plan` checks a section of params.yaml against it. Plain files only: importable without torch.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
from pydantic import Field

from . import TaskError

Count = Annotated[int, Field(ge=1)]
Steps = Annotated[int, Field(ge=2)]  # a one-cycle schedule has a way up and a way down
Batch = Annotated[int, Field(ge=2)]  # batch normalisation cannot do with one image
Side = Annotated[int, Field(ge=32, multiple_of=32)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]

DESCRIPTION_FILE = "task.json"  # what every task saves beside its weights
WEIGHTS_FILE = "weights.safetensors"

Settings = TypeVar("Settings")


def read_settings(kind: type[Settings], task: str, given: Mapping[str, Any]) -> Settings:
    """A task's section as its settings object, with the defaults filled in.

    Raises:
        TaskError: an unknown setting; the text lists those that exist.
    """
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    if unknown := sorted(set(given) - set(known)):
        raise TaskError(f"train_task.{task}: unknown setting {unknown[0]!r}; there are {', '.join(known)}")
    return kind(**given)


def weight_files(task: str, weights: str | None, frozen: bool) -> list[Path]:
    """The files behind the setting `weights`: one file, or all of a folder; none where it is null.

    Raises:
        TaskError: there is nothing at that path, or a frozen network is wanted without weights.
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
    """What a task wrote beside its weights.

    Raises:
        TaskError: the file is missing, is no JSON, or lacks one of the keys.
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
    """Whether a folder is what a task of this project saves."""
    return (path / DESCRIPTION_FILE).is_file() and (path / WEIGHTS_FILE).is_file()


def match_classes(task: str, known: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Where a network keeps each class of the data, by name; upper and lower case are the same.

    Args:
        task: the task's name, for the message.
        known: the network's classes, in its index order; it may know more than the data have.
        wanted: the data's classes, in their index order.

    Returns:
        For each of `wanted` its index in `known`.

    Raises:
        TaskError: a class of the data is unknown to the network, or its names are not distinct; the text lists
            both sides.
    """
    places = {name.strip().casefold(): index for index, name in enumerate(known)}
    missing = [name for name in wanted if name.strip().casefold() not in places]
    if missing or len(places) != len(known):
        what = f"does not know {', '.join(map(repr, missing))}" if missing else "has classes of the same name"
        raise TaskError(
            f"train_task.{task}.weights: the frozen network {what}; it has: {', '.join(known)}; "
            f"the data have: {', '.join(wanted)}; names must agree but for upper and lower case"
        )
    return [places[name.strip().casefold()] for name in wanted]


IMAGENET = "imagenet"  # of the setting `weights`
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalise(images: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W) in [0, 1] to zero mean and unit variance over ImageNet."""
    mean = images.new_tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    std = images.new_tensor(IMAGENET_STD).view(1, 3, 1, 1)
    return (images - mean) / std


@contextmanager
def from_cache_only(key: str, model: str) -> Iterator[None]:
    """Let the libraries look for published weights in the local cache and nowhere else.

    Args:
        key: of the setting, for the message.
        model: the encoder or network whose weights are wanted.

    Raises:
        TaskError: they are not in the cache; the text says how to get them there.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    except OSError as error:  # what the hub raises for a file that is not in the cache
        words = " ".join(str(error).split())
        raise TaskError(
            f"{key}: {IMAGENET}: the weights of {model!r} are not in {constants.HF_HUB_CACHE}, and nothing is "
            "downloaded: "
            "create that model once with its pretrained weights where there is a network, and copy that folder; "
            f"or set weights: null ({words[:160]})"
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = before
