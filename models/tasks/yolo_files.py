"""Networks of ultralytics in files: .pt files of the library, and folders that a task saved."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from ..state_dicts import WeightsError, check_is_file, read_state_dict
from . import TaskError
from .saved_networks import DESCRIPTION_FILE, WEIGHTS_FILE
from .yolo_library import library, parts, same_threads

LONGEST_REASON = 600  # characters of the library's messages, which end with the remedy
# The library's other networks by the name of their class, and what to do with their files.
ELSEWHERE = {
    "DetectionModel": "It belongs to the task detection",
    "SegmentationModel": "It belongs to the task instance-segmentation",
    "Sequential": "Save it with ultralytics: YOLO(...).save(...)",
}


def read_network(path: Path, kind: str, task: str) -> Any:
    """A network from a .pt file, which must be trusted, or from a folder that a task saved.

    Raises:
        TaskError: the file cannot be read, or holds a network of another kind.
    """
    if path.is_dir():
        return read_saved(path, kind, task)
    place = f"train_task.{task}.weights: {path}"
    wanted = parts(kind).model
    from ultralytics.nn import tasks

    tasks.SAFE_LOAD = False  # the user trusts this file: see YoloSettings.trust_pickle
    try:
        check_is_file(path)
        network, _ = tasks.load_checkpoint(path)
    except WeightsError as error:
        raise TaskError(f"train_task.{task}.weights: {error}") from error
    except Exception as error:  # a pickle of any content
        if _is_state_dict(path):
            raise TaskError(f"{place}: holds weights without their network. {ELSEWHERE['Sequential']}") from error
        raise TaskError(f"{place}: ultralytics cannot read it ({_line(error)})") from error
    finally:
        tasks.SAFE_LOAD = True
    if type(network) is not wanted:
        advice = ELSEWHERE.get(type(network).__name__, "Choose another file")
        raise TaskError(f"{place}: holds a {type(network).__name__}, expected a {wanted.__name__}. {advice}")
    channels = next(weight.shape[1] for weight in network.parameters() if weight.ndim == 4)
    if channels != 3:
        raise TaskError(
            f"{place}: the network takes images of {channels} channel(s), but those here have 3 (RGB). "
            "Choose a network that takes RGB images"
        )
    network.names = _checked_names(network, place)
    return network


def _is_state_dict(path: Path) -> bool:
    try:
        return bool(read_state_dict(path))
    except WeightsError:
        return False


def _checked_names(network: Any, place: str) -> dict[int, str]:
    """The class names of a network by index. Files have them as a list, by number, or by the number's text.

    Raises:
        TaskError: they are not one for each output.
    """
    names, outputs = getattr(network, "names", None), int(network.model[-1].nc)
    try:
        listed = enumerate(names) if isinstance(names, list | tuple) else dict(names or {}).items()
        by_index = {int(index): str(name) for index, name in sorted(listed, key=lambda entry: int(entry[0]))}
    except (TypeError, ValueError):
        by_index = {}
    if list(by_index) != list(range(outputs)):
        raise TaskError(
            f"{place}: the network has {outputs} classes, but its file names {list(by_index.values())}. Set the names "
            "in the file: a dictionary of 0, 1, ... to a name"
        )
    return by_index


def read_saved(folder: Path, kind: str, task: str) -> Any:
    """A network from a folder that a task saved.

    Raises:
        TaskError: the folder does not hold a saved network of this kind.
    """
    try:
        description = json.loads((folder / DESCRIPTION_FILE).read_text())
        weights = load_file(folder / WEIGHTS_FILE)
        network = parts(kind).model(description["model"], nc=len(description["known"]), verbose=False)
        _fit_class_branches(network, parts(kind).model, weights)
        if description.get("fused"):
            network.eval().fuse(verbose=False)
        network.load_state_dict(weights)
    except Exception as error:  # a description of any content
        raise TaskError(f"{folder}: not a saved {task} network ({_line(error)})") from error
    network.names = dict(enumerate(description["known"]))
    return network


def _fit_class_branches(network: Any, model: Any, weights: Mapping[str, torch.Tensor]) -> None:
    """Give the class branches of a network's head the width that their weights have.

    It depends on the number of classes that a network is first built for. The library keeps it in trainings on others.
    """
    head = network.model[-1]
    for name in ("cv3", "one2one_cv3"):
        last = weights.get(f"model.{head.i}.{name}.0.{len(head.cv3[0]) - 1}.weight")  # (classes, width, 1, 1)
        if last is not None and last.shape[1] != getattr(head, name)[0][-1].in_channels:
            branches = getattr(model(network.yaml, nc=last.shape[1], verbose=False).model[-1], name)
            for branch in branches:
                branch[-1] = torch.nn.Conv2d(branch[-1].in_channels, head.nc, 1)
            setattr(head, name, branches)


def names_of(network: Any) -> list[str]:
    """The class names that a network carries, in its index order."""
    return list(network.names.values())


def is_fused(network: Any) -> bool:
    """Whether batch normalisation was merged into the convolutions, which cannot be undone."""
    return bool(network.is_fused())


def library_result(path: Path, kind: str, image: NDArray[np.uint8], arguments: dict[str, Any]) -> Any:
    """The library's own result on an RGB image (H, W, 3) with the network of a kind in a trusted .pt file.

    Raises:
        TaskError: the library cannot use the file.
    """
    from ultralytics.nn import tasks

    yolo = library().YOLO
    tasks.SAFE_LOAD = False
    try:
        model = yolo(str(path))
        model.task = kind  # files without settings of a training count as detectors there
        with same_threads():
            return model.predict(image[:, :, ::-1].copy(), **arguments)[0]
    except Exception as error:  # a pickle of any content
        raise TaskError(f"{path}: ultralytics cannot predict with it ({_line(error)})") from error
    finally:
        tasks.SAFE_LOAD = True


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__
