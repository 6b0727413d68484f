"""Evaluation of one task network on the images of one split: predict, store, score."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from data.dataset import Split
from data.images import same_sizes
from models.tasks import get_task
from models.tasks.contract import Image, Task
from pipeline.metrics import get_scoring
from pipeline.running.artifacts import RECORDS_FILE
from pipeline.running.execution import Kind, through_network
from pipeline.running.progress import progress
from pipeline.running.seeds import choose_device

BATCH = 8  # images; larger batches are no faster on a CPU


def evaluate(
    task: Task[Any],
    truth: Split,
    read: Callable[[str], Image],
    folder: Path,
    description: str,
    load_on_cluster: Callable[[], Task[Any]] | None = None,
    restore: Callable[[Image], Image] | None = None,
) -> None:
    """Predict on every image of a split, store the predictions, and score the stored predictions.

    Images of equal size among eight neighbours are predicted as one batch. Predictions are stored batch by batch,
    because the masks of a whole split may not fit into memory.

    Args:
        task: the network.
        truth: the split with the labels.
        read: image id -> the image to predict on; called in several threads.
        folder: `predictions/` and the records are written into it.
        description: text of the progress bar.
        load_on_cluster: loads the same network in the workers of a Ray cluster, which then predict; None: this
            process predicts.
        restore: restores an image before the prediction, in the thread of the network; None: nothing does.
    """
    scoring = get_scoring(task.name)
    stored = folder / "predictions"
    stored.mkdir(parents=True)

    engine: Kind = "ray" if load_on_cluster else "local"
    batches = [truth.ids[start : start + BATCH] for start in range(0, len(truth.ids), BATCH)]
    jobs = ((image_ids,) for image_ids in batches)
    predicted: Iterator[list[Any]] = through_network(
        load_on_cluster or (lambda: task),
        partial(_read_all, read),
        partial(predict_images, restore=restore),
        list,
        jobs,
        engine,
    )
    with scoring.writer(stored) as writer, progress(len(truth.ids), description, "image") as bar:
        for image_ids, predictions in zip(batches, predicted, strict=True):
            for image_id, prediction in zip(image_ids, predictions, strict=True):
                writer.write(image_id, prediction)
            bar.update(len(image_ids))

    records = scoring.score(scoring.read(stored), truth, task.classes)
    records.save(folder / RECORDS_FILE)


def load_network(task: str, folder: Path) -> Task[Any]:
    """The network of a task in a folder that `Task.save` wrote, on the GPU if there is one."""
    return get_task(task).load(folder, choose_device())


def _read_all(read: Callable[[str], Image], image_ids: Sequence[str]) -> list[Image]:
    return [read(image_id) for image_id in image_ids]


def predict_images(
    task: Task[Any], images: Sequence[Image], restore: Callable[[Image], Image] | None = None
) -> list[Any]:
    """The predictions on images of any sizes, in their order; those of equal size are one batch."""
    images = [restore(image) for image in images] if restore else images
    predictions: dict[int, Any] = {}
    for places in same_sizes(images):
        predictions |= zip(places, task.predict_batch([images[place] for place in places]), strict=True)
    return [predictions[place] for place in range(len(images))]
