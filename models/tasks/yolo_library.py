"""The library ultralytics, offline and without log output, and networks from its files.

It runs without telemetry, downloads, callbacks into trackers, settings in the home folder, and augmentation that
depends on which other packages are installed.
"""

import importlib.util
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file

from ..state_dicts import WeightsError, check_is_file, read_state_dict
from . import TaskError
from .saved_networks import DESCRIPTION_FILE, WEIGHTS_FILE

LONGEST_REASON = 600  # characters of the library's messages, which end with the remedy
# The library's other networks by the name of their class, and what to do with their files.
ELSEWHERE = {
    "DetectionModel": "It belongs to the task detection",
    "SegmentationModel": "It belongs to the task instance-segmentation",
    "Sequential": "Save it with ultralytics: YOLO(...).save(...)",
}
TRACKERS = ("mlflow", "dvc", "clearml", "comet", "raytune", "tensorboard", "wandb", "sync", "vscode_msg")


class Parts(NamedTuple):
    """The library's classes for one kind of network."""

    model: Any
    trainer: Any
    predictor: Any


def parts(kind: str) -> Parts:
    """The library's classes for `detect` or `segment`. Imports the library."""
    library()
    from ultralytics.models.yolo import detect, segment
    from ultralytics.nn.tasks import DetectionModel, SegmentationModel

    if kind == "segment":
        return Parts(SegmentationModel, segment.SegmentationTrainer, segment.SegmentationPredictor)
    return Parts(DetectionModel, detect.DetectionTrainer, detect.DetectionPredictor)


@contextmanager
def same_threads() -> Iterator[None]:
    """A context after which torch has as many threads as before: the library sets another number with the device."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


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


def criterion(network: Any) -> Any:
    """The library's training loss of a detector: predictions and a batch to the components (3,), times the batch size.

    The components have the library's default weights, with which the detectors are trained.
    """
    library()
    from ultralytics.cfg import get_cfg

    configured = copy(network)  # shallow: the network itself stays as it is
    configured.args = get_cfg()
    return configured.init_criterion()


def merge_polygons(polygons: list[NDArray[Any]]) -> NDArray[np.float64]:
    """One polygon (P, 2) of several (p, 2), each joined to the next one where they are nearest."""
    library()
    from ultralytics.data.converter import merge_multi_segment

    return np.concatenate(merge_multi_segment([polygon.ravel().tolist() for polygon in polygons])).astype(np.float64)


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


def library() -> Any:
    """The module ultralytics, with log output, downloads and trackers switched off.

    Descriptions of networks are not evaluated as code.
    """
    for name, value in {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}.items():
        os.environ.setdefault(name, value)
    import ultralytics
    import ultralytics.data.utils
    import ultralytics.nn.tasks

    ultralytics.nn.tasks.SAFE_LOAD = True
    ultralytics.data.utils.check_font = lambda *_, **__: None  # otherwise it downloads a font for pictures
    ultralytics.utils.LOGGER.setLevel(logging.ERROR)
    wanted = dict.fromkeys(TRACKERS, False)
    if any(ultralytics.settings.get(name) for name in TRACKERS):
        ultralytics.settings.update(wanted)
    return ultralytics


def device_name(device: torch.device) -> str:
    """A device as ultralytics spells it: a GPU's number, or cpu."""
    return str(device.index or 0) if device.type == "cuda" else device.type


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


def check_model(key: str, model: str, kind: str) -> list[Path]:
    """Check the setting `model` without importing the library.

    Returns:
        The model's file, unless it is one that the library ships.

    Raises:
        TaskError: there is no such file, or the library's model of that name is for another task.
    """
    path = Path(model)
    if path.suffix not in (".yaml", ".yml"):
        raise TaskError(f"{key}: {model!r}: expected a model YAML such as yolo11n.yaml; a .pt file belongs in weights")
    if path.is_file():
        return [path]
    unified = re.sub(r"(\d+)([nslmx])(.+)?$", r"\1\3", path.name)  # yolo11n.yaml is a scale of yolo11.yaml
    spec = importlib.util.find_spec("ultralytics")
    assert spec is not None and spec.submodule_search_locations
    shipped = Path(spec.submodule_search_locations[0], "cfg", "models").rglob("*.yaml")
    fitting = {file.name for file in shipped if kind == _kind_of(file.stem)}
    if path.name != model or not {path.name, unified} & fitting:
        some = sorted(name for name in fitting if re.match(r"yolo(v8|\d\d)(-seg|-sem)?\.yaml", name))
        raise TaskError(
            f"{key}: {model!r}: no such file, and not among ultralytics' for this task, such as {', '.join(some)} "
            "with a size (n, s, m, l or x) after the number"
        )
    return []


def _kind_of(stem: str) -> str:
    """The task of a model that ultralytics ships, from the name of its file: detect, segment, semantic or other."""
    if re.search("cls|obb|pose|depth|world|yoloe|rtdetr", stem):
        return "other"
    if "-sem" in stem:
        return "semantic"
    return "segment" if "-seg" in stem else "detect"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__


class SemanticYolo(torch.nn.Module):
    """A semantic YOLO from one of the library's YAML files, with random weights.

    Args:
        model: a file's name, such as yolo26n-sem.yaml, or a path.
        classes: number of classes.

    Raises:
        models.tasks.TaskError: there is no such file.
    """

    def __init__(self, model: str, classes: int) -> None:
        super().__init__()
        check_model("train_task.segmentation.architecture", model, "semantic")
        library()
        from ultralytics.nn.tasks import SemanticSegmentationModel

        self.yolo: Any = SemanticSegmentationModel(model, nc=classes, verbose=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) normalised images, sides multiples of 32, to (N, classes, H, W) logits."""
        logits: Any = self.yolo(images)
        if isinstance(logits, tuple):  # in training, with the logits of an auxiliary head, which are not used
            logits = logits[0]
        return F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)

    def encoder(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The backbone's last map (N, c, h, w) at each scale, from the images (N, 3, H, W) to the coarsest."""
        maps = [images]
        for layer in self.yolo.model[: len(self.yolo.yaml["backbone"])]:
            features = layer(maps[-1])
            if features.shape[-1] == maps[-1].shape[-1]:
                maps.pop()
            maps.append(features)
        return maps
