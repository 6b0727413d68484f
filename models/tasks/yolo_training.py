"""Training of YOLO networks by ultralytics' own trainer, in our loop: progress, curves, resumption."""

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from models.tasks import TaskError
from models.tasks.contract import TrainingLoop
from models.tasks.yolo_library import Parts, device_name
from models.tasks.yolo_resume import Checkpoint, Progress
from models.tasks.yolo_view import DATA_FILE

if TYPE_CHECKING:
    from models.tasks.yolo import YoloSettings


def train(
    parts: Parts, task: str, start: torch.nn.Module | None, settings: "YoloSettings", loop: TrainingLoop, view: Path
) -> torch.nn.Module:
    """Train from scratch, or from the weights of `start`, on a training view; the view is removed at the end.

    Returns:
        The network with the averaged (EMA) weights after the last epoch.

    Raises:
        TaskError: the model cannot be built, or the loss stops being finite.
    """
    trainer = _trainer(parts, task, start, settings, loop, view)
    checkpoint = Checkpoint(loop.work / "yolo-checkpoint.pt")
    progress = Progress()
    trainer.add_callback("on_train_start", lambda trainer: _resume(trainer, checkpoint, progress, loop))
    _report(trainer, task, progress, loop)
    trainer.add_callback("on_train_epoch_start", checkpoint.start_epoch)
    trainer.add_callback("on_fit_epoch_end", lambda trainer: checkpoint.save(trainer, progress))
    trainer.train()
    network: torch.nn.Module = trainer.ema.ema.float()
    checkpoint.path.unlink(missing_ok=True)
    shutil.rmtree(view)
    return network


def _trainer(
    parts: Parts, task: str, start: torch.nn.Module | None, settings: "YoloSettings", loop: TrainingLoop, view: Path
) -> Any:
    class Trainer(parts.trainer):  # type: ignore[name-defined]
        """Neither validates nor writes: there is no choice to make among epochs, and outputs are ours."""

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

        def final_eval(self) -> None: ...

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
            "device": device_name(loop.device),
            "project": str(view.resolve()),
            "name": "run",
            "exist_ok": True,
            "save": False,
            "val": False,
            "plots": False,
            "verbose": False,
        }
    )


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
