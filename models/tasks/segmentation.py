"""Semantic segmentation with any architecture and encoder of segmentation-models-pytorch."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save_file

from pipeline.metrics.records import RecordsError, reading
from pipeline.metrics.segmentation import SegmentationRecords, count_segmentation

from . import TaskError
from .contract import Batches, Image, LabelledSplit, MakeBatches, Task, TrainingLoop
from .palette import color
from .smp_networks import SegmentationSettings, build, described, is_yolo, load, read_description, start
from .weights import (
    DESCRIPTION_FILE,
    IMAGENET,
    WEIGHTS_FILE,
    match_classes,
    normalise,
    read_settings,
    read_task_file,
    weight_files,
)

IGNORE_INDEX = 255
STRIDES = {"pan": 128}  # sides of images must be multiples of this; of 32 for all others

Mask = NDArray[np.uint8]  # (H, W) class indices


class _Stored(Mapping[str, Mask]):
    """The masks of a folder, each read when it is asked for: all of them may not fit into memory."""

    def __init__(self, folder: Path) -> None:
        self._paths = {path.stem: path for path in sorted(folder.glob("*.png"))}

    def __getitem__(self, name: str) -> Mask:
        with reading(self._paths[name]):
            mask = cv2.imread(str(self._paths[name]), cv2.IMREAD_UNCHANGED)
            if mask is None or mask.ndim != 2 or mask.dtype != np.uint8:
                raise RecordsError("expected one 8-bit channel of class indices")
            return np.asarray(mask, dtype=np.uint8)

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


class Segmentation(Task[Mask]):
    """A segmentation network, scored with the mean IoU over the whole split.

    Args:
        network: its head has one channel for each of `known`.
        classes: the data's classes, in their index order.
        description: what the network is built from: architecture, encoder and the library's other arguments.
        device: where it runs.
        known: the network's own classes, in its index order; None: those of the data. Where the network knows
            more, a pixel gets the likeliest of the data's classes.
    """

    name = "segmentation"
    labels = "segmentation"
    Settings = SegmentationSettings

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
        self.stride = STRIDES.get(description["architecture"], 32)
        self.device = device

    @classmethod
    def check(cls, settings: Mapping[str, Any]) -> list[Path]:
        """As the contract says. The network is built once: no list has which architecture takes which encoder."""
        given: SegmentationSettings = read_settings(cls.Settings, cls.name, settings)
        if given.weights in (None, IMAGENET):
            if given.frozen:
                raise TaskError(f"train_task.{cls.name}.frozen: true needs weights: a folder with a trained network")
            build(described(given), 2, given.weights)
            own = Path(given.architecture)
            return [own] if is_yolo(given.architecture) and own.is_file() else []
        files = weight_files(cls.name, given.weights, given.frozen)
        _, known = read_description(Path(str(given.weights)), given)
        if given.frozen and known is None:
            raise TaskError(
                f"train_task.{cls.name}.model_classes: {given.weights} holds no class names: "
                "list them here, in the network's index order"
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
    ) -> "Segmentation":
        """Train with cross-entropy plus Dice (255 ignored), AdamW and a one-cycle schedule; last weights are kept.

        Raises:
            TaskError: there are no masks, the network cannot be built, or frozen classes do not match the data's.
        """
        given: SegmentationSettings = read_settings(cls.Settings, cls.name, settings)
        if given.frozen:
            cls.check(settings)
            return cls._frozen(Path(str(given.weights)), classes, given, loop.device)
        if not (split.folder / "masks").is_dir():
            raise TaskError(f"{split.folder}: no masks folder; take {cls.name} out of tasks, or choose other data")
        torch.manual_seed(loop.seed)
        network, description = start(given, len(classes))
        network.to(loop.device).train()
        _train(network, make_batches(given.crop, given.batch), given, loop)
        return cls(network, classes, description, loop.device)

    @classmethod
    def _frozen(
        cls, folder: Path, classes: list[str], settings: SegmentationSettings, device: torch.device
    ) -> "Segmentation":
        description, known = read_description(folder, settings)
        assert known is not None  # checked
        return cls(load(folder, description, len(known)), classes, description, device, known)

    def save(self, folder: Path) -> None:
        state = {name: value.contiguous().cpu() for name, value in self.network.state_dict().items()}
        save_file(state, folder / WEIGHTS_FILE)
        content = {"network": self.description, "classes": self.classes, "known": self.known}
        (folder / DESCRIPTION_FILE).write_text(json.dumps(content, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> "Segmentation":
        content = read_task_file(folder, "network", "classes", "known")
        network = load(folder, content["network"], len(content["known"]))
        return cls(network, content["classes"], content["network"], device, content["known"])

    @torch.inference_mode()
    def predict(self, image: Image) -> Mask:
        height, width = image.shape[:2]
        batch = torch.from_numpy(image).to(self.device).permute(2, 0, 1)[None].float() / 255
        logits = self.network(self._padded(batch))[0, self.places, :height, :width]
        return logits.argmax(dim=0).to(torch.uint8).cpu().numpy()

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The encoder's maps, without its first, which is the image itself."""
        maps: Any = self.network.encoder(self._padded(images))  # type: ignore[operator]
        if isinstance(maps, tuple):  # a transformer's maps come with its prefix tokens
            return list(maps[0])
        return list(maps[1:])

    def _padded(self, images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[-2:]
        return F.pad(normalise(images), (0, -width % self.stride, 0, -height % self.stride))

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
    def read(folder: Path) -> Mapping[str, Mask]:
        return _Stored(folder)

    @staticmethod
    def draw(image: Image, prediction: Mask, classes: list[str]) -> Image:
        colors = np.zeros((256, 3), dtype=np.float32)
        colors[: len(classes)] = [color(index) for index in range(len(classes))]
        blend = np.where((prediction != IGNORE_INDEX)[:, :, None], 0.5 * image + 0.5 * colors[prediction], image)
        return blend.astype(np.uint8)


def _train(network: torch.nn.Module, batches: Batches, settings: SegmentationSettings, loop: TrainingLoop) -> None:
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
