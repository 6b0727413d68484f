"""Evaluation of one task network on the images of one split: predict, store, score."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from data.dataset import Split
from models.tasks.contract import Image, Task
from pipeline.metrics import get_scoring
from pipeline.running.artifacts import RECORDS_FILE
from pipeline.running.execution import Kind, through_network
from pipeline.running.progress import progress


def evaluate(
    task: Task[Any],
    truth: Split,
    read: Callable[[str], Image],
    folder: Path,
    description: str,
    load_on_cluster: Callable[[], Task[Any]] | None = None,
) -> None:
    """Predict on every image of a split, store the predictions, and score the stored predictions.

    Predictions are stored one by one, because the masks of a whole split may not fit into memory.

    Args:
        task: the network.
        truth: the split with the labels.
        read: image id -> the image to predict on.
        folder: `predictions/` and the records are written into it.
        description: text of the progress bar.
        load_on_cluster: loads the same network in the workers of a Ray cluster, which then predict; None: this
            process predicts.
    """
    scoring = get_scoring(task.name)
    stored = folder / "predictions"
    stored.mkdir(parents=True)

    engine: Kind = "ray" if load_on_cluster else "local"
    jobs = ((read, image_id) for image_id in truth.ids)
    predictions = through_network(load_on_cluster or (lambda: task), _predict, jobs, engine)
    with scoring.writer(stored) as writer, progress(len(truth.ids), description, "image") as bar:
        for image_id, prediction in zip(truth.ids, predictions, strict=True):
            writer.write(image_id, prediction)
            bar.update()

    records = scoring.score(scoring.read(stored), truth, task.classes)
    records.save(folder / RECORDS_FILE)


def _predict(task: Task[Any], read: Callable[[str], Image], image_id: str) -> Any:
    return task.predict(read(image_id))
