"""Predictions of one task network on one set of images, stored and scored. Not a stage."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from data.manifest import Split
from models.tasks.contract import Image, Task
from pipeline.identity import RECORDS_FILE
from pipeline.training import progress


class _Made(Mapping[str, Any]):
    """Predictions that are made when they are asked for and not kept: all masks of a split may not fit into memory."""

    def __init__(self, task: Task[Any], ids: tuple[str, ...], read: Callable[[str], Image], bar: Any) -> None:
        self._task, self._ids, self._read, self._bar = task, ids, read, bar

    def __getitem__(self, id: str) -> Any:
        self._bar.update()
        return self._task.predict(self._read(id))

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)


def evaluate(task: Task[Any], truth: Split, read: Callable[[str], Image], folder: Path, description: str) -> None:
    """Predict on every image of a split, store the predictions, and score what was stored.

    Args:
        task: the frozen network.
        truth: the split whose labels count.
        read: gives the image to look at, by its id.
        folder: gets `predictions/` and the records.
        description: of the progress bar.
    """
    stored = folder / "predictions"
    stored.mkdir(parents=True)
    with progress(len(truth.ids), description, "image") as bar:
        task.write(stored, _Made(task, truth.ids, read, bar))
    task.score(task.read(stored), truth).save(folder / RECORDS_FILE)
