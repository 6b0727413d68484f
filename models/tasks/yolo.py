"""The base class of the YOLO tasks: checks, training or loading, features, and the library's predictor."""

import json
import math
import shutil
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from . import TaskError
from .contract import Image, LabelledSplit, MakeBatches, Task, TrainingLoop
from .saved_networks import DESCRIPTION_FILE, WEIGHTS_FILE, is_saved_task, read_task_file, weight_files
from .yolo_files import is_fused, library_result, names_of, read_network, read_saved
from .yolo_library import check_model, device_name, parts, same_threads
from .yolo_training import DATA_FILE, YoloSettings, train

KEPT_SCORE = 0.001  # COCO's average precision needs the boxes of low confidence
MAX_BOXES = 100  # per image and class, as COCO counts them
STRIDE = 32  # ultralytics' networks take sides that are multiples of it

Prediction = TypeVar("Prediction")
Self = TypeVar("Self", bound="YoloTask[Any]")


class YoloTask(Task[Prediction]):
    """A YOLO network. Subclasses read its predictions and write its labels.

    `description["image_size"]` is the length in pixels to which the longer side of an image is resized.
    """

    kind: ClassVar[str]  # ultralytics' name of the task: detect or segment
    label_folder: ClassVar[str]  # the folder of a split with the labels
    most_boxes: ClassVar[int] = 30_000  # per image, of all classes: ultralytics considers no more

    @classmethod
    def check(cls, section: Mapping[str, Any]) -> list[Path]:
        settings: YoloSettings = cls.parse_settings(section)
        files = weight_files(cls.name, settings.weights, settings.frozen)
        if settings.weights is None:
            return check_model(f"train_task.{cls.name}.model", settings.model, cls.kind)
        path = Path(settings.weights)
        if not is_saved_task(path) and path.suffix != ".pt":
            raise TaskError(
                f"train_task.{cls.name}.weights: {path}: expected a .pt file of ultralytics (of an export, such as "
                f".onnx, the file that it was made from), or a folder with {DESCRIPTION_FILE} and {WEIGHTS_FILE}"
            )
        if path.suffix == ".pt" and not settings.trust_pickle:
            raise TaskError(
                f"train_task.{cls.name}.weights: {path} is a pickle, and loading one can run any code in it; "
                "if you trust its source, set trust_pickle: true beside it"
            )
        return files

    @classmethod
    def fit(
        cls: type[Self],
        split: LabelledSplit,
        make_batches: MakeBatches,
        classes: list[str],
        section: Mapping[str, Any],
        loop: TrainingLoop,
    ) -> Self:
        """Train with ultralytics' trainer. The weights are the averages (EMA) after the last epoch. See `Task.fit`."""
        cls.check(section)
        settings: YoloSettings = cls.parse_settings(section)
        if settings.frozen:
            return cls.load_weights(section, classes, loop.device)
        start = cls.load_weights(section, None, torch.device("cpu")).network if settings.weights else None
        if not (split.folder / cls.label_folder).is_dir():
            raise TaskError(
                f"{split.folder}: no {cls.label_folder} folder; take {cls.name} out of tasks, or choose other data"
            )
        dataset = cls._write_dataset(split, classes, loop.work / "yolo")
        network = train(parts(cls.kind), cls.name, start, settings, loop, dataset)
        return cls(network, classes, {"image_size": settings.image_size}, loop.device)

    @classmethod
    def load_weights(
        cls: type[Self], section: Mapping[str, Any], classes: list[str] | None, device: torch.device
    ) -> Self:
        settings: YoloSettings = cls.parse_settings(section)
        network = read_network(Path(str(settings.weights)), cls.kind, cls.name)
        if is_fused(network) and not settings.frozen:
            raise TaskError(
                f"train_task.{cls.name}.weights: {settings.weights}: batch normalisation is merged into the "
                "convolutions, so that training cannot start from it. Give the file before it was fused, or set "
                "frozen: true and train it in no arm"
            )
        names = names_of(network)
        return cls(network, classes or names, {"image_size": settings.image_size}, device, names)

    @classmethod
    @abstractmethod
    def label_lines(cls, split: LabelledSplit, image_id: str) -> str:
        """The lines of an image's label file, as ultralytics reads it."""

    @classmethod
    def _write_dataset(cls, split: LabelledSplit, classes: list[str], folder: Path) -> Path:
        """Write a split in ultralytics' layout into a scratch folder, which is emptied first. Returns the folder.

        Images are copied, not linked: ultralytics follows links and writes its label cache beside the labels.
        """
        shutil.rmtree(folder, ignore_errors=True)
        images, labels = folder / "images" / "train", folder / "labels" / "train"
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for image_id in split.ids:
            shutil.copyfile(split.folder / "images" / f"{image_id}.png", images / f"{image_id}.png")
            (labels / f"{image_id}.txt").write_text(cls.label_lines(split, image_id))
        description = {
            "path": str(folder.resolve()),
            "train": "images/train",
            "val": "images/train",
            "names": dict(enumerate(classes)),
        }
        (folder / DATA_FILE).write_text(json.dumps(description))  # JSON is YAML
        return folder

    def saved_description(self) -> dict[str, Any]:
        network: Any = self.network
        return {
            "model": network.yaml,
            "classes": self.classes,
            "known": self.network_classes,
            "image_size": self.description["image_size"],
            **({"fused": True} if is_fused(network) else {}),
        }

    @classmethod
    def load(cls: type[Self], folder: Path, device: torch.device) -> Self:
        content = read_task_file(folder, "classes", "image_size", "known")
        network = read_saved(folder, cls.kind, cls.name)
        return cls(network, content["classes"], {"image_size": content["image_size"]}, device, content["known"])

    @classmethod
    def training_steps(cls, section: Mapping[str, Any], images: int) -> int:
        settings: YoloSettings = cls.parse_settings(section)
        return settings.epochs * math.ceil(images / settings.batch)

    def trained_weights(self) -> list[torch.nn.Parameter]:
        """All but the fixed weights that turn distributions into distances (DFL). See `Task.trained_weights`."""
        return [weight for name, weight in self.network.named_parameters() if ".dfl." not in name]

    def view_scale(self, height: int, width: int) -> float:
        side: int = self.description["image_size"]
        return side / max(height, width)

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The inputs of the head. See `Task.features`."""
        network: Any = self.network
        head = network.model[-1]
        inputs_of_head: list[list[torch.Tensor]] = []
        hook = head.register_forward_pre_hook(lambda _, inputs: inputs_of_head.append(list(inputs[0])))
        try:
            network(pad(images))
        finally:
            hook.remove()
        return inputs_of_head[0]

    def predict_batch(self, images: Sequence[Image]) -> list[Prediction]:
        results = self._predictor([image[:, :, ::-1] for image in images])
        return [self.read_result(self._strongest(result.cpu())) for result in results]

    @abstractmethod
    def read_result(self, result: Any) -> Prediction:
        """The prediction in a result of the library, which is on the CPU."""

    def classes_of(self, result: Any) -> NDArray[np.int64]:
        """The class index (K,) of each of the K objects in a result of the library."""
        class_of = {output: index for index, output in enumerate(self.outputs)}
        return np.array([class_of[int(output)] for output in result.boxes.cls], dtype=np.int64)

    def _strongest(self, result: Any) -> Any:
        """The result with at most `MAX_BOXES` objects of each class, those with the highest scores."""
        classes = self.classes_of(result)
        kept = [np.flatnonzero(classes == index)[:MAX_BOXES] for index in range(len(self.outputs))]  # sorted by score
        order = np.sort(np.concatenate(kept))
        return result if len(order) == len(classes) else result[order]

    def library_prediction(self, weights: Path, image: Image) -> Prediction | None:
        """Of a .pt file. See `Task.library_prediction`."""
        if is_saved_task(weights):
            return None
        result = library_result(weights, self.kind, image, self._arguments)
        return self.read_result(self._strongest(result.cpu()))

    @property
    def _arguments(self) -> dict[str, Any]:
        """Of the library's predictor."""
        return {
            "imgsz": self.description["image_size"],
            "conf": KEPT_SCORE,
            "iou": 0.7,
            "rect": True,  # padded to multiples of 32, as in the library's own predictions, and not to squares
            "max_det": self.most_boxes,
            "classes": None if len(self.outputs) == len(self.network_classes) else self.outputs,
            "retina_masks": True,
            "device": device_name(self.device),
            "save": False,
            "verbose": False,
        }

    @cached_property
    def _predictor(self) -> Any:
        predictor = parts(self.kind).predictor(overrides=self._arguments)
        with same_threads():
            predictor.setup_model(deepcopy(self.network), verbose=False)  # a copy, because its layers are fused
        return predictor


def pad(images: torch.Tensor) -> torch.Tensor:
    """Images (N, 3, H, W) padded at the right and the bottom to sides that a network takes."""
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")
