"""Networks of segmentation-models-pytorch, built from names, from save_pretrained folders and from saved tasks."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from . import TaskError
from .imagenet import IMAGENET, from_cache_only
from .saved_networks import DESCRIPTION_FILE, WEIGHTS_FILE, is_saved_task

FROM_SMP = "config.json", "model.safetensors"  # the files that the library's save_pretrained writes


def read_description(
    folder: Path, model_classes: Sequence[str] | None = None
) -> tuple[dict[str, Any], list[str] | None]:
    """The description of the network in a folder, and its class names if they are known.

    Args:
        folder: of a saved task or of save_pretrained.
        model_classes: the network's class names in its index order; None: those of the saved task.

    Raises:
        TaskError: the folder holds neither a saved task nor the files of save_pretrained.
    """
    names = list(model_classes) if model_classes else None
    if is_saved_task(folder):
        content = _json(folder / DESCRIPTION_FILE)
        return content["network"], names or content["known"]
    if not all((folder / name).is_file() for name in FROM_SMP):
        raise TaskError(
            f"train_task.segmentation.weights: {folder}: expected {IMAGENET}, or a folder with "
            f"{' and '.join(FROM_SMP)} (save_pretrained) or {DESCRIPTION_FILE} and {WEIGHTS_FILE} (a saved task)"
        )
    content = _json(folder / FROM_SMP[0])
    architecture = str(content.get("_model_class", "")).lower()
    description = {"architecture": architecture, "encoder": content.get("encoder_name")}
    left_out = ("_model_class", "encoder_name", "encoder_weights", "in_channels", "classes", "aux_params")
    return description | {key: value for key, value in content.items() if key not in left_out}, names


def _json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise TaskError(f"train_task.segmentation.weights: {path}: not valid JSON ({error})") from error
    return content


def start(description: dict[str, Any], weights: str | None, classes: int) -> tuple[torch.nn.Module, dict[str, Any]]:
    """The network that training starts from, on the CPU, and its description.

    Args:
        description: architecture and encoder, which a folder of weights replaces by its own.
        weights: `imagenet`, or a folder, of which all weights that fit are taken; None: random weights.
        classes: number of classes.
    """
    if weights in (None, IMAGENET):
        return build(description, classes, weights), description
    folder = Path(weights)
    description, _ = read_description(folder)
    network = build(description, classes, None)
    state = network.state_dict()
    saved = {name: w for name, w in _state(folder).items() if name in state and w.shape == state[name].shape}
    network.load_state_dict(state | saved)
    return network, description


def load(folder: Path, description: Mapping[str, Any], classes: int) -> torch.nn.Module:
    """A trained network with its weights unchanged.

    Raises:
        TaskError: the weights do not fit the description, or the number of class names.
    """
    network = build(description, classes, None)
    try:
        network.load_state_dict(_state(folder))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise TaskError(f"{folder}: the weights do not fit a network of {classes} classes: {reason}") from error
    return network


def _state(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        path = folder / FROM_SMP[1]
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
        reason = " ".join(str(error).split())[:600]
        raise TaskError(
            f"train_task.segmentation: segmentation-models-pytorch cannot build architecture {architecture!r} "
            f"with encoder {encoder!r}: {reason}"
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
