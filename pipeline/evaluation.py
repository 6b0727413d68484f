"""Predictions of one task network on one set of images, stored and scored. Not a stage."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from data.manifest import Split
from models.tasks.contract import Image, Task
from pipeline.identity import RECORDS_FILE
from pipeline.training import progress


def evaluate(task: Task[Any], truth: Split, read: Callable[[str], Image], folder: Path, description: str) -> None:
    """Predict on every image of a split, store the predictions, and score what was stored.

    Args:
        task: the frozen network.
        truth: the split whose labels count.
        read: gives the image to look at, by its id.
        folder: gets `predictions/` and the records.
        description: of the progress bar.
    """
    predictions = {}
    with progress(len(truth.ids), description, "image") as bar:
        for id in truth.ids:
            predictions[id] = task.predict(read(id))
            bar.update()
    stored = folder / "predictions"
    stored.mkdir(parents=True)
    task.write(stored, predictions)
    task.score(task.read(stored), truth).save(folder / RECORDS_FILE)
