"""The library ultralytics, offline and without log output.

It runs without telemetry, downloads, callbacks into trackers, settings in the home folder, and augmentation that
depends on which other packages are installed.
"""

import importlib.util
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from . import TaskError

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
