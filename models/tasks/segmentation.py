"""Semantic segmentation with any architecture and encoder of segmentation-models-pytorch, or a semantic YOLO."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..mixed_precision import Precision, mixed_output
from ..settings import Positive
from ..settings import Settings as BaseSettings
from . import TaskError
from .contract import Batches, BatchSize, Image, LabelledSplit, MakeBatches, Side, Steps, Task, TrainingLoop
from .imagenet import IMAGENET, from_cache_only, normalise
from .predictions import Mask
from .saved_networks import DESCRIPTION_FILE, WEIGHTS_FILE, is_saved_task, read_task_file, weight_files

IGNORE_INDEX = 255
FROM_SMP = "config.json", "model.safetensors"  # the files that the library's save_pretrained writes
STRIDES = {"pan": 128}  # sides of images must be multiples of it; of 32 for the other architectures


class Settings(BaseSettings):
    """Settings of the task segmentation.

    Attributes:
        architecture: a name of segmentation-models-pytorch, or a model YAML of ultralytics such as yolo26n-sem.yaml.
        encoder: a name of segmentation-models-pytorch, or tu- and a name of timm; unused with a YAML.
        weights: "imagenet" (the encoder's), or a folder of save_pretrained or of this task; None: random weights.
        frozen: use the weights as they are: no training, classes matched by name.
        model_classes: class names of a save_pretrained folder, which holds none, in the order of their indices.
        steps: training steps.
        batch: crops in a training step.
        crop: side of the square training crops, in pixels.
        learning_rate: largest learning rate.
        precision: of the network in training: full (float32), bf16, or auto: bf16 if the processor multiplies it.
    """

    architecture: str = "unet"
    encoder: str = "resnet18"
    weights: str | None = None
    frozen: bool = False
    model_classes: tuple[str, ...] | None = None
    steps: Steps = 10000
    batch: BatchSize = 8
    crop: Side = 256
    learning_rate: Positive = 1e-3
    precision: Precision = "full"

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
    has_training_loss = True
    settings_type = Settings

    @classmethod
    def check(cls, section: Mapping[str, Any]) -> list[Path]:
        """See `Task.check`. Builds the network, because the library has no list of the encoders of an architecture."""
        settings: Settings = cls.parse_settings(section)
        if settings.weights in (None, IMAGENET):
            if settings.frozen:
                raise TaskError(f"train_task.{cls.name}.frozen: true needs weights: a folder with a trained network")
            build_network(settings.network, 2, settings.weights)
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

        Pixels of index 255 are ignored. There is no early stopping.
        """
        settings: Settings = cls.parse_settings(section)
        if settings.frozen:
            cls.check(section)
            return cls._load_frozen(Path(str(settings.weights)), classes, settings, loop.device)
        if not (split.folder / "masks").is_dir():
            raise TaskError(f"{split.folder}: no masks folder; take {cls.name} out of tasks, or choose other data")
        torch.manual_seed(loop.seed)
        network, description = start_network(settings.network, settings.weights, len(classes))
        network.to(loop.device).train()
        _train(network, make_batches(settings.crop, settings.batch), settings, loop)
        return cls(network, classes, description, loop.device)

    @classmethod
    def _load_frozen(cls, folder: Path, classes: list[str], settings: Settings, device: torch.device) -> "Segmentation":
        description, network_classes = read_description(folder, settings.model_classes)
        assert network_classes is not None  # `check` has raised otherwise
        network = load_network(folder, description, len(network_classes))
        return cls(network, classes, description, device, network_classes)

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> "Segmentation":
        content = read_task_file(folder, "network", "classes", "known")
        network = load_network(folder, content["network"], len(content["known"]))
        return cls(network, content["classes"], content["network"], device, content["known"])

    @torch.inference_mode()
    def predict_batch(self, images: Sequence[Image]) -> list[Mask]:
        height, width = images[0].shape[:2]
        batch = torch.from_numpy(np.stack(images)).to(self.device).permute(0, 3, 1, 2).float() / 255
        logits = self.network(self._padded(batch))[:, self.outputs, :height, :width]
        return list(logits.argmax(dim=1).to(torch.uint8).cpu().numpy())

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
        return F.pad(normalise(images), (0, -width % stride, 0, -height % stride))


def segmentation_loss(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Cross-entropy plus Dice loss of logits (N, C, H, W) and class indices (N, H, W); 255 is ignored."""
    from segmentation_models_pytorch.losses import DiceLoss

    dice: torch.Tensor = DiceLoss("multiclass", ignore_index=IGNORE_INDEX)(logits, masks)
    return F.cross_entropy(logits, masks, ignore_index=IGNORE_INDEX) + dice


def _train(network: torch.nn.Module, batches: Batches, settings: Settings, loop: TrainingLoop) -> None:
    steps, rate = settings.steps, settings.learning_rate
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps, pct_start=0.1)
    for step in loop.steps(steps, {"network": network, "optimizer": optimizer, "schedule": schedule}):
        images, masks = (tensor.to(loop.device) for tensor in batches(step))
        loss = segmentation_loss(mixed_output(network, normalise(images), settings.precision), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        loop.log(step + 1, loss=loss.item())


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


def start_network(
    description: dict[str, Any], weights: str | None, classes: int
) -> tuple[torch.nn.Module, dict[str, Any]]:
    """The network that training starts from, on the CPU, and its description.

    Args:
        description: architecture and encoder; those of a folder of weights replace them.
        weights: `imagenet`, or a folder whose weights are used if their shapes fit; None: random weights.
        classes: number of classes.
    """
    if weights in (None, IMAGENET):
        return build_network(description, classes, weights), description
    folder = Path(weights)
    description, _ = read_description(folder)
    network = build_network(description, classes, None)
    state = network.state_dict()
    fitting = {
        name: weight for name, weight in _state(folder).items() if name in state and weight.shape == state[name].shape
    }
    network.load_state_dict(state | fitting)
    return network, description


def load_network(folder: Path, description: Mapping[str, Any], classes: int) -> torch.nn.Module:
    """The trained network in a folder, on the CPU.

    Args:
        folder: of a saved task or of save_pretrained.
        description: of the network, from `read_description`.
        classes: number of classes.

    Raises:
        TaskError: the weights do not fit the description, or the number of class names.
    """
    network = build_network(description, classes, None)
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


def build_network(description: Mapping[str, Any], classes: int, weights: str | None) -> torch.nn.Module:
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
        extra.setdefault("dynamic_img_size", True)  # otherwise its transformer takes a single image size
    from_timm = str(encoder).startswith("tu-")  # these take True instead of a name of weights
    encoder_weights = (True if from_timm else weights) if weights else None
    try:
        with from_cache_only("train_task.segmentation.weights", encoder):
            network = smp.create_model(
                architecture, encoder, encoder_weights=encoder_weights, in_channels=3, classes=classes, **extra
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
