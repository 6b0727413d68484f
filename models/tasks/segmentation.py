"""Semantic segmentation with any architecture and encoder of segmentation-models-pytorch, or a semantic YOLO."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, field_validator

from ..mixed_precision import Precision, mixed_output
from ..settings import Positive
from ..settings import Settings as BaseSettings
from . import TaskError
from .contract import Batches, BatchSize, Image, LabelledSplit, MakeBatches, Side, Steps, Task, TrainingLoop
from .imagenet import IMAGENET, Normalisation
from .predictions import Mask
from .saved_networks import is_saved_task, read_task_file, weight_files
from .smp_files import CONFIG_FILE, class_names, read_description
from .smp_networks import is_yolo, library_network, load_network, start_network

IGNORE_INDEX = 255
# Names in a network's description that `arguments` cannot set: they have a key of their own, or follow from the data.
RESERVED = {
    "architecture",
    "encoder",
    "encoder_weights",
    "classes",
    "in_channels",
    "activation",
    "input",
    "outputs",
}
STRIDES = {"pan": 128}  # sides of images must be multiples of it; of 32 for the other architectures


class Settings(BaseSettings):
    """Settings of the task segmentation.

    Attributes:
        architecture: a name of segmentation-models-pytorch, or a model YAML of ultralytics such as yolo26n-sem.yaml.
        encoder: a name of segmentation-models-pytorch, or tu- and a name of timm; unused with a YAML.
        arguments: further arguments of segmentation-models-pytorch, such as {decoder_channels: [64, 48, 32, 24, 16]}.
        weights: "imagenet" (the encoder's), a folder of save_pretrained or of this task, or a file; None: random.
        encoder_weights: a file with the encoder's weights.
        frozen: use the weights as they are, classes matched by name; arms train a copy.
        model_classes: class names of weights that hold none, in the order of their indices.
        mean: of the network's channels, for images in [0, 1]; None: as the weights say.
        std: by which they are divided; None: as the weights say.
        channel_order: in which the network takes its channels; None: as the weights say.
        steps: training steps.
        batch: crops in a training step.
        crop: side of the square training crops, in pixels.
        learning_rate: largest learning rate.
        precision: of the network in training: full (float32), bf16, or auto: bf16 if the processor multiplies it.
    """

    architecture: str = "unet"
    encoder: str = "resnet18"
    arguments: dict[str, Any] = Field(default={})
    weights: str | None = None
    encoder_weights: str | None = None
    frozen: bool = False
    model_classes: tuple[str, ...] | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[Positive, Positive, Positive] | None = None
    channel_order: Literal["rgb", "bgr"] | None = None
    steps: Steps = 10000
    batch: BatchSize = 8
    crop: Side = 256
    learning_rate: Positive = 1e-3
    precision: Precision = "full"

    @property
    def network(self) -> dict[str, Any]:
        """The description of the network that the settings name."""
        return {"architecture": self.architecture, "encoder": self.encoder, **self.arguments}

    @field_validator("arguments")
    @classmethod
    def _are_free(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        if taken := RESERVED & set(arguments):
            raise ValueError(f"{min(taken)!r} has a key of its own, or follows from the data; remove it here")
        return arguments

    def with_input(self, description: Mapping[str, Any]) -> dict[str, Any]:
        """A description with the normalisation of the settings, where they have one."""
        chosen = {key: getattr(self, key) for key in Normalisation._fields if getattr(self, key) is not None}
        known = Normalisation.read(description.get("input"))._asdict()
        return {**description, "input": known | chosen} if chosen else dict(description)


class Segmentation(Task[Mask]):
    """A segmentation network that predicts a class for each pixel.

    `description` has the architecture, the encoder and the library's other arguments.
    """

    name = "segmentation"
    labels = "segmentation"
    has_training_loss = True
    settings_type = Settings

    @classmethod
    def check(cls, section: Mapping[str, Any]) -> list[Path]:
        """See `Task.check`. Builds the network, because the library has no list of the encoders of an architecture."""
        settings: Settings = cls.parse_settings(section)
        key = f"train_task.{cls.name}"
        if settings.weights in (None, IMAGENET):
            if settings.frozen:
                raise TaskError(f"{key}.frozen: true needs weights: a file or folder with a trained network")
            start_network(settings.network, settings.weights, 2, settings.encoder_weights)
            files = [Path(settings.encoder_weights)] if settings.encoder_weights else []
            if is_yolo(settings.architecture) and Path(settings.architecture).is_file():
                files.append(Path(settings.architecture))
            return files
        if settings.encoder_weights is not None:
            raise TaskError(f"{key}.encoder_weights: {key}.weights has an encoder. Remove one of them")
        files = weight_files(cls.name, settings.weights, settings.frozen)
        _, network_classes = read_description(Path(str(settings.weights)), settings.network, settings.model_classes)
        if settings.frozen and network_classes is None:
            raise TaskError(
                f"{key}.model_classes: {settings.weights} holds no class names: "
                "list them here, in the network's index order"
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
    ) -> "Segmentation":
        """Train with cross-entropy plus Dice loss, AdamW and a one-cycle schedule. See `Task.fit`.

        Pixels of index 255 are ignored. There is no early stopping.
        """
        settings: Settings = cls.parse_settings(section)
        if settings.frozen:
            cls.check(section)
            return cls.load_weights(section, classes, loop.device)
        if not (split.folder / "masks").is_dir():
            raise TaskError(f"{split.folder}: no masks folder; take {cls.name} out of tasks, or choose other data")
        torch.manual_seed(loop.seed)
        start = start_network(settings.network, settings.weights, len(classes), settings.encoder_weights)
        network, description = start[0].to(loop.device).train(), settings.with_input(start[1])
        normalisation = Normalisation.read(description.get("input"))
        _train(network, normalisation, make_batches(settings.crop, settings.batch), settings, loop)
        return cls(network, classes, description, loop.device)

    @classmethod
    def load_weights(
        cls, section: Mapping[str, Any], classes: list[str] | None, device: torch.device
    ) -> "Segmentation":
        settings: Settings = cls.parse_settings(section)
        path = Path(str(settings.weights))
        description, names = read_description(path, settings.network, settings.model_classes)
        network_classes = class_names(path, description, names, classes)
        network = load_network(path, description, len(network_classes))
        return cls(network, classes or network_classes, settings.with_input(description), device, network_classes)

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> "Segmentation":
        content = read_task_file(folder, "network", "classes", "known")
        network = load_network(folder, content["network"], len(content["known"]))
        return cls(network, content["classes"], content["network"], device, content["known"])

    @torch.inference_mode()
    def predict_batch(self, images: Sequence[Image]) -> list[Mask]:
        return self._masks(self.network(self._batch(images))[:, self.outputs], images)

    @torch.inference_mode()
    def library_prediction(self, weights: Path, image: Image) -> Mask | None:
        """Of a folder of save_pretrained. See `Task.library_prediction`."""
        if is_saved_task(weights) or not (weights / CONFIG_FILE).is_file():
            return None
        output = library_network(weights).to(self.device)(self._batch([image]))
        logits = output[0] if isinstance(output, tuple) else output  # a tuple has labels of the image too
        two = torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits
        return self._masks(two, [image])[0]

    def _batch(self, images: Sequence[Image]) -> torch.Tensor:
        """Images (H, W, 3) of one size as the network takes them: (N, 3, H', W')."""
        batch = torch.from_numpy(np.stack(images)).to(self.device).permute(0, 3, 1, 2).float() / 255
        return self._padded(batch)

    @staticmethod
    def _masks(logits: torch.Tensor, images: Sequence[Image]) -> list[Mask]:
        """The likeliest class of each pixel of N images, from logits (N, C, H', W')."""
        height, width = images[0].shape[:2]
        return list(logits[:, :, :height, :width].argmax(dim=1).to(torch.uint8).cpu().numpy())

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The encoder's maps without the first, which is the input. See `Task.features`."""
        maps: Any = self.network.encoder(self._padded(images))  # type: ignore[operator]
        if isinstance(maps, tuple):  # a transformer's maps come with its prefix tokens
            return list(maps[0])
        return list(maps[1:])

    def training_loss(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Cross-entropy plus Dice loss over the classes of the data. See `Task.training_loss`."""
        height, width = images.shape[-2:]
        logits = self.network(self._padded(images))[:, self.outputs, :height, :width]
        if (labels == IGNORE_INDEX).all():
            return logits.sum() * 0.0  # a mean over no pixels is not a number
        return segmentation_loss(logits, labels)

    def _padded(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images, padded at the right and the bottom to sides that the network takes."""
        height, width = images.shape[-2:]
        stride = STRIDES.get(self.description["architecture"], 32)
        normalised = Normalisation.read(self.description.get("input")).apply(images)
        return F.pad(normalised, (0, -width % stride, 0, -height % stride))


def segmentation_loss(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Cross-entropy plus Dice loss of logits (N, C, H, W) and class indices (N, H, W); 255 is ignored."""
    from segmentation_models_pytorch.losses import DiceLoss

    dice: torch.Tensor = DiceLoss("multiclass", ignore_index=IGNORE_INDEX)(logits, masks)
    return F.cross_entropy(logits, masks, ignore_index=IGNORE_INDEX) + dice


def _train(
    network: torch.nn.Module, normalisation: Normalisation, batches: Batches, settings: Settings, loop: TrainingLoop
) -> None:
    steps, rate = settings.steps, settings.learning_rate
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-4, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps, pct_start=0.1)
    for step in loop.steps(steps, {"network": network, "optimizer": optimizer, "schedule": schedule}):
        images, masks = (tensor.to(loop.device) for tensor in batches(step))
        output = mixed_output(network, normalisation.apply(images), settings.precision)
        loss = segmentation_loss(output, masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        loop.log(step + 1, loss=loss.item())
