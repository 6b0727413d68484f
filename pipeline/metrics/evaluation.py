"""Evaluation of one task network on the images of one split: predict, store, score."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from data.dataset import Split
from models.tasks.contract import Image, Task
from pipeline.metrics import get_scoring
from pipeline.running.artifacts import RECORDS_FILE
from pipeline.running.execution import through_network
from pipeline.running.progress import progress


def evaluate(
    task: Task[Any],
    truth: Split,
    read: Callable[[str], Image],
    folder: Path,
    description: str,
    load_on_cluster: Callable[[], Task[Any]] | None = None,
) -> None:
    """Predict on every image of a split, store the predictions, and score what was stored.

    Predictions are stored one by one, because all masks of a split may not fit into memory.

    Args:
        task: the network.
        truth: the split with the labels.
        read: image id -> the image to predict on.
        folder: `predictions/` and the records are written into it.
        description: of the progress bar.
        load_on_cluster: loads the same network in the workers of a Ray cluster, which then predict; None: this
            process predicts.
    """
    scoring = get_scoring(task.name)
    stored = folder / "predictions"
    stored.mkdir(parents=True)
    predictions = _predictions(task, truth.ids, read, load_on_cluster)
    with scoring.writer(stored) as writer, progress(len(truth.ids), description, "image") as bar:
        for image_id, prediction in zip(truth.ids, predictions, strict=True):
            writer.write(image_id, prediction)
            bar.update()
    scoring.score(scoring.read(stored), truth, task.classes).save(folder / RECORDS_FILE)


def _predictions(
    task: Task[Any],
    image_ids: tuple[str, ...],
    read: Callable[[str], Image],
    load_on_cluster: Callable[[], Task[Any]] | None,
) -> Iterator[Any]:
    """The predictions on images, one after another in their order."""
    if load_on_cluster is None:
        for image_id in image_ids:
            yield task.predict(read(image_id))
    else:
        jobs = ((image_id,) for image_id in image_ids)
        yield from through_network(load_on_cluster, partial(_predict, read), jobs, "ray")


def _predict(read: Callable[[str], Image], task: Task[Any], image_id: str) -> Any:
    return task.predict(read(image_id))
