"""Classification of whole images with any network of timm. Only this module imports timm."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..mixed_precision import Precision, mixed_output
from ..settings import Positive
from ..settings import Settings as BaseSettings
from . import TaskError
from .contract import BatchSize, Image, LabelledSplit, MakeBatches, Side, Steps, Task, TrainingLoop
from .imagenet import IMAGENET, from_cache_only, normalise
from .predictions import Label
from .saved_networks import DESCRIPTION_FILE, WEIGHTS_FILE, is_saved_task, read_task_file, weight_files

SMALLEST_CROP = 0.6  # of each side of a training image


class Settings(BaseSettings):
    """Settings of the task classification.

    Attributes:
        model: a name of timm; unused if weights is a folder.
        weights: "imagenet", or a folder that this task saved; None: random weights.
        frozen: use the weights as they are, classes matched by name; arms train a copy.
        image_size: side in pixels of the squares that images are resized to.
        steps: training steps.
        batch: images in a training step.
        learning_rate: largest learning rate.
        precision: of the network in training: full (float32), bf16, or auto: bf16 if the processor multiplies it.
    """

    model: str = "resnet18"
    weights: str | None = None
    frozen: bool = False
    image_size: Side = 224
    steps: Steps = 5000
    batch: BatchSize = 32
    learning_rate: Positive = 1e-3
    precision: Precision = "full"


class Classification(Task[Label]):
    """A classifier of whole images.

    `description` has timm's name of the network (`model`) and the side of its square input (`image_size`).
    """

    name = "classification"
    labels = "classification"
    settings_type = Settings

    @classmethod
    def check(cls, section: Mapping[str, Any]) -> list[Path]:
        """See `Task.check`. Builds the network once, which also checks that published weights are in the cache."""
        settings: Settings = cls.parse_settings(section)
        if settings.weights in (None, IMAGENET):
            if settings.frozen:
                raise TaskError(f"train_task.{cls.name}.frozen: true needs weights: a folder with a trained network")
            _build(settings.model, 2, settings.weights == IMAGENET)
            return []
        files = weight_files(cls.name, settings.weights, settings.frozen)
        if not is_saved_task(Path(str(settings.weights))):
            raise TaskError(
                f"train_task.{cls.name}.weights: {settings.weights}: expected {IMAGENET}, or a folder with "
                f"{DESCRIPTION_FILE} and {WEIGHTS_FILE}"
            )
        return files

    @classmethod
    def fit(
        cls,
        split: LabelledSplit,
        make_batches: MakeBatches,
        classes: list[str],
        section: Mapping[str, Any],
        loop: TrainingLoop,
    ) -> "Classification":
        """Train with cross-entropy, AdamW and a one-cycle schedule, without early stopping. See `Task.fit`."""
        settings: Settings = cls.parse_settings(section)
        if settings.frozen:
            cls.check(section)
            return cls.load_weights(section, classes, loop.device)
        if not (split.folder / "categories").is_dir():
            raise TaskError(f"{split.folder}: no categories folder; take {cls.name} out of tasks, or choose other data")
        torch.manual_seed(loop.seed)
        network, model = _start(settings, len(classes))
        _train(network.to(loop.device).train(), split, settings, loop)
        return cls(network, classes, {"model": model, "image_size": settings.image_size}, loop.device)

    @classmethod
    def load_weights(
        cls, section: Mapping[str, Any], classes: list[str] | None, device: torch.device
    ) -> "Classification":
        saved = _read(Path(section["weights"]))
        return cls(saved.network, classes or saved.network_classes, saved.description, device, saved.network_classes)

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> "Classification":
        saved = _read(folder)
        return cls(saved.network, saved.classes, saved.description, device, saved.network_classes)

    @torch.inference_mode()
    def predict_batch(self, images: Sequence[Image]) -> list[Label]:
        batch = torch.stack([_to_tensor(image) for image in images]).to(self.device)
        probabilities = self.network(self._input(batch))[:, self.outputs].softmax(dim=1)  # (N, C)
        best, categories = probabilities.max(dim=1)
        return [Label(int(category), float(score)) for category, score in zip(categories, best, strict=True)]

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The output of each stage of the network, for the resized images. See `Task.features`."""
        network: Any = self.network
        maps: list[torch.Tensor] = network.forward_intermediates(self._input(images), intermediates_only=True)
        return maps

    def _input(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, H, W) in [0, 1], resized to squares and normalised: (N, 3, S, S)."""
        return normalise(_resize(images, self.description["image_size"]))


class _Saved(NamedTuple):
    """The content of a folder that the task saved."""

    network: torch.nn.Module
    description: dict[str, Any]
    classes: list[str]
    network_classes: list[str]


def _read(folder: Path) -> _Saved:
    try:
        content = read_task_file(folder, "network", "classes", "known")
        network = _build(content["network"]["model"], len(content["known"]), False)
        network.load_state_dict(load_file(folder / WEIGHTS_FILE))
        return _Saved(network, content["network"], content["classes"], content["known"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise TaskError(
            f"{folder}: not a saved classification network ({' '.join(str(error).split())[:300]})"
        ) from error


def _start(settings: Settings, classes: int) -> tuple[torch.nn.Module, str]:
    """The network that training starts from, on the CPU, and its name. A folder's weights are used if they fit."""
    if settings.weights in (None, IMAGENET):
        return _build(settings.model, classes, settings.weights == IMAGENET), settings.model
    saved = _read(Path(settings.weights))
    model = saved.description["model"]
    network = _build(model, classes, False)
    state, weights = network.state_dict(), saved.network.state_dict()
    fitting = {name: weight for name, weight in weights.items() if weight.shape == state[name].shape}
    network.load_state_dict(state | fitting)
    return network, model


def _build(model: str, classes: int, pretrained: bool) -> torch.nn.Module:
    import timm

    try:
        with from_cache_only("train_task.classification.weights", model):
            network: torch.nn.Module = timm.create_model(model, pretrained=pretrained, num_classes=classes)
    except (RuntimeError, ValueError, TypeError) as error:
        if isinstance(error, TaskError):
            raise
        similar = ", ".join(get_close_matches(model, timm.list_models(), 6)) or "see timm.list_models()"
        raise TaskError(
            f"train_task.classification.model: timm cannot build {model!r} ({error}); similar: {similar}"
        ) from error
    return network


def _train(network: torch.nn.Module, split: LabelledSplit, settings: Settings, loop: TrainingLoop) -> None:
    steps, rate = settings.steps, settings.learning_rate
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-4, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps, pct_start=0.1)
    for step in loop.steps(steps, {"network": network, "optimizer": optimizer, "schedule": schedule}):
        images, categories = (tensor.to(loop.device) for tensor in _batch(split, step, settings, loop.seed))
        loss = F.cross_entropy(mixed_output(network, normalise(images), settings.precision), categories)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        loop.log(step + 1, loss=loss.item())


def _batch(split: LabelledSplit, step: int, settings: Settings, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Crops (B, 3, S, S) in [0, 1] and class indices (B,) of a step; every epoch is a permutation of the images."""
    images, categories = [], []
    for index in range(step * settings.batch, (step + 1) * settings.batch):
        epoch, position = divmod(index, len(split.ids))
        order = np.random.default_rng([seed, epoch]).permutation(len(split.ids))
        image_id = split.ids[int(order[position])]
        crop = _random_crop(_to_tensor(split.image(image_id)), np.random.default_rng([seed, epoch, position]))
        images.append(_resize(crop[None], settings.image_size)[0])
        categories.append(split.category(image_id))
    return torch.stack(images), torch.tensor(categories)


def _random_crop(image: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """A crop (3, h, w) of an image (3, H, W), flipped half of the time."""
    height, width = (round(side * generator.uniform(SMALLEST_CROP, 1)) for side in image.shape[-2:])
    top = int(generator.integers(image.shape[-2] - height + 1))
    left = int(generator.integers(image.shape[-1] - width + 1))
    crop = image[:, top : top + height, left : left + width]
    return crop.flip(-1) if generator.random() < 0.5 else crop


def _resize(images: torch.Tensor, side: int) -> torch.Tensor:
    """Images (N, 3, H, W) resized to (N, 3, side, side)."""
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False)


def _to_tensor(image: Image) -> torch.Tensor:
    """A uint8 image (H, W, 3) as (3, H, W) in [0, 1]."""
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255
