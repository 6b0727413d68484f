"""Semantic segmentation with any architecture and encoder of segmentation-models-pytorch. The only file that
imports it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from models.tasks import TaskError
from models.tasks.contract import Batches, Image, LabelledSplit, MakeBatches, Task, TrainingLoop
from models.tasks.palette import color
from models.tasks.records import SegmentationRecords, count_segmentation

IGNORE_INDEX = 255
STRIDE = 32  # every encoder halves at most five times
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Mask = NDArray[np.uint8]  # (H, W) class indices


class Segmentation(Task[Mask]):
    """A segmentation network, scored with the mean IoU over the whole split."""

    name = "segmentation"

    def __init__(
        self, network: torch.nn.Module, classes: list[str], settings: dict[str, Any], device: torch.device
    ) -> None:
        self.network = network.eval().requires_grad_(False).to(device)
        self.network.zero_grad()  # what training left behind
        self.classes = classes
        self.settings = settings
        self.device = device

    @classmethod
    def fit(
        cls,
        split: LabelledSplit,
        make_batches: MakeBatches,
        classes: list[str],
        settings: Mapping[str, Any],
        loop: TrainingLoop,
    ) -> "Segmentation":
        """Train with cross-entropy plus Dice (255 ignored), AdamW and a one-cycle schedule; last weights are kept.

        Raises:
            TaskError: there are no masks, or the loss stops being finite.
        """
        if not (split.folder / "masks").is_dir():
            raise TaskError(f"{split.folder}: no masks folder; take segmentation out of tasks, or choose other data")
        description = {name: settings[name] for name in ("architecture", "encoder")}
        torch.manual_seed(loop.seed)
        network = _build(description, len(classes), settings["weights"]).to(loop.device).train()
        _train(network, make_batches(settings["crop"], settings["batch"]), settings, loop)
        return cls(network, classes, description, loop.device)

    def save(self, folder: Path) -> None:
        state = {name: value.contiguous().cpu() for name, value in self.network.state_dict().items()}
        save_file(state, folder / "weights.safetensors")
        description = {**self.settings, "classes": self.classes}
        (folder / "task.json").write_text(json.dumps(description, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> "Segmentation":
        description = json.loads((folder / "task.json").read_text())
        classes = description.pop("classes")
        network = _build(description, len(classes), None)
        network.load_state_dict(load_file(folder / "weights.safetensors"))
        return cls(network, classes, description, device)

    @torch.inference_mode()
    def predict(self, image: Image) -> Mask:
        height, width = image.shape[:2]
        batch = torch.from_numpy(image).to(self.device).permute(2, 0, 1)[None].float() / 255
        padded = F.pad(_normalise(batch), (0, -width % STRIDE, 0, -height % STRIDE))
        logits = self.network(padded)[0, :, :height, :width]
        return logits.argmax(dim=0).to(torch.uint8).cpu().numpy()

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The encoder's maps, without its first, which is the image itself."""
        height, width = images.shape[-2:]
        padded = F.pad(_normalise(images), (0, -width % STRIDE, 0, -height % STRIDE))
        maps: list[torch.Tensor] = self.network.encoder(padded)[1:]  # type: ignore[operator]
        return maps

    @staticmethod
    def truth(split: LabelledSplit, name: str) -> Mask:
        return split.mask(name)

    def score(self, predictions: Mapping[str, Mask], split: LabelledSplit) -> SegmentationRecords:
        names = sorted(predictions)
        counts = [
            count_segmentation(predictions[name], split.mask(name), len(self.classes), IGNORE_INDEX) for name in names
        ]
        return SegmentationRecords.stack(names, counts, self.classes)

    @staticmethod
    def write(folder: Path, predictions: Mapping[str, Mask]) -> None:
        for name, mask in predictions.items():
            _, buffer = cv2.imencode(".png", mask)
            (folder / f"{name}.png").write_bytes(buffer.tobytes())

    @staticmethod
    def read(folder: Path) -> dict[str, Mask]:
        return {
            path.stem: np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), dtype=np.uint8)
            for path in sorted(folder.glob("*.png"))
        }

    @staticmethod
    def draw(image: Image, prediction: Mask, classes: list[str]) -> Image:
        colors = np.zeros((256, 3), dtype=np.float32)
        colors[: len(classes)] = [color(index) for index in range(len(classes))]
        blend = np.where((prediction != IGNORE_INDEX)[:, :, None], 0.5 * image + 0.5 * colors[prediction], image)
        return blend.astype(np.uint8)


def _normalise(images: torch.Tensor) -> torch.Tensor:
    mean = images.new_tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    std = images.new_tensor(IMAGENET_STD).view(1, 3, 1, 1)
    return (images - mean) / std


def _build(description: Mapping[str, Any], classes: int, weights: str | None) -> torch.nn.Module:
    import segmentation_models_pytorch as smp

    try:
        network = smp.create_model(
            description["architecture"], description["encoder"], encoder_weights=weights, in_channels=3, classes=classes
        )
    except (KeyError, ValueError, RuntimeError) as error:
        raise TaskError(
            f"train_task.segmentation: segmentation-models-pytorch cannot build architecture "
            f"{description['architecture']!r} with encoder {description['encoder']!r}: {error}"
        ) from error
    return network


def _train(network: torch.nn.Module, batches: Batches, settings: Mapping[str, Any], loop: TrainingLoop) -> None:
    from segmentation_models_pytorch.losses import DiceLoss

    dice = DiceLoss("multiclass", ignore_index=IGNORE_INDEX)
    steps, rate = settings["steps"], settings["learning_rate"]
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps, pct_start=0.1)
    for step in loop.steps(steps, {"network": network, "optimizer": optimizer, "schedule": schedule}):
        images, masks = (tensor.to(loop.device) for tensor in batches(step))
        logits = network(_normalise(images))
        loss = F.cross_entropy(logits, masks, ignore_index=IGNORE_INDEX) + dice(logits, masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        loop.log(step + 1, loss=loss.item())
