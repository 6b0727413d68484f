"""Classification of whole images with any network of timm. The only file that imports it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pipeline.metrics.classification import ClassificationRecords
from pipeline.metrics.records import PREDICTIONS_FILE, reading

from . import TaskError
from .contract import Image, LabelledSplit, MakeBatches, Task, TrainingLoop
from .palette import color
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
    match_classes,
    normalise,
    read_settings,
    read_task_file,
    weight_files,
)

SMALLEST_CROP = 0.6  # of each side of a training image


@dataclass(frozen=True)
class ClassificationSettings:
    """Settings of the task classification."""

    model: str = "resnet18"  # a name of timm; not looked at where weights is a folder
    weights: str | None = None  # imagenet, or a folder that this task saved
    frozen: bool = False  # judge with the weights as they are: no training, classes matched by name
    image_size: Side = 224  # images are resized to squares of this side
    steps: Steps = 5000
    batch: Batch = 32
    learning_rate: Positive = 1e-3


class Label(NamedTuple):
    """The likeliest class of an image."""

    category: int  # class index
    score: float  # its probability


class Classification(Task[Label]):
    """A classifier, scored with accuracy and balanced accuracy.

    Args:
        network: its head has one output for each of `known`.
        classes: the data's classes, in their index order.
        description: timm's name of the network, and the side of the squares that it looks at.
        device: where it runs.
        known: the network's own classes, in its index order; None: those of the data. Where the network knows
            more, an image gets the likeliest of the data's classes.
    """

    name = "classification"
    labels = "classification"
    Settings = ClassificationSettings

    def __init__(
        self,
        network: torch.nn.Module,
        classes: list[str],
        description: dict[str, Any],
        device: torch.device,
        known: list[str] | None = None,
    ) -> None:
        self.network = network.eval().requires_grad_(False).to(device)
        self.network.zero_grad()  # what training left behind
        self.classes = classes
        self.known = known or classes
        self.places = match_classes(self.name, self.known, classes)
        self.description = description
        self.device = device

    @classmethod
    def check(cls, settings: Mapping[str, Any]) -> list[Path]:
        """As the contract says. The network is built once, which also finds out whether published weights are there."""
        given: ClassificationSettings = read_settings(cls.Settings, cls.name, settings)
        if given.weights in (None, IMAGENET):
            if given.frozen:
                raise TaskError(f"train_task.{cls.name}.frozen: true needs weights: a folder with a trained network")
            _build(given.model, 2, given.weights == IMAGENET)
            return []
        files = weight_files(cls.name, given.weights, given.frozen)
        if not is_saved_task(Path(str(given.weights))):
            raise TaskError(
                f"train_task.{cls.name}.weights: {given.weights}: expected {IMAGENET}, or a folder with "
                f"{DESCRIPTION_FILE} and {WEIGHTS_FILE}"
            )
        return files

    @classmethod
    def fit(
        cls,
        split: LabelledSplit,
        make_batches: MakeBatches,
        classes: list[str],
        settings: Mapping[str, Any],
        loop: TrainingLoop,
    ) -> "Classification":
        """Train with cross-entropy, AdamW and a one-cycle schedule; last weights are kept.

        Raises:
            TaskError: there are no categories, the network cannot be built, or frozen classes do not match.
        """
        given: ClassificationSettings = read_settings(cls.Settings, cls.name, settings)
        if given.frozen:
            cls.check(settings)
            trained = _read(Path(str(given.weights)))
            return cls(trained.network, classes, trained.description, loop.device, trained.known)
        if not (split.folder / "categories").is_dir():
            raise TaskError(f"{split.folder}: no categories folder; take {cls.name} out of tasks, or choose other data")
        torch.manual_seed(loop.seed)
        network, model = _start(given, len(classes))
        _train(network.to(loop.device).train(), split, given, loop)
        return cls(network, classes, {"model": model, "image_size": given.image_size}, loop.device)

    def save(self, folder: Path) -> None:
        state = {name: value.contiguous().cpu() for name, value in self.network.state_dict().items()}
        save_file(state, folder / WEIGHTS_FILE)
        content = {"network": self.description, "classes": self.classes, "known": self.known}
        (folder / DESCRIPTION_FILE).write_text(json.dumps(content, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> "Classification":
        trained = _read(folder)
        return cls(trained.network, trained.classes, trained.description, device, trained.known)

    @torch.inference_mode()
    def predict(self, image: Image) -> Label:
        logits = self.network(self._seen(_to_tensor(image)[None].to(self.device)))[0]
        chances = logits[self.places].softmax(dim=0)
        best = int(chances.argmax())
        return Label(best, float(chances[best]))

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The maps after each stage of the network, of the square that it looks at."""
        network: Any = self.network
        maps: list[torch.Tensor] = network.forward_intermediates(self._seen(images), intermediates_only=True)
        return maps

    def _seen(self, images: torch.Tensor) -> torch.Tensor:
        return normalise(_resize(images, self.description["image_size"]))

    @staticmethod
    def truth(split: LabelledSplit, name: str) -> Label:
        return Label(split.category(name), 1.0)

    def score(self, predictions: Mapping[str, Label], split: LabelledSplit) -> ClassificationRecords:
        truth = {name: split.category(name) for name in predictions}
        predicted = {name: found.category for name, found in predictions.items()}
        return ClassificationRecords.gather(truth, predicted, self.classes)

    @staticmethod
    def write(folder: Path, predictions: Mapping[str, Label]) -> None:
        rows = {name: {"category_id": c, "score": round(score, 6)} for name, (c, score) in sorted(predictions.items())}
        (folder / PREDICTIONS_FILE).write_text(json.dumps(rows) + "\n")

    @staticmethod
    def read(folder: Path) -> dict[str, Label]:
        with reading(folder / PREDICTIONS_FILE):
            stored = json.loads((folder / PREDICTIONS_FILE).read_text())
            return {name: Label(int(row["category_id"]), float(row["score"])) for name, row in stored.items()}

    @staticmethod
    def draw(image: Image, prediction: Label, classes: list[str]) -> Image:
        canvas = np.ascontiguousarray(image).copy()
        height, width = canvas.shape[:2]
        shade = color(prediction.category)
        cv2.rectangle(canvas, (0, 0), (width - 1, height - 1), shade, 2)
        size = max(height, 64) / 400
        place = (4, height - 6)
        cv2.putText(canvas, classes[prediction.category], place, cv2.FONT_HERSHEY_SIMPLEX, size, shade, 1, cv2.LINE_AA)
        return canvas


class _Trained(NamedTuple):
    network: torch.nn.Module
    description: dict[str, Any]
    classes: list[str]
    known: list[str]


def _read(folder: Path) -> _Trained:
    try:
        content = read_task_file(folder, "network", "classes", "known")
        network = _build(content["network"]["model"], len(content["known"]), False)
        network.load_state_dict(load_file(folder / WEIGHTS_FILE))
        return _Trained(network, content["network"], content["classes"], content["known"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise TaskError(
            f"{folder}: not a saved classification network ({' '.join(str(error).split())[:300]})"
        ) from error


def _start(settings: ClassificationSettings, classes: int) -> tuple[torch.nn.Module, str]:
    """The network that training starts from, on the CPU, and its name; of a folder's weights all that fit are taken."""
    if settings.weights in (None, IMAGENET):
        return _build(settings.model, classes, settings.weights == IMAGENET), settings.model
    trained = _read(Path(settings.weights))
    model = trained.description["model"]
    network = _build(model, classes, False)
    own, given = network.state_dict(), trained.network.state_dict()
    network.load_state_dict(own | {name: value for name, value in given.items() if value.shape == own[name].shape})
    return network, model


def _build(model: str, classes: int, pretrained: bool) -> torch.nn.Module:
    import timm

    try:
        with from_cache_only("train_task.classification.weights", model):
            network: torch.nn.Module = timm.create_model(model, pretrained=pretrained, num_classes=classes)
    except (RuntimeError, ValueError, TypeError) as error:
        if isinstance(error, TaskError):
            raise
        like = ", ".join(get_close_matches(model, timm.list_models(), 6)) or "see timm.list_models()"
        raise TaskError(
            f"train_task.classification.model: timm cannot build {model!r} ({error}); like it: {like}"
        ) from error
    return network


def _train(
    network: torch.nn.Module, split: LabelledSplit, settings: ClassificationSettings, loop: TrainingLoop
) -> None:
    steps, rate = settings.steps, settings.learning_rate
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps, pct_start=0.1)
    for step in loop.steps(steps, {"network": network, "optimizer": optimizer, "schedule": schedule}):
        images, categories = (tensor.to(loop.device) for tensor in _batch(split, step, settings, loop.seed))
        loss = F.cross_entropy(network(normalise(images)), categories)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        loop.log(step + 1, loss=loss.item())


def _batch(
    split: LabelledSplit, step: int, settings: ClassificationSettings, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Views (B, 3, S, S) in [0, 1] and class indices (B,) of one step: epochs of permutations, random crops, flips."""
    images, categories = [], []
    for index in range(step * settings.batch, (step + 1) * settings.batch):
        epoch, place = divmod(index, len(split.ids))
        order = np.random.default_rng([seed, epoch]).permutation(len(split.ids))
        name = split.ids[int(order[place])]
        view = _random_view(_to_tensor(split.image(name)), np.random.default_rng([seed, epoch, place]))
        images.append(_resize(view[None], settings.image_size)[0])
        categories.append(split.category(name))
    return torch.stack(images), torch.tensor(categories)


def _random_view(image: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    height, width = (round(side * generator.uniform(SMALLEST_CROP, 1)) for side in image.shape[-2:])
    top = int(generator.integers(image.shape[-2] - height + 1))
    left = int(generator.integers(image.shape[-1] - width + 1))
    view = image[:, top : top + height, left : left + width]
    return view.flip(-1) if generator.random() < 0.5 else view


def _resize(images: torch.Tensor, side: int) -> torch.Tensor:
    """(N, 3, H, W) to (N, 3, side, side)."""
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False)


def _to_tensor(image: Image) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255
