"""A training split as ultralytics wants to find it on disk."""

import json
import math
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from . import TaskError
from .contract import LabelledSplit, TrainingLoop
from .yolo_library import Parts, device_name, library
from .yolo_resume import Checkpoint, Progress

if TYPE_CHECKING:
    from .yolo import YoloSettings

DATA_FILE = "data.yaml"


def training_view(split: LabelledSplit, classes: list[str], folder: Path, labels: Callable[[str], str]) -> Path:
    """Copy a split's images and write its labels into a scratch folder with ultralytics' layout and description.

    Real copies: ultralytics writes its label cache beside the labels, and follows links to where they lead.

    Args:
        split: the training split.
        classes: names, in index order.
        folder: what is there is removed.
        labels: image id -> the lines of its label file.

    Returns:
        The folder; its `data.yaml` names the images and the classes.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for kind in ("images", "labels"):
        (folder / kind / "train").mkdir(parents=True)
    for name in split.ids:
        shutil.copyfile(split.folder / "images" / f"{name}.png", folder / "images" / "train" / f"{name}.png")
        (folder / "labels" / "train" / f"{name}.txt").write_text(labels(name))
    description = {
        "path": str(folder.resolve()),
        "train": "images/train",
        "val": "images/train",
        "names": dict(enumerate(classes)),
    }
    (folder / DATA_FILE).write_text(json.dumps(description))  # JSON is YAML
    return folder


def outline(mask: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(P, 2) x and y in pixels of one polygon around all parts of a mask; holes are filled."""
    library()
    from ultralytics.data.converter import merge_multi_segment

    found, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    shapes = [part.reshape(-1, 2) for part in found]
    shapes = [part if len(part) >= 3 else _frame(part) for part in shapes]
    if not shapes:
        return np.zeros((0, 2))
    if len(shapes) > 1:
        shapes = merge_multi_segment([part.ravel().tolist() for part in shapes])
    return np.concatenate(shapes).astype(np.float64)


def _frame(part: NDArray[Any]) -> NDArray[Any]:
    """The corners of a part that is a point or a line, and so has no polygon."""
    x, y, width, height = cv2.boundingRect(part)
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])


AVERAGED_FILE = "averaged.pt"  # the weights that ultralytics' own processes hand back


def train(
    parts: Parts, task: str, start: torch.nn.Module | None, settings: "YoloSettings", loop: TrainingLoop, view: Path
) -> torch.nn.Module:
    """Train from scratch, or from the weights of `start`, on a training view; the view is removed at the end.

    Returns:
        The network with the averaged (EMA) weights after the last epoch.

    Raises:
        TaskError: the model cannot be built, the loss stops being finite, or there are no such GPUs.
    """
    trainer = _trainer(parts, task, start, settings, loop, view)
    if trainer.ddp:
        network = _train_in_processes(trainer, task, start, settings, loop, view)
        shutil.rmtree(view)
        return network
    checkpoint = Checkpoint(loop.work / "yolo-checkpoint.pt")
    progress = Progress()
    trainer.add_callback("on_train_start", lambda trainer: _resume(trainer, checkpoint, progress, loop))
    _report(trainer, task, progress, loop)
    trainer.add_callback("on_train_epoch_start", checkpoint.start_epoch)
    trainer.add_callback("on_fit_epoch_end", lambda trainer: checkpoint.save(trainer, progress))
    trainer.train()
    network = trainer.ema.ema.float()
    checkpoint.path.unlink(missing_ok=True)
    shutil.rmtree(view)
    return network


def _trainer(
    parts: Parts, task: str, start: torch.nn.Module | None, settings: "YoloSettings", loop: TrainingLoop, view: Path
) -> Any:
    averaged, in_processes = view.resolve() / AVERAGED_FILE, "," in (settings.device or "")

    class Trainer(parts.trainer):  # type: ignore[name-defined]
        """Neither validates nor writes more than the end: no epoch is chosen, and outputs are ours."""

        def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> Any:
            if start is not None:
                return super().get_model(start.yaml, start, verbose)
            try:
                return super().get_model(cfg, weights, verbose)
            except Exception as error:  # whatever a YAML that is no model makes the library raise
                raise TaskError(
                    f"train_task.{task}.model: ultralytics cannot build {settings.model!r} ({error}); "
                    "give a model YAML that it ships, such as yolo11n.yaml, or the path of a file"
                ) from error

        def validate(self) -> tuple[dict[str, float], float]:
            return {}, 0.0

        def final_eval(self) -> None:
            if in_processes and int(os.environ.get("RANK", "-1")) in (-1, 0):
                torch.save(self.ema.ema.float().state_dict(), averaged)

        def save_model(self) -> bool:
            return False

        def save_metrics(self, metrics: dict[str, float]) -> None: ...

    return Trainer(
        overrides={
            "model": settings.model,
            "pretrained": False,
            "data": str(view / DATA_FILE),
            "epochs": settings.epochs,
            "batch": settings.batch,
            "nbs": settings.batch,
            "imgsz": settings.image_size,
            "optimizer": "AdamW",
            "lr0": settings.learning_rate,
            "cos_lr": True,
            "close_mosaic": settings.epochs // 5,
            "mosaic": settings.mosaic,
            "augmentations": [],
            "amp": False,
            "seed": loop.seed,
            "deterministic": True,
            "workers": 0,
            "device": _devices(task, settings, loop),
            "project": str(view.resolve()),
            "name": "run",
            "exist_ok": True,
            "save": False,
            "val": False,
            "plots": False,
            "verbose": False,
        }
    )


def _devices(task: str, settings: "YoloSettings", loop: TrainingLoop) -> str:
    """The GPUs that the settings name, or the loop's device, as ultralytics spells them.

    Raises:
        TaskError: this machine has no such GPUs, or they cannot share a batch evenly.
    """
    if settings.device is None:
        return device_name(loop.device)
    count, wanted = torch.cuda.device_count(), settings.device.split(",")
    if not all(int(number) < count for number in wanted) or len(set(wanted)) < len(wanted):
        raise TaskError(
            f"train_task.{task}.device: {settings.device!r}: this machine has {count} GPUs; name some of theirs, which "
            "are counted from 0, once each, or set device: null"
        )
    if settings.batch % len(wanted):
        raise TaskError(
            f"train_task.{task}.batch: {settings.batch} cannot be shared evenly by the {len(wanted)} GPUs of device"
        )
    return settings.device


def _train_in_processes(
    trainer: Any,
    task: str,
    start: torch.nn.Module | None,
    settings: "YoloSettings",
    loop: TrainingLoop,
    view: Path,
) -> torch.nn.Module:
    """Let ultralytics train in processes of its own, one for each GPU, and read what they come to."""
    began = time.perf_counter()
    try:
        trainer.train()
    except subprocess.CalledProcessError as error:
        raise TaskError(
            f"train_task.{task}: ultralytics' processes on the GPUs {settings.device} ended with exit code "
            f"{error.returncode}; what they said is above"
        ) from error
    network: torch.nn.Module = trainer.get_model(settings.model if start is None else start.yaml, verbose=False)
    trainer.model = network
    trainer.set_model_attributes()
    network.load_state_dict(torch.load(view / AVERAGED_FILE, map_location=loop.device, weights_only=True))
    if not all(bool(torch.isfinite(weight).all()) for weight in network.parameters()):
        raise TaskError(f"train_task.{task}: the weights are no longer finite; lower learning_rate")
    images = len(list((view / "images" / "train").iterdir()))
    steps = settings.epochs * math.ceil(images / settings.batch)
    for _ in range(steps):
        loop.count((time.perf_counter() - began) / steps)
    return network.float()


def _report(trainer: Any, task: str, progress: Progress, loop: TrainingLoop) -> None:
    bar: Any = None
    before = 0.0

    def start(trainer: Any) -> None:
        nonlocal bar, before
        bar = loop.bar(trainer.epochs * len(trainer.train_loader))
        bar.update(progress.steps)
        before = time.perf_counter()

    def advance(trainer: Any) -> None:
        nonlocal before
        loss = float(sum(trainer.tloss.values()))
        if not np.isfinite(loss):
            raise TaskError(f"train_task.{task}: the loss is no longer finite; lower learning_rate")
        now = time.perf_counter()
        loop.count(now - before)
        progress.seconds += now - before
        progress.steps += 1
        before = now
        bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        bar.update()

    def note(trainer: Any) -> None:
        values = {name: float(value) for name, value in trainer.tloss.items()}
        progress.curve[trainer.epoch + 1] = values
        loop.log(trainer.epoch + 1, **values)

    trainer.add_callback("on_train_start", start)
    trainer.add_callback("on_train_batch_end", advance)
    trainer.add_callback("on_train_epoch_end", note)
    trainer.add_callback("on_train_end", lambda _: bar.close())
    trainer.add_callback("teardown", lambda _: bar.close() if bar else None)


def _resume(trainer: Any, checkpoint: Checkpoint, progress: Progress, loop: TrainingLoop) -> None:
    """Go on from the last checkpoint, if there is one; its curve and costs are told to the loop again."""
    checkpoint.restore(trainer, progress)
    for epoch, values in progress.curve.items():
        loop.log(epoch, **values)
    for _ in range(progress.steps):
        loop.count(progress.seconds / progress.steps)
