"""Training of YOLO networks with ultralytics' trainer, in this process or in a process per GPU."""

import math
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from ..mixed_precision import Precision, uses_bfloat16
from ..settings import Count, Positive, Settings, Share
from . import TaskError
from .contract import BatchSize, Side, TrainingLoop
from .yolo_library import Parts, device_name, same_threads
from .yolo_precision import train_in_bfloat16
from .yolo_resume import Checkpoint, Progress

DATA_FILE = "data.yaml"  # of a dataset in ultralytics' layout: its folders and classes
AVERAGED_FILE = "averaged.pt"  # ultralytics' processes write the averaged weights to it


class YoloSettings(Settings):
    """Settings that the YOLO tasks share.

    Attributes:
        model: a YAML file that ultralytics ships, or a path; unused if there are weights.
        weights: a .pt file of ultralytics, or a folder that this task saved; None: random weights.
        frozen: use the weights as they are, classes matched by name; arms train a copy.
        trust_pickle: consent to load a .pt file, which can run code.
        image_size: length in pixels that the longer side of an image is resized to.
        epochs: passes over the training images.
        batch: images in a training step.
        learning_rate: initial learning rate.
        mosaic: probability of the mosaic augmentation.
        precision: of the network in training: full (float32), bf16, or auto: bf16 if the processor multiplies it.
        device: GPU numbers such as "0,1"; None: one device.
    """

    model: str
    weights: str | None = None
    frozen: bool = False
    trust_pickle: bool = False
    image_size: Side = 640
    epochs: Count = 100
    batch: BatchSize = 16
    learning_rate: Positive = 1e-3
    mosaic: Share = 1.0
    precision: Precision = "full"
    device: Annotated[str, Field(pattern=r"^\d+(,\d+)*$")] | None = None


def train(
    parts: Parts,
    task: str,
    start: torch.nn.Module | None,
    settings: YoloSettings,
    loop: TrainingLoop,
    dataset: Path,
) -> torch.nn.Module:
    """Train from scratch, or from the weights of `start`.

    Args:
        parts: the library's classes.
        task: name of the task.
        start: network to start from; None: the model of the settings with random weights.
        settings: of the task.
        loop: of the training.
        dataset: folder of the training images in ultralytics' layout. It is removed at the end.

    Returns:
        The network with the averaged (EMA) weights after the last epoch.

    Raises:
        TaskError: the model cannot be built, the loss stops being finite, or a GPU does not exist.
    """
    trainer = _trainer(parts, task, start, settings, loop, dataset)
    if trainer.ddp:
        network = _train_in_processes(trainer, task, start, settings, loop, dataset)
        shutil.rmtree(dataset)
        return network
    checkpoint = Checkpoint(loop.work / "yolo-checkpoint.pt")
    progress = Progress()
    trainer.add_callback("on_train_start", lambda trainer: _resume(trainer, checkpoint, progress, loop))
    _report(trainer, task, progress, loop)
    trainer.add_callback("on_train_epoch_start", checkpoint.start_epoch)
    trainer.add_callback("on_fit_epoch_end", lambda trainer: checkpoint.save(trainer, progress))
    trainer.train()
    network = trainer.ema.ema.float()
    network.__class__ = parts.model  # it predicts in float32
    checkpoint.path.unlink(missing_ok=True)
    shutil.rmtree(dataset)
    return network


class _FixedLengthTrainer:
    """Mixed into ultralytics' trainers: trains to the last epoch, without validation and without files.

    Class attributes replace arguments: ultralytics' processes build the trainer from its class.
    """

    task_name: str
    model_name: str
    start_network: torch.nn.Module | None
    averaged_file: Path | None  # the first process writes the averaged weights to it; None: a single process
    mixed_on_cpu: bool

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> Any:
        network = self._build(cfg, weights, verbose)
        if self.mixed_on_cpu:
            train_in_bfloat16(network)
        return network

    def _build(self, cfg: Any, weights: Any, verbose: bool) -> Any:
        build = super().get_model  # type: ignore[misc]
        if self.start_network is not None:
            return build(self.start_network.yaml, self.start_network, verbose)
        try:
            return build(cfg, weights, verbose)
        except Exception as error:  # the library raises anything for a YAML file that is no model
            raise TaskError(
                f"train_task.{self.task_name}.model: ultralytics cannot build {self.model_name!r} ({error}); "
                "give a model YAML that it ships, such as yolo11n.yaml, or the path of a file"
            ) from error

    def build_optimizer(self, *args: Any, **options: Any) -> Any:
        optimizer = super().build_optimizer(*args, **options)  # type: ignore[misc]
        for group in optimizer.param_groups:
            group["fused"] = True  # a single pass over the weights, as in the other trainings
        return optimizer

    def validate(self) -> tuple[dict[str, float], float]:
        return {}, 0.0

    def final_eval(self) -> None:
        if self.averaged_file and int(os.environ.get("RANK", "-1")) in (-1, 0):
            trainer: Any = self
            torch.save(trainer.ema.ema.float().state_dict(), self.averaged_file)

    def save_model(self) -> bool:
        return False

    def save_metrics(self, metrics: dict[str, float]) -> None: ...


def _trainer(
    parts: Parts,
    task: str,
    start: torch.nn.Module | None,
    settings: YoloSettings,
    loop: TrainingLoop,
    dataset: Path,
) -> Any:
    several_gpus = "," in (settings.device or "")
    attributes = {
        "task_name": task,
        "model_name": settings.model,
        "start_network": start,
        "averaged_file": dataset.resolve() / AVERAGED_FILE if several_gpus else None,
        "mixed_on_cpu": loop.device.type == "cpu" and uses_bfloat16(settings.precision, loop.device),
    }
    trainer_class = type("Trainer", (_FixedLengthTrainer, parts.trainer), attributes)
    with same_threads():
        overrides = _overrides(settings, loop, dataset, _devices(task, settings, loop))
        if start is not None:
            # By default biases start at a rate of 0.1, whatever the optimiser: AdamW would move each by 0.1 in a step.
            overrides["warmup_bias_lr"] = 0.0
        return trainer_class(overrides=overrides)


def _overrides(settings: YoloSettings, loop: TrainingLoop, dataset: Path, devices: str) -> dict[str, Any]:
    """The arguments of ultralytics' trainer."""
    return {
        "model": settings.model,
        "pretrained": False,
        "data": str(dataset / DATA_FILE),
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
        "amp": "bf16" if loop.device.type == "cuda" and uses_bfloat16(settings.precision, loop.device) else False,
        "seed": loop.seed,
        "deterministic": True,
        "workers": 0,
        "device": devices,
        "project": str(dataset.resolve()),
        "name": "run",
        "exist_ok": True,
        "save": False,
        "val": False,
        "plots": False,
        "verbose": False,
    }


def _devices(task: str, settings: YoloSettings, loop: TrainingLoop) -> str:
    """The GPUs of the settings, or the loop's device, in ultralytics' notation.

    Raises:
        TaskError: this machine has no such GPUs, or the batch cannot be split evenly among them.
    """
    if settings.device is None:
        return device_name(loop.device)
    count, numbers = torch.cuda.device_count(), settings.device.split(",")
    if not all(int(number) < count for number in numbers) or len(set(numbers)) < len(numbers):
        raise TaskError(
            f"train_task.{task}.device: {settings.device!r}: this machine has {count} GPUs. Give the numbers of "
            "different GPUs, counted from 0, or set device: null."
        )
    if settings.batch % len(numbers):
        raise TaskError(
            f"train_task.{task}.batch: {settings.batch} cannot be shared evenly by the {len(numbers)} GPUs of device"
        )
    return settings.device


def _train_in_processes(
    trainer: Any,
    task: str,
    start: torch.nn.Module | None,
    settings: YoloSettings,
    loop: TrainingLoop,
    dataset: Path,
) -> torch.nn.Module:
    """Train in a process per GPU, and return the network with the averaged weights that they write."""
    began = time.perf_counter()
    try:
        trainer.train()
    except subprocess.CalledProcessError as error:
        raise TaskError(
            f"train_task.{task}: ultralytics' processes on the GPUs {settings.device} ended with exit code "
            f"{error.returncode}; their messages are above"
        ) from error
    network: torch.nn.Module = trainer.get_model(settings.model if start is None else start.yaml, verbose=False)
    trainer.model = network
    trainer.set_model_attributes()
    network.load_state_dict(torch.load(dataset / AVERAGED_FILE, map_location=loop.device, weights_only=True))
    if not all(bool(torch.isfinite(weight).all()) for weight in network.parameters()):
        raise TaskError(f"train_task.{task}: the weights are no longer finite; lower learning_rate")
    images = len(list((dataset / "images" / "train").iterdir()))
    steps = settings.epochs * math.ceil(images / settings.batch)
    for _ in range(steps):
        loop.count((time.perf_counter() - began) / steps)
    return network.float()


def _report(trainer: Any, task: str, progress: Progress, loop: TrainingLoop) -> None:
    """Report every step and epoch of the trainer to the loop and to a progress bar."""
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

    def log_epoch(trainer: Any) -> None:
        losses = {name: float(value) for name, value in trainer.tloss.items()}
        progress.curve[trainer.epoch + 1] = losses
        loop.log(trainer.epoch + 1, **losses)

    trainer.add_callback("on_train_start", start)
    trainer.add_callback("on_train_batch_end", advance)
    trainer.add_callback("on_train_epoch_end", log_epoch)
    trainer.add_callback("on_train_end", lambda _: bar.close())
    trainer.add_callback("teardown", lambda _: bar.close() if bar else None)


def _resume(trainer: Any, checkpoint: Checkpoint, progress: Progress, loop: TrainingLoop) -> None:
    """Restore the last checkpoint, if any, and report its curve and costs to the loop again."""
    checkpoint.restore(trainer, progress)
    for epoch, losses in progress.curve.items():
        loop.log(epoch, **losses)
    for _ in range(progress.steps):
        loop.count(progress.seconds / progress.steps)
