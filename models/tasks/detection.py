"""Object detection with any detector that ultralytics can build. The only file that imports ultralytics.

The library is kept quiet and offline: no telemetry, no downloads, no callbacks into trackers, no settings
in the home folder, no augmentation that depends on which other packages happen to be installed.
"""

import json
import logging
import os
import time
from collections.abc import Mapping
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from models.tasks import TaskError
from models.tasks.contract import Image, LabelledSplit, MakeBatches, Task, TrainingLoop
from models.tasks.palette import color
from models.tasks.records import Boxes, DetectionPrediction, DetectionRecords, match_detections
from models.tasks.yolo_view import DATA_FILE, training_view

DRAWN_SCORE = 0.25  # boxes under this confidence are scored, but not drawn
KEPT_SCORE = 0.001  # COCO's average precision needs the long tail of unsure boxes
MAX_BOXES = 100  # COCO's cut
STRIDE = 32  # sides that every ultralytics detector takes are multiples of this
TRACKERS = ("mlflow", "dvc", "clearml", "comet", "raytune", "tensorboard", "wandb", "sync", "vscode_msg")


class Detection(Task[DetectionPrediction]):
    """A YOLO detector, scored with COCO's average precision."""

    name = "detection"

    def __init__(self, network: torch.nn.Module, classes: list[str], image_size: int, device: torch.device) -> None:
        self.network = network.eval().requires_grad_(False).to(device)
        self.network.zero_grad()  # what training left behind
        self.classes = classes
        self.image_size = image_size
        self.device = device

    @classmethod
    def fit(
        cls,
        split: LabelledSplit,
        make_batches: MakeBatches,
        classes: list[str],
        settings: Mapping[str, Any],
        loop: TrainingLoop,
    ) -> "Detection":
        """Train with ultralytics' own trainer; the last averaged (EMA) weights are kept, none are chosen.

        Raises:
            TaskError: there are no detection labels, or the model file cannot be used.
        """
        if not (split.folder / "labels").is_dir():
            raise TaskError(f"{split.folder}: no labels folder; take detection out of tasks, or choose other data")
        view = training_view(split, classes, loop.work / "yolo")
        try:
            trainer = _trainer(view, settings, loop)
        except (FileNotFoundError, ConnectionError, TypeError) as error:
            raise TaskError(
                f"train_task.detection: ultralytics cannot use {settings['weights'] or settings['model']!r} ({error}); "
                "give a model YAML that it ships, such as yolo11n.yaml, or the path of a file"
            ) from error
        trainer.train()
        return cls(trainer.ema.ema.float(), classes, settings["image_size"], loop.device)

    def save(self, folder: Path) -> None:
        state = {name: value.contiguous().cpu() for name, value in self.network.state_dict().items()}
        save_file(state, folder / "weights.safetensors")
        description = {"model": self.network.yaml, "classes": self.classes, "image_size": self.image_size}
        (folder / "task.json").write_text(json.dumps(description, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> "Detection":
        description = json.loads((folder / "task.json").read_text())
        _ultralytics()
        from ultralytics.nn.tasks import DetectionModel

        network = DetectionModel(description["model"], nc=len(description["classes"]), verbose=False)
        network.load_state_dict(load_file(folder / "weights.safetensors"))
        network.names = dict(enumerate(description["classes"]))
        return cls(network, description["classes"], description["image_size"], device)

    def predict(self, image: Image) -> DetectionPrediction:
        result = self._predictor(image[:, :, ::-1])[0]
        boxes = result.boxes.cpu().numpy()
        return DetectionPrediction(
            boxes.xyxy.astype(np.float64), boxes.conf.astype(np.float64), boxes.cls.astype(np.int64)
        )

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The maps that the detection head reads."""
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

    @cached_property
    def _predictor(self) -> Any:
        _ultralytics()
        from ultralytics.models.yolo.detect import DetectionPredictor

        predictor = DetectionPredictor(
            overrides={
                "imgsz": self.image_size,
                "conf": KEPT_SCORE,
                "iou": 0.7,
                "max_det": MAX_BOXES,
                "device": _device_name(self.device),
                "save": False,
                "verbose": False,
            }
        )
        predictor.setup_model(deepcopy(self.network), verbose=False)  # a copy: its layers are fused
        return predictor

    @staticmethod
    def truth(split: LabelledSplit, name: str) -> DetectionPrediction:
        objects = split.boxes(name)
        corners = _to_corners(objects[:, 1:], split.image(name).shape[:2])
        return DetectionPrediction(corners, np.ones(len(objects)), objects[:, 0].astype(np.int64))

    def score(self, predictions: Mapping[str, DetectionPrediction], split: LabelledSplit) -> DetectionRecords:
        sizes = {name: split.image(name).shape[:2] for name in predictions}
        truth = {name: _labels(split, name, sizes[name]) for name in predictions}
        return match_detections(predictions, truth, self.classes, sizes)

    @staticmethod
    def write(folder: Path, predictions: Mapping[str, DetectionPrediction]) -> None:
        rows = [
            {
                "image_id": name,
                "category_id": int(c),
                "bbox": [round(v, 3) for v in (x0, y0, x1 - x0, y1 - y0)],
                "score": round(float(s), 6),
            }
            for name, found in predictions.items()
            for (x0, y0, x1, y1), s, c in zip(found.boxes.tolist(), found.scores, found.classes, strict=True)
        ]
        images = sorted(predictions)
        (folder / "predictions.json").write_text(json.dumps({"images": images, "detections": rows}) + "\n")

    @staticmethod
    def read(folder: Path) -> dict[str, DetectionPrediction]:
        stored = json.loads((folder / "predictions.json").read_text())
        rows: dict[str, list[list[float]]] = {name: [] for name in stored["images"]}
        for row in stored["detections"]:
            x, y, w, h = row["bbox"]
            rows[row["image_id"]].append([x, y, x + w, y + h, row["score"], row["category_id"]])
        tables = {name: np.array(found, dtype=np.float64).reshape(-1, 6) for name, found in rows.items()}
        return {name: DetectionPrediction(t[:, :4], t[:, 4], t[:, 5].astype(np.int64)) for name, t in tables.items()}

    @staticmethod
    def draw(image: Image, prediction: DetectionPrediction, classes: list[str]) -> Image:
        canvas = np.ascontiguousarray(image).copy()
        sure = prediction.scores >= DRAWN_SCORE
        for (x0, y0, x1, y1), c in zip(prediction.boxes[sure], prediction.classes[sure], strict=True):
            cv2.rectangle(canvas, (round(x0), round(y0)), (round(x1), round(y1)), color(int(c)), 1)
        return canvas


def _labels(split: LabelledSplit, name: str, size: tuple[int, int]) -> Boxes:
    objects, crowds = split.boxes(name), split.ignored(name)
    rows = np.concatenate([objects, crowds])
    is_crowd = np.arange(len(rows)) >= len(objects)
    return Boxes(_to_corners(rows[:, 1:], size), rows[:, 0].astype(np.int64), is_crowd)


def _to_corners(boxes: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """(K, 4) centre and size in [0, 1] to pixel corners."""
    height, width = size
    centre, extent = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([centre - extent / 2, centre + extent / 2], axis=1) * [width, height, width, height]


def _trainer(view: Path, settings: Mapping[str, Any], loop: TrainingLoop) -> Any:
    _ultralytics()
    from ultralytics.models.yolo.detect import DetectionTrainer

    class Trainer(DetectionTrainer):
        """Neither validates nor writes: there is no choice to make among epochs, and outputs are ours."""

        def validate(self) -> tuple[dict[str, float], float]:
            return {}, 0.0

        def final_eval(self) -> None: ...

        def save_model(self) -> bool:
            return False

        def save_metrics(self, metrics: dict[str, float]) -> None: ...

    weights = settings["weights"]
    trainer = Trainer(
        overrides={
            "model": weights or settings["model"],
            "pretrained": bool(weights),
            "data": str(view / DATA_FILE),
            "epochs": settings["epochs"],
            "batch": settings["batch"],
            "nbs": settings["batch"],
            "imgsz": settings["image_size"],
            "optimizer": "AdamW",
            "lr0": settings["learning_rate"],
            "cos_lr": True,
            "close_mosaic": settings["epochs"] // 5,
            "mosaic": settings["mosaic"],
            "augmentations": [],
            "amp": False,
            "seed": loop.seed,
            "deterministic": True,
            "workers": 0,
            "device": _device_name(loop.device),
            "project": str(view.resolve()),
            "name": "run",
            "exist_ok": True,
            "save": False,
            "val": False,
            "plots": False,
            "verbose": False,
        }
    )
    _report_progress(trainer, settings["epochs"], loop)
    return trainer


def _report_progress(trainer: Any, epochs: int, loop: TrainingLoop) -> None:
    bar: Any = None
    before = 0.0

    def start(trainer: Any) -> None:
        nonlocal bar, before
        bar = loop.bar(epochs * len(trainer.train_loader))
        before = time.perf_counter()

    def advance(trainer: Any) -> None:
        nonlocal before
        loss = float(sum(trainer.tloss.values()))
        if not np.isfinite(loss):
            raise TaskError("train_task.detection: the loss is no longer finite; lower learning_rate")
        now = time.perf_counter()
        loop.count(now - before)
        before = now
        bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        bar.update()

    trainer.add_callback("on_train_start", start)
    trainer.add_callback("on_train_batch_end", advance)
    trainer.add_callback(
        "on_train_epoch_end",
        lambda t: loop.log(t.epoch + 1, **{name: float(value) for name, value in t.tloss.items()}),
    )
    trainer.add_callback("on_train_end", lambda _: bar.close())
    trainer.add_callback("teardown", lambda _: bar.close() if bar else None)


def _device_name(device: torch.device) -> str:
    """A device as ultralytics spells it: a GPU's number, or cpu."""
    return str(device.index or 0) if device.type == "cuda" else device.type


def _ultralytics() -> Any:
    """Import ultralytics with everything that talks, downloads or tracks switched off."""
    for name, value in {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}.items():
        os.environ.setdefault(name, value)
    import ultralytics
    import ultralytics.data.utils

    ultralytics.data.utils.check_font = lambda *_, **__: None  # it would download a font to draw labels with
    ultralytics.utils.LOGGER.setLevel(logging.ERROR)
    wanted = dict.fromkeys(TRACKERS, False)
    if any(ultralytics.settings.get(name) for name in TRACKERS):
        ultralytics.settings.update(wanted)
    return ultralytics
