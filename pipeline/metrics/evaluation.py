"""Predictions of one task network on one set of images, stored and scored. Not a stage."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from data.dataset import Split
from models.tasks.contract import Image, Task
from pipeline.running.artifacts import RECORDS_FILE
from pipeline.running.execution import Kind, through_network
from pipeline.running.progress import progress


class _Passing(Mapping[str, Any]):
    """Predictions as they come, each taken once and in order: all masks of a split may not fit into memory."""

    def __init__(self, ids: tuple[str, ...], predictions: Iterator[Any], bar: Any) -> None:
        self._ids, self._bar = ids, bar
        self._coming = zip(ids, predictions, strict=True)

    def __getitem__(self, id: str) -> Any:
        coming, prediction = next(self._coming)
        if coming != id:
            raise KeyError(f"{id}: predictions are taken in order, and {coming} comes next")
        self._bar.update()
        return prediction

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)


def evaluate(
    task: Task[Any],
    truth: Split,
    read: Callable[[str], Image],
    folder: Path,
    description: str,
    on_cluster: Callable[[], Task[Any]] | None = None,
) -> None:
    """Predict on every image of a split, store the predictions, and score what was stored.

    Args:
        task: the frozen network.
        truth: the split whose labels count.
        read: gives the image to look at, by its id.
        folder: gets `predictions/` and the records.
        description: of the progress bar.
        on_cluster: loads the same network in the workers of a Ray cluster, which then predict; None: it is done here.
    """
    engine: Kind = "ray" if on_cluster else "local"
    jobs = ((id,) for id in truth.ids)
    found = through_network(on_cluster or (lambda: task), partial(_predict, read), jobs, engine)
    stored = folder / "predictions"
    stored.mkdir(parents=True)
    with progress(len(truth.ids), description, "image") as bar:
        task.write(stored, _Passing(truth.ids, found, bar))
    task.score(task.read(stored), truth).save(folder / RECORDS_FILE)


def _predict(read: Callable[[str], Image], task: Task[Any], id: str) -> Any:
    return task.predict(read(id))
