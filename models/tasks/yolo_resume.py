"""Checkpoints of ultralytics' trainers, from which a training resumes bit for bit.

The library's last.pt is not enough: it has the averaged weights in half precision, and no state of the random
generators. These checkpoints have the state that an epoch depends on: exact weights and their average, optimizer,
generators, and the images in the buffer that mosaics are drawn from.
"""

import random
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from . import TaskError

CHECKPOINT_SECONDS = 30.0


@dataclass
class Progress:
    """The curve and the costs that were reported to the training loop.

    Attributes:
        curve: losses by name, for each epoch.
        steps: number of steps.
        seconds: their time.
    """

    curve: dict[int, dict[str, float]] = field(default_factory=dict)
    steps: int = 0
    seconds: float = 0.0


class Checkpoint:
    """The state of a trainer at the end of an epoch, in a file outside DVC's outs.

    Args:
        path: of the file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._saved = time.monotonic()

    @staticmethod
    def start_epoch(trainer: Any) -> None:
        """Start every epoch with a new iterator: the state of a running one cannot be saved."""
        trainer.train_loader.reset()

    def save(self, trainer: Any, progress: Progress) -> None:
        """Write the state after an epoch, at most every CHECKPOINT_SECONDS, and not after the last epoch."""
        if trainer.epoch + 1 >= trainer.epochs or time.monotonic() - self._saved < CHECKPOINT_SECONDS:
            return
        content = {
            "epoch": trainer.epoch + 1,
            "model": trainer.model.state_dict(),
            "average": trainer.ema.ema.state_dict(),
            "updates": trainer.ema.updates,
            "optimizer": trainer.optimizer.state_dict(),
            "buffer": list(trainer.train_loader.dataset.buffer),
            "random": _random_state(trainer.train_loader.generator),
            "progress": asdict(progress),
        }
        scratch = self.path.with_suffix(".tmp")
        torch.save(content, scratch)
        scratch.rename(self.path)
        self._saved = time.monotonic()

    def restore(self, trainer: Any, progress: Progress) -> None:
        """Put a trainer that is about to start into the saved state, if the file exists.

        Raises:
            TaskError: the file is damaged or of another version.
        """
        if not self.path.exists():
            return
        try:
            self._put_back(trainer, progress)
        except Exception as error:  # a file of any content
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise TaskError(
                f"{self.path}: damaged, or of another version. Remove it to restart this training ({reason})"
            ) from error

    def _put_back(self, trainer: Any, progress: Progress) -> None:
        saved = torch.load(self.path, map_location=trainer.device, weights_only=True)
        trainer.model.load_state_dict(saved["model"])
        trainer.ema.ema.load_state_dict(saved["average"])
        trainer.ema.updates = saved["updates"]
        trainer.optimizer.load_state_dict(saved["optimizer"])
        trainer.start_epoch = saved["epoch"]
        trainer.scheduler.last_epoch = saved["epoch"] - 1
        _restore_criterion(trainer.model, saved["epoch"])
        for index in saved["buffer"]:
            trainer.train_loader.dataset.load_image(index)  # which puts it into the buffer
        _set_random_state(saved["random"], trainer.train_loader.generator)
        for name, value in saved["progress"].items():
            setattr(progress, name, value)


def _restore_criterion(model: Any, epoch: int) -> None:
    """Restore the count of updates of losses whose weights change from epoch to epoch."""
    model.criterion = model.init_criterion()
    if hasattr(model.criterion, "update"):
        model.criterion.updates = epoch - 1
        model.criterion.update()


def _random_state(generator: torch.Generator) -> dict[str, Any]:
    kind, keys, *rest = cast(tuple[Any, ...], np.random.get_state(legacy=True))
    return {
        "python": random.getstate(),
        "numpy": (kind, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "loader": generator.get_state(),
    }


def _set_random_state(saved: dict[str, Any], generator: torch.Generator) -> None:
    random.setstate(saved["python"])
    kind, keys, *rest = saved["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(saved["torch"].cpu())
    torch.cuda.set_rng_state_all([state.cpu() for state in saved["cuda"]])
    generator.set_state(saved["loader"].cpu())
