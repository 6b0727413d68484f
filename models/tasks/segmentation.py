"""Semantic segmentation with any architecture and encoder of segmentation-models-pytorch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from ..settings import Positive
from ..settings import Settings as BaseSettings
from . import TaskError
from .contract import Batches, BatchSize, Image, LabelledSplit, MakeBatches, Side, Steps, Task, TrainingLoop
from .imagenet import IMAGENET, normalise
from .predictions import Mask
from .saved_networks import read_task_file, weight_files
from .smp_networks import build, is_yolo, load, read_description, start

IGNORE_INDEX = 255
STRIDES = {"pan": 128}  # sides of images must be multiples of it; of 32 for the other architectures


class Settings(BaseSettings):
    """Settings of the task segmentation."""

    architecture: str = "unet"  # or a model YAML of ultralytics, such as yolo26n-sem.yaml
    encoder: str = "resnet18"  # unused with a YAML
    weights: str | None = None  # imagenet (the encoder's), or a folder of save_pretrained or of this task
    frozen: bool = False  # use the weights as they are: no training, classes matched by name
    model_classes: tuple[str, ...] | None = None  # of a save_pretrained folder, which holds no names; index order
    steps: Steps = 10000
    batch: BatchSize = 8
    crop: Side = 256
    learning_rate: Positive = 1e-3

    @property
    def network(self) -> dict[str, Any]:
        """The description of the network that the settings name."""
        return {"architecture": self.architecture, "encoder": self.encoder}


class Segmentation(Task[Mask]):
    """A segmentation network that predicts a class for each pixel.

    `description` has the architecture, the encoder and the library's other arguments.
    """

    name = "segmentation"
    labels = "segmentation"
    settings_type = Settings

    @classmethod
    def check(cls, section: Mapping[str, Any]) -> list[Path]:
        """See `Task.check`. Builds the network once, because no list says which architecture takes which encoder."""
        settings: Settings = cls.parse_settings(section)
        if settings.weights in (None, IMAGENET):
            if settings.frozen:
                raise TaskError(f"train_task.{cls.name}.frozen: true needs weights: a folder with a trained network")
            build(settings.network, 2, settings.weights)
            file = Path(settings.architecture)
            return [file] if is_yolo(settings.architecture) and file.is_file() else []
        files = weight_files(cls.name, settings.weights, settings.frozen)
        _, network_classes = read_description(Path(str(settings.weights)), settings.model_classes)
        if settings.frozen and network_classes is None:
            raise TaskError(
                f"train_task.{cls.name}.model_classes: {settings.weights} holds no class names: "
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

        Pixels of index 255 are ignored. The last weights are kept.
        """
        settings: Settings = cls.parse_settings(section)
        if settings.frozen:
            cls.check(section)
            return cls._load_frozen(Path(str(settings.weights)), classes, settings, loop.device)
        if not (split.folder / "masks").is_dir():
            raise TaskError(f"{split.folder}: no masks folder; take {cls.name} out of tasks, or choose other data")
        torch.manual_seed(loop.seed)
        network, description = start(settings.network, settings.weights, len(classes))
        network.to(loop.device).train()
        _train(network, make_batches(settings.crop, settings.batch), settings, loop)
        return cls(network, classes, description, loop.device)

    @classmethod
    def _load_frozen(cls, folder: Path, classes: list[str], settings: Settings, device: torch.device) -> "Segmentation":
        description, network_classes = read_description(folder, settings.model_classes)
        assert network_classes is not None  # `check` has raised otherwise
        return cls(load(folder, description, len(network_classes)), classes, description, device, network_classes)

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> "Segmentation":
        content = read_task_file(folder, "network", "classes", "known")
        network = load(folder, content["network"], len(content["known"]))
        return cls(network, content["classes"], content["network"], device, content["known"])

    @torch.inference_mode()
    def predict(self, image: Image) -> Mask:
        height, width = image.shape[:2]
        batch = torch.from_numpy(image).to(self.device).permute(2, 0, 1)[None].float() / 255
        logits = self.network(self._padded(batch))[0, self.outputs, :height, :width]
        return logits.argmax(dim=0).to(torch.uint8).cpu().numpy()

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The encoder's maps without the first, which is the image. See `Task.features`."""
        maps: Any = self.network.encoder(self._padded(images))  # type: ignore[operator]
        if isinstance(maps, tuple):  # a transformer's maps come with its prefix tokens
            return list(maps[0])
        return list(maps[1:])

    def _padded(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images, padded at the right and the bottom to sides that the network takes."""
        height, width = images.shape[-2:]
        stride = STRIDES.get(self.description["architecture"], 32)
        return F.pad(normalise(images), (0, -width % stride, 0, -height % stride))


def _train(network: torch.nn.Module, batches: Batches, settings: Settings, loop: TrainingLoop) -> None:
    from segmentation_models_pytorch.losses import DiceLoss

    dice = DiceLoss("multiclass", ignore_index=IGNORE_INDEX)
    steps, rate = settings.steps, settings.learning_rate
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps, pct_start=0.1)
    for step in loop.steps(steps, {"network": network, "optimizer": optimizer, "schedule": schedule}):
        images, masks = (tensor.to(loop.device) for tensor in batches(step))
        logits = network(normalise(images))
        loss = F.cross_entropy(logits, masks, ignore_index=IGNORE_INDEX) + dice(logits, masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        loop.log(step + 1, loss=loss.item())
