"""What the YOLO tasks share: settings, training or loading, features, and classes matched by name."""

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import torch
import torch.nn.functional as F
from pydantic import Field
from safetensors.torch import save_file

from . import TaskError
from .contract import Image, LabelledSplit, MakeBatches, Task, TrainingLoop
from .weights import (
    DESCRIPTION_FILE,
    WEIGHTS_FILE,
    Batch,
    Count,
    Positive,
    Share,
    Side,
    is_saved_task,
    match_classes,
    read_settings,
    read_task_file,
    weight_files,
)
from .yolo_library import check_model, device_name, names_of, parts, read_network, read_saved
from .yolo_training import train

KEPT_SCORE = 0.001  # COCO's average precision needs the long tail of unsure boxes
MAX_BOXES = 100  # COCO's cut
STRIDE = 32  # sides that every ultralytics detector takes are multiples of this

Prediction = TypeVar("Prediction")
Self = TypeVar("Self", bound="YoloTask[Any]")


@dataclass(frozen=True)
class YoloSettings:
    """Settings of a YOLO task."""

    model: str = "yolo11n.yaml"  # a YAML that ultralytics ships, or a path; not looked at where there are weights
    weights: str | None = None  # instead: a .pt file, or a folder that this task saved
    frozen: bool = False  # judge with the weights as they are: no training, classes matched by name
    trust_pickle: bool = False  # consent to load a .pt file, which can run code
    image_size: Side = 640
    epochs: Count = 100
    batch: Batch = 16
    learning_rate: Positive = 1e-3
    mosaic: Share = 1.0
    device: Annotated[str, Field(pattern=r"^\d+(,\d+)*$")] | None = None  # GPUs by number, such as "0,1"; null: one


class YoloTask(Task[Prediction]):
    """A YOLO network with its training, its loading and its features; a subclass knows its predictions.

    Args:
        network: its head has one output for each of `known`.
        classes: the data's classes, in their index order.
        image_size: the longer side that images are resized to, in pixels.
        device: where it runs.
        known: the network's own classes, in its index order; None: those of the data.
    """

    Settings: ClassVar[type[Any]] = YoloSettings
    kind: ClassVar[str]  # as ultralytics calls the task: detect or segment
    label_folder: ClassVar[str]

    def __init__(
        self,
        network: torch.nn.Module,
        classes: list[str],
        image_size: int,
        device: torch.device,
        known: list[str] | None = None,
    ) -> None:
        self.network = network.eval().requires_grad_(False).to(device)
        self.network.zero_grad()  # what training left behind
        self.classes = classes
        self.known = known or classes
        self.places = match_classes(self.name, self.known, classes)
        self.image_size = image_size
        self.device = device

    @classmethod
    def check(cls, settings: Mapping[str, Any]) -> list[Path]:
        given: YoloSettings = read_settings(cls.Settings, cls.name, settings)
        files = weight_files(cls.name, given.weights, given.frozen)
        if given.weights is None:
            return check_model(f"train_task.{cls.name}.model", given.model, cls.kind)
        path = Path(given.weights)
        if not is_saved_task(path) and path.suffix != ".pt":
            raise TaskError(
                f"train_task.{cls.name}.weights: {path}: expected a .pt file of ultralytics, or a folder with "
                f"{DESCRIPTION_FILE} and {WEIGHTS_FILE}"
            )
        if path.suffix == ".pt" and not given.trust_pickle:
            raise TaskError(
                f"train_task.{cls.name}.weights: {path} is a pickle, and loading one can run any code in it; "
                "where you trust its source, set trust_pickle: true beside it"
            )
        return files

    @classmethod
    def fit(
        cls: type[Self],
        split: LabelledSplit,
        make_batches: MakeBatches,
        classes: list[str],
        settings: Mapping[str, Any],
        loop: TrainingLoop,
    ) -> Self:
        """Train with ultralytics' own trainer; the last averaged (EMA) weights are kept, none are chosen.

        Frozen weights are taken as they are, and nothing is trained.

        Raises:
            TaskError: there are no labels, or the model or weight file cannot be used.
        """
        cls.check(settings)
        given: YoloSettings = read_settings(cls.Settings, cls.name, settings)
        start = read_network(Path(given.weights), cls.kind, cls.name) if given.weights else None
        if given.frozen and start is not None:
            return cls(start, classes, given.image_size, loop.device, names_of(start))
        if not (split.folder / cls.label_folder).is_dir():
            raise TaskError(
                f"{split.folder}: no {cls.label_folder} folder; take {cls.name} out of tasks, or choose other data"
            )
        network = train(parts(cls.kind), cls.name, start, given, loop, cls.view(split, classes, loop.work / "yolo"))
        return cls(network, classes, given.image_size, loop.device)

    @classmethod
    def view(cls, split: LabelledSplit, classes: list[str], folder: Path) -> Path:
        """Lay a training split out as ultralytics wants it; the folder is scratch."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        state = {name: value.contiguous().cpu() for name, value in self.network.state_dict().items()}
        save_file(state, folder / WEIGHTS_FILE)
        description = {
            "model": self.network.yaml,
            "classes": self.classes,
            "known": self.known,
            "image_size": self.image_size,
        }
        (folder / DESCRIPTION_FILE).write_text(json.dumps(description, indent=1) + "\n")

    @classmethod
    def load(cls: type[Self], folder: Path, device: torch.device) -> Self:
        description = read_task_file(folder, "classes", "image_size", "known")
        network = read_saved(folder, cls.kind, cls.name)
        return cls(network, description["classes"], description["image_size"], device, description["known"])

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The maps that the head reads."""
        network: Any = self.network
        head = network.model[-1]
        seen: list[list[torch.Tensor]] = []
        hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(list(inputs[0])))
        height, width = images.shape[-2:]
        try:
            network(F.pad(images, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate"))
        finally:
            hook.remove()
        return seen[0]

    def look(self, image: Image) -> tuple[Any, Any]:
        """The library's result on an RGB image, and its class indices (K,) int64 as the data have them."""
        result = self._predictor(image[:, :, ::-1])[0]
        index_of = {place: index for index, place in enumerate(self.places)}
        found = result.boxes.cls.cpu().long()
        return result, torch.tensor([index_of[int(place)] for place in found], dtype=torch.int64).numpy()

    @cached_property
    def _predictor(self) -> Any:
        predictor = parts(self.kind).predictor(
            overrides={
                "imgsz": self.image_size,
                "conf": KEPT_SCORE,
                "iou": 0.7,
                "max_det": MAX_BOXES,
                "classes": None if len(self.places) == len(self.known) else self.places,
                "retina_masks": True,
                "device": device_name(self.device),
                "save": False,
                "verbose": False,
            }
        )
        predictor.setup_model(deepcopy(self.network), verbose=False)  # a copy: its layers are fused
        return predictor
