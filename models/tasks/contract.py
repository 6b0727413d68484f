"""What every recognition task provides, and what it is given. A task never knows who calls it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.metrics import Records
from pipeline.metrics.matching import Overlap

Image = NDArray[np.uint8]  # (H, W, 3) RGB
Prediction = TypeVar("Prediction")


class LabelledSplit(Protocol):
    """One split of a dataset on disk, in the canonical layout (data.dataset has it)."""

    @property
    def folder(self) -> Path: ...
    @property
    def ids(self) -> tuple[str, ...]: ...
    def image(self, name: str) -> Image: ...
    def mask(self, name: str) -> NDArray[np.uint8]: ...
    def boxes(self, name: str) -> NDArray[np.float64]: ...
    def ignored(self, name: str) -> NDArray[np.float64]: ...
    def instances(self, name: str) -> tuple[Any, ...]: ...
    def category(self, name: str) -> int: ...


class TrainingLoop(Protocol):
    """The loop a training runs in: it owns progress, checkpoints, seeds and curves."""

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
        """Add a step to the costs, for trainers that bring a loop of their own."""
        ...

    def bar(self, total: int) -> Any:
        """A tqdm progress bar, for trainers that bring a loop of their own."""
        ...


Batches = Callable[[int], tuple[torch.Tensor, torch.Tensor]]
MakeBatches = Callable[[int, int], Batches]


class Task(ABC, Generic[Prediction]):
    """A frozen recognition network together with its training, its predictions and their scores."""

    name: str
    labels: ClassVar[str]  # what it is judged by: a key of the classes in dataset.json, such as "detection"
    Settings: ClassVar[type[Any]]  # a dataclass: the keys, types, ranges and defaults of train_task.<name>
    network: torch.nn.Module
    classes: list[str]

    @classmethod
    @abstractmethod
    def check(cls, settings: Mapping[str, Any]) -> list[Path]:
        """Check, before any work, that the names in the settings exist and that their files are there.

        Args:
            settings: this task's section of the parameters.

        Returns:
            The files from elsewhere that the task is made of: it is trained anew when their content changes.

        Raises:
            models.tasks.TaskError: one line that names the key, the value and the choices.
        """

    @classmethod
    @abstractmethod
    def fit(
        cls,
        split: LabelledSplit,
        make_batches: MakeBatches,
        classes: list[str],
        settings: Mapping[str, Any],
        loop: TrainingLoop,
    ) -> "Task[Prediction]":
        """Train from scratch, or from `settings["weights"]`, on clean data; frozen weights are only loaded.

        Args:
            split: the training split, for trainers that read folders themselves.
            make_batches: (crop, batch size) -> a function from the step to augmented
                (images (B, 3, crop, crop) in [0, 1], masks (B, crop, crop) int64), for the others.
            classes: class names in index order.
            settings: this task's section of the parameters.
            loop: progress, checkpoints, seed, device.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write weights (safetensors) and settings (JSON) into an existing folder."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, device: torch.device) -> "Task[Prediction]":
        """Read what `save` wrote; the network comes back frozen and in eval mode."""

    @abstractmethod
    def predict(self, image: Image) -> Prediction:
        """Predict on one uint8 RGB image of any size; deterministic."""

    @abstractmethod
    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps of a batch (N, 3, H, W) in [0, 1], from fine to coarse; a gradient flows into the images."""

    @staticmethod
    @abstractmethod
    def truth(split: LabelledSplit, name: str) -> Prediction:
        """The labels of one image in the form of a perfect prediction."""

    @abstractmethod
    def score(self, predictions: Mapping[str, Prediction], split: LabelledSplit) -> Records:
        """Compare predictions with the labels of `split`: per-image records for metrics and resampling."""

    @staticmethod
    @abstractmethod
    def write(folder: Path, predictions: Mapping[str, Prediction]) -> None:
        """Store predictions below `folder`, each of them as soon as it is asked for: that is where it is made."""

    @staticmethod
    @abstractmethod
    def read(folder: Path) -> Mapping[str, Prediction]:
        """Read back what `write` stored; large predictions are read when they are asked for."""

    @staticmethod
    @abstractmethod
    def draw(image: Image, prediction: Prediction, classes: list[str]) -> Image:
        """The image with the prediction drawn onto a copy."""


class ObjectTask(Task[Prediction]):
    """A task that finds objects one by one, by boxes or by masks: labels and predictions in COCO's form."""

    overlap: ClassVar[Overlap]

    @staticmethod
    @abstractmethod
    def coco_labels(split: LabelledSplit, classes: int) -> dict[str, Any]:
        """COCO's annotations of a split; image number n, in the order of the ids, has id n + 1, class c has c + 1."""

    @staticmethod
    @abstractmethod
    def coco_results(predictions: Mapping[str, Prediction]) -> Iterator[dict[str, Any]]:
        """COCO's results, image by image, with the ids of `coco_labels`."""
