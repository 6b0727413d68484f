"""Segmentation networks in the files that people have: their description, class names and weights.

A description is a JSON value: the architecture, the encoder and the library's other arguments; `input`, how the network
wants its images; and `outputs: 1` for a network whose single output says how likely the second of two classes is.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..state_dicts import SUFFIXES, WeightsError, read_state_dict
from . import TaskError
from .imagenet import IMAGENET, Normalisation, pretrained_normalisation
from .saved_networks import DESCRIPTION_FILE, WEIGHTS_FILE, is_saved_task

KEY = "train_task.segmentation"
CONFIG_FILE, FILES_OF_WEIGHTS = "config.json", ("model.safetensors", "pytorch_model.bin")  # of save_pretrained
AUGMENTATIONS = "albumentations_config_*.json"  # albumentations saves its transforms beside them
LEFT_OUT = ("_model_class", "encoder_name", "encoder_weights", "in_channels", "classes", "aux_params", "activation")


def read_description(
    path: Path, default: Mapping[str, Any], model_classes: Sequence[str] | None = None
) -> tuple[dict[str, Any], list[str] | None]:
    """The description of the network in a file or folder, and its class names if they are known.

    Args:
        path: a folder of a saved task or of save_pretrained, or a file of weights.
        default: architecture and encoder, for a file of weights.
        model_classes: the network's class names in its index order; None: those of the saved task.

    Raises:
        TaskError: it is none of these, or the network does not take RGB images.
    """
    names = list(model_classes) if model_classes else None
    if is_saved_task(path):
        content = _json(path / DESCRIPTION_FILE)
        return content["network"], names or content["known"]
    if path.is_file():
        single = count_outputs(read_state(path)) == 1
        return {**default, **({"outputs": 1} if single else {})}, names
    if not (path / CONFIG_FILE).is_file() or not any((path / name).is_file() for name in FILES_OF_WEIGHTS):
        raise TaskError(
            f"{KEY}.weights: {path}: expected {IMAGENET}, or a folder with {CONFIG_FILE} and {FILES_OF_WEIGHTS[0]} "
            f"(save_pretrained) or {DESCRIPTION_FILE} and {WEIGHTS_FILE} (a saved task), or a file "
            f"({', '.join(SUFFIXES)}) with weights of {KEY}.architecture and encoder"
        )
    return _read_config(path), names


def _read_config(folder: Path) -> dict[str, Any]:
    """The description of a folder of save_pretrained."""
    content = _json(folder / CONFIG_FILE)
    channels = content.get("in_channels", 3)
    if channels != 3:
        raise TaskError(
            f"{KEY}.weights: {folder}: the network takes images of {channels} channel(s), but those here have 3 (RGB). "
            "Choose a network that takes RGB images"
        )
    encoder = content.get("encoder_name")
    normalisation = _recorded_normalisation(folder)
    if normalisation is None and content.get("encoder_weights"):
        normalisation = pretrained_normalisation(str(encoder))
    description = {"architecture": str(content.get("_model_class", "")).lower(), "encoder": encoder}
    description |= {key: value for key, value in content.items() if key not in LEFT_OUT}
    description |= {"outputs": 1} if content.get("classes") == 1 else {}
    return description | ({"input": normalisation._asdict()} if normalisation else {})


def _recorded_normalisation(folder: Path) -> Normalisation | None:
    """The normalisation in the transforms that albumentations saved beside a network; None without such a file.

    Raises:
        TaskError: each image is normalised by its own statistics.
    """
    for path in sorted(folder.glob(AUGMENTATIONS), key=lambda path: "eval" not in path.name):
        for transform in _transforms(_json(path)):
            if str(transform["__class_fullname__"]).rpartition(".")[2] == "Normalize":
                kind = transform.get("normalization", "standard")
                if kind != "standard":
                    raise TaskError(
                        f"{KEY}.weights: {path}: the network's images were normalised by their own statistics "
                        f"({kind!r}), which this task cannot do. Choose another network"
                    )
                scale = transform.get("max_pixel_value", 255.0) / 255
                mean, std = (tuple(scale * value for value in transform[name]) for name in ("mean", "std"))
                return Normalisation(mean, std)
    return None


def _transforms(content: Any) -> Iterator[dict[str, Any]]:
    """All transforms in albumentations' JSON, at any depth."""
    if isinstance(content, dict):
        if "__class_fullname__" in content:
            yield content
        content = list(content.values())
    if isinstance(content, list):
        for value in content:
            yield from _transforms(value)


def _json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TaskError(f"{KEY}.weights: {path}: not valid JSON ({error})") from error
    return content


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The weights in a file, or in a folder of a saved task or of save_pretrained.

    Raises:
        TaskError: the file cannot be read as weights alone.
    """
    names = [WEIGHTS_FILE, *FILES_OF_WEIGHTS]
    path = next((path / name for name in names if (path / name).is_file()), path)
    try:
        return read_state_dict(path)
    except WeightsError as error:
        raise TaskError(f"{KEY}.weights: {error}") from error


def count_outputs(state: Mapping[str, torch.Tensor]) -> int | None:
    """The number of outputs of the network with these weights; None if they have no segmentation head."""
    heads = [value for name, value in state.items() if "segmentation_head." in name and name.endswith(".bias")]
    return len(heads[-1]) if heads else None


def class_names(
    path: Path, description: Mapping[str, Any], names: list[str] | None, classes: Sequence[str] | None
) -> list[str]:
    """The names of a network's classes, in its index order.

    Args:
        path: of its weights.
        description: of the network.
        names: the names that are known; None: there are none, and the classes are numbered.
        classes: the data's classes; None: they are not known. They name the other class of a network with one output.

    Raises:
        TaskError: the number of names is not that of the network's outputs.
    """
    outputs = count_outputs(read_state(path))
    if names is None:
        return [f"class {index}" for index in range(max(2, outputs or 2))]
    if "outputs" in description and len(names) == 1:
        others = [name for name in classes or ["other"] if name.strip().casefold() != names[0].strip().casefold()]
        if len(others) != 1:
            raise TaskError(
                f"{KEY}.model_classes: the network in {path} has one output, for two classes. Name both, that of the "
                "low values first"
            )
        return [*others, *names]
    expected = 2 if outputs == 1 else outputs
    if expected is not None and len(names) != expected:
        raise TaskError(
            f"{KEY}.model_classes: {len(names)} names, but the weights in {path} do not fit a network of "
            f"{len(names)} classes: they have {outputs} output(s). Name the class of every output, in index order"
        )
    return names
