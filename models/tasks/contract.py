"""The contract of a recognition task: a network that is trained, predicts and gives features."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, ValidationError
from safetensors.torch import save_file

from ..settings import Settings
from . import TaskError
from .predictions import Image
from .saved_networks import DESCRIPTION_FILE, WEIGHTS_FILE, match_classes

Prediction = TypeVar("Prediction")
Self = TypeVar("Self", bound="Task[Any]")

Steps = Annotated[int, Field(ge=2)]  # a one-cycle schedule rises and falls
BatchSize = Annotated[int, Field(ge=2)]  # batch normalisation needs two images
Side = Annotated[int, Field(ge=32, multiple_of=32)]  # of an image, in pixels


class LabelledSplit(Protocol):
    """A split of a canonical dataset on disk; `data.dataset.Split` implements it."""

    @property
    def folder(self) -> Path: ...
    @property
    def ids(self) -> tuple[str, ...]: ...
    def image(self, image_id: str, /) -> NDArray[np.uint8]: ...
    def instances(self, image_id: str, /) -> tuple[Any, ...]: ...
    def category(self, image_id: str, /) -> int: ...


class TrainingLoop(Protocol):
    """The loop that a training runs in, with its seed and device, progress, checkpoints and curves.

    Attributes:
        seed: of the training.
        device: where the network runs.
        work: scratch folder.
    """

    seed: int
    device: torch.device
    work: Path

    def steps(self, total: int, state: Mapping[str, Any]) -> Iterator[int]:
        """Yield the steps still to do; `state` (objects with state_dict) is saved and restored."""
        ...

    def log(self, step: int, **values: float) -> None:
        """Record training curves at a step."""
        ...

    def count(self, seconds: float) -> None:
        """Add a step to the costs; for trainers that do not call `steps`."""
        ...

    def bar(self, total: int) -> Any:
        """A tqdm progress bar; for trainers that do not call `steps`."""
        ...


Batches = Callable[[int], tuple[torch.Tensor, torch.Tensor]]  # step -> images (B, 3, S, S), masks (B, S, S)
MakeBatches = Callable[[int, int], Batches]  # side S of the crops, batch size B


class Task(ABC, Generic[Prediction]):
    """A recognition network in eval mode, with frozen weights.

    Args:
        network: its head has an output for each of `network_classes`.
        classes: the data's classes, in index order.
        description: JSON values from which the network is built again; its weights are separate.
        device: where it runs.
        network_classes: the network's classes, in its index order; None: those of the data. If the network has
            more classes than the data, it predicts the data's classes only.

    Attributes:
        outputs: the index in `network_classes` of each of the data's classes.

    Raises:
        models.tasks.TaskError: the network lacks a class of the data.
    """

    name: ClassVar[str]
    labels: ClassVar[str]  # the labels it is trained on: a key of the classes in dataset.json, such as "detection"
    has_training_loss: ClassVar[bool] = False  # whether `training_loss` is implemented
    settings_type: ClassVar[type[Settings]]  # the module's class Settings, for the section train_task.<name>

    def __init__(
        self,
        network: torch.nn.Module,
        classes: list[str],
        description: dict[str, Any],
        device: torch.device,
        network_classes: list[str] | None = None,
    ) -> None:
        self.network = network.eval().requires_grad_(False).to(device)
        self.network.zero_grad()  # frees the gradients of the training
        self.classes = classes
        self.network_classes = network_classes or classes
        self.outputs = match_classes(self.name, self.network_classes, classes)
        self.description = description
        self.device = device

    def require_own_classes(self) -> None:
        """Check that training can go on from this network: it has an output for each of the data's classes.

        Raises:
            models.tasks.TaskError: it has others, or in another order, so that its last layer would be lost.
        """
        if self.outputs != list(range(len(self.network_classes))) or "outputs" in self.description:
            raise TaskError(
                f"train_task.{self.name}.weights: an arm trains this network, whose outputs are not the data's classes "
                f"in their order, so that its last layer would be lost; it has: {', '.join(self.network_classes)}; the "
                f"data have: {', '.join(self.classes)}. Remove the arm, or give the data these classes with `map`"
            )

    @classmethod
    def parse_settings(cls, section: Mapping[str, Any]) -> Any:
        """The section train_task.<name> of params.yaml as its `Settings`, with defaults filled in.

        Raises:
            models.tasks.TaskError: an unknown key or an invalid value; one line.
        """
        try:
            return cls.settings_type(**section)
        except ValidationError as error:
            first = min(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")
            key = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                known = ", ".join(cls.settings_type.model_fields)
                raise TaskError(f"train_task.{cls.name}: unknown setting {key!r}; there are {known}") from error
            raise TaskError(f"train_task.{cls.name}.{key}: {first['msg']}, got {first['input']!r}") from error

    @classmethod
    @abstractmethod
    def check(cls, section: Mapping[str, Any]) -> list[Path]:
        """Check the settings, and that the model and the files that they name exist.

        Args:
            section: train_task.<name> of params.yaml.

        Returns:
            The files that the settings name. If their content changes, the task is trained again.

        Raises:
            models.tasks.TaskError: one line that names the key, the value and the choices.
        """

    @classmethod
    @abstractmethod
    def fit(
        cls: type[Self],
        split: LabelledSplit,
        make_batches: MakeBatches,
        classes: list[str],
        section: Mapping[str, Any],
        loop: TrainingLoop,
    ) -> Self:
        """The network trained from scratch or from `weights`; with `frozen: true`, the network with these weights.

        Args:
            split: the training split, for trainers that read folders themselves.
            make_batches: (crop, batch size B) -> a function from the step to augmented
                (images (B, 3, crop, crop) in [0, 1], masks (B, crop, crop) int64 class indices).
            classes: the data's class names in index order.
            section: train_task.<name> of params.yaml.
            loop: progress, checkpoints, seed, device.

        Raises:
            models.tasks.TaskError: labels are missing, or the network or its weights cannot be used.
        """

    @classmethod
    def load_weights(
        cls: type[Self], section: Mapping[str, Any], classes: list[str] | None, device: torch.device
    ) -> Self:
        """The network that the setting `weights` names, with these weights. A task may do without this setting.

        Args:
            section: train_task.<name> of params.yaml; `weights` is a path.
            classes: the data's class names in index order; None: those of the network.
            device: where it runs.

        Raises:
            models.tasks.TaskError: the file cannot be used, or the network lacks a class of the data.
        """
        raise TaskError(f"train_task.{cls.name}.weights: this task takes no networks from elsewhere. Remove it")

    def library_prediction(self, weights: Path, image: Image) -> Prediction | None:
        """The prediction of the library that wrote the weights, made by its own code; None: no library's file.

        Args:
            weights: the path that this network was read from, with the network's classes.
            image: uint8 RGB (H, W, 3).

        Raises:
            models.tasks.TaskError: the library cannot use the file.
        """
        return None

    def save(self, folder: Path) -> None:
        """Write weights (safetensors) and description (JSON) into an existing folder."""
        state = {name: value.contiguous().cpu() for name, value in self.network.state_dict().items()}
        save_file(state, folder / WEIGHTS_FILE)
        (folder / DESCRIPTION_FILE).write_text(json.dumps(self.saved_description(), indent=1) + "\n")

    def saved_description(self) -> dict[str, Any]:
        """The content of the description file; `load` reads it."""
        return {"network": self.description, "classes": self.classes, "known": self.network_classes}

    @classmethod
    @abstractmethod
    def load(cls: type[Self], folder: Path, device: torch.device) -> Self:
        """The network in a folder that `save` wrote."""

    @abstractmethod
    def predict_batch(self, images: Sequence[Image]) -> list[Prediction]:
        """The predictions on N >= 1 uint8 RGB images (H, W, 3) of one size, in their order; deterministic.

        An image gets the same prediction in any batch, up to the rounding of float32.
        """

    def predict(self, image: Image) -> Prediction:
        """The prediction on a uint8 RGB image (H, W, 3) of any size."""
        return self.predict_batch([image])[0]

    @abstractmethod
    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps (N, c, h, w) of images (N, 3, H, W) in [0, 1], from fine to coarse; differentiable."""

    @classmethod
    def training_steps(cls, section: Mapping[str, Any], images: int) -> int:
        """The number of optimiser steps of `fit` on a split of this many images."""
        steps: int = cls.parse_settings(section).steps
        return steps

    def trained_weights(self) -> list[torch.nn.Parameter]:
        """The weights that training changes."""
        return list(self.network.parameters())

    def view_scale(self, height: int, width: int) -> float:
        """The factor by which `predict` resizes an image of this size."""
        return 1.0

    def training_loss(self, images: torch.Tensor, labels: Any) -> torch.Tensor:
        """The loss that `fit` minimises, of images (N, 3, H, W) in [0, 1]: a scalar, differentiable in the images.

        Neither the weights nor, in eval mode, the batch-norm statistics change. A task may do without.

        Args:
            images: of any size.
            labels: of kind `labels`. For "segmentation" (N, H, W) int64 class indices; for "detection" the boxes (K, 5)
                of each image: class index, centre x and y, width and height, normalised to the image.

        Raises:
            models.tasks.TaskError: the task has no such loss.
        """
        raise TaskError(f"{self.name}: this task has no training loss for the labels of crops. Choose another task.")
