"""Networks of segmentation-models-pytorch: from names, from its own folders, and from those of a saved task."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from . import TaskError
from .weights import (
    DESCRIPTION_FILE,
    IMAGENET,
    WEIGHTS_FILE,
    Batch,
    Positive,
    Side,
    Steps,
    from_cache_only,
    is_saved_task,
)

FROM_SMP = "config.json", "model.safetensors"  # what the library's save_pretrained writes


@dataclass(frozen=True)
class SegmentationSettings:
    """Settings of the task segmentation."""

    architecture: str = "unet"  # or a model YAML of ultralytics, such as yolo26n-sem.yaml
    encoder: str = "resnet18"  # not looked at with a YAML
    weights: str | None = None  # imagenet (the encoder's), or a folder of save_pretrained or of this task
    frozen: bool = False  # judge with the weights as they are: no training, classes matched by name
    model_classes: tuple[str, ...] | None = None  # of a save_pretrained folder, which holds no names; index order
    steps: Steps = 10000
    batch: Batch = 8
    crop: Side = 256
    learning_rate: Positive = 1e-3


def described(settings: SegmentationSettings) -> dict[str, Any]:
    """What a network is built from that the settings name."""
    return {"architecture": settings.architecture, "encoder": settings.encoder}


def read_description(folder: Path, settings: SegmentationSettings) -> tuple[dict[str, Any], list[str] | None]:
    """What the network in a folder is built from, and its class names where they are known.

    Raises:
        TaskError: the folder holds neither a saved task nor what save_pretrained writes.
    """
    named = list(settings.model_classes) if settings.model_classes else None
    if is_saved_task(folder):
        content = _json(folder / DESCRIPTION_FILE)
        return content["network"], named or content["known"]
    if not all((folder / name).is_file() for name in FROM_SMP):
        raise TaskError(
            f"train_task.segmentation.weights: {folder}: expected {IMAGENET}, or a folder with "
            f"{' and '.join(FROM_SMP)} (save_pretrained) or {DESCRIPTION_FILE} and {WEIGHTS_FILE} (a saved task)"
        )
    content = _json(folder / FROM_SMP[0])
    architecture = str(content.get("_model_class", "")).lower()
    description = {"architecture": architecture, "encoder": content.get("encoder_name")}
    left_out = ("_model_class", "encoder_name", "encoder_weights", "in_channels", "classes", "aux_params")
    return description | {key: value for key, value in content.items() if key not in left_out}, named


def _json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise TaskError(f"train_task.segmentation.weights: {path}: not valid JSON ({error})") from error
    return content


def start(settings: SegmentationSettings, classes: int) -> tuple[torch.nn.Module, dict[str, Any]]:
    """The network that training starts from, on the CPU; of weights in a folder all that fit are taken."""
    if settings.weights in (None, IMAGENET):
        return build(described(settings), classes, settings.weights), described(settings)
    folder = Path(settings.weights)
    description, _ = read_description(folder, settings)
    network = build(description, classes, None)
    own, given = network.state_dict(), _state(folder)
    fitting = {name: value for name, value in given.items() if name in own and value.shape == own[name].shape}
    network.load_state_dict(own | fitting)
    return network, description


def load(folder: Path, description: Mapping[str, Any], classes: int) -> torch.nn.Module:
    """A trained network, as it is.

    Raises:
        TaskError: the weights do not fit the description, or the number of class names.
    """
    network = build(description, classes, None)
    try:
        network.load_state_dict(_state(folder))
    except RuntimeError as error:
        words = " ".join(str(error).split())[:300]
        raise TaskError(f"{folder}: the weights do not fit a network of {classes} classes: {words}") from error
    return network


def _state(folder: Path) -> dict[str, torch.Tensor]:
    own = folder / WEIGHTS_FILE
    path = own if own.is_file() else folder / FROM_SMP[1]
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise TaskError(f"train_task.segmentation.weights: {path}: not a safetensors file ({error})") from error
    return {name: value for name, value in state.items() if not name.startswith("classification_head.")}


def build(description: Mapping[str, Any], classes: int, weights: str | None) -> torch.nn.Module:
    """A network with random weights, or with the encoder's published ones.

    Raises:
        TaskError: the library cannot build it, or the published weights are not in the local cache.
    """
    if not isinstance(description, Mapping) or not {"architecture", "encoder"} <= set(description):
        raise TaskError(f"segmentation: expected a network's architecture and encoder, got {str(description)[:80]!r}")
    extra = dict(description)
    architecture, encoder = str(extra.pop("architecture")), extra.pop("encoder")
    if is_yolo(architecture):
        return _yolo(architecture, classes, weights)
    import segmentation_models_pytorch as smp

    if architecture == "dpt":
        extra.setdefault("dynamic_img_size", True)  # else its transformer takes one size only
    universal = str(encoder).startswith("tu-")  # these take True for the weights that their name says
    wanted = (True if universal else weights) if weights else None
    try:
        with from_cache_only("train_task.segmentation.weights", encoder):
            network = smp.create_model(
                architecture, encoder, encoder_weights=wanted, in_channels=3, classes=classes, **extra
            )
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        if isinstance(error, TaskError):
            raise
        words = " ".join(str(error).split())[:600]
        raise TaskError(
            f"train_task.segmentation: segmentation-models-pytorch cannot build architecture {architecture!r} "
            f"with encoder {encoder!r}: {words}"
        ) from error
    return network


def is_yolo(architecture: str) -> bool:
    """Whether an architecture is a model YAML of ultralytics."""
    return architecture.endswith((".yaml", ".yml"))


def _yolo(model: str, classes: int, weights: str | None) -> torch.nn.Module:
    from .yolo_library import SemanticYolo

    if weights is not None:
        raise TaskError(f"train_task.segmentation.weights: {weights}: there are none for {model}; set weights: null")
    return SemanticYolo(model, classes)
