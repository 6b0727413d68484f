"""Stage evaluate: one task on clean, degraded and restored images of one degradation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from data.images import read_image
from data.manifest import Dataset, Split
from models.tasks import get_task
from models.tasks.contract import Image, Task
from pipeline import runtime
from pipeline.identity import CLEAN, DEGRADED, RECORDS_FILE
from pipeline.params import load_params
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


def main() -> None:
    """Command line."""
    options = runtime.arguments("task", "network", "clean", "degraded", "restored", "out")
    params = load_params()
    clean, degraded = (Dataset.open(Path(path)) for path in (options.clean, options.degraded))
    task = get_task(options.task).load(Path(options.network), runtime.device())
    with runtime.replacing_folder(Path(options.out)) as out:
        if degraded.has_clean_images:
            truth = clean.split(clean.evaluation_split)
            evaluate(task, truth, truth.image, out / CLEAN / clean.evaluation_split, f"{options.task} on {CLEAN}")
        for split in degraded.evaluation_splits:
            folders = {DEGRADED: degraded.folder / split / "images"}
            folders |= {objective: Path(options.restored) / objective / split for objective in params.objectives}
            for variant, folder in folders.items():
                evaluate(
                    task,
                    degraded.split(split),
                    lambda id, folder=folder: read_image(folder / f"{id}.png"),  # type: ignore[misc]
                    out / variant / split,
                    f"{options.task} on {variant} {split}",
                )


if __name__ == "__main__":
    runtime.run_stage(main)
