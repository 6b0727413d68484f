"""Bench C of docs/explanation/results.md: do restorers help a detector on real degraded photos?

    python -m benchmarks.real_fog PHOTOS DETECTOR OUT RESTORER ...

PHOTOS holds images and instances.json, DETECTOR is a trusted .pt file of ultralytics whose classes include those of the
photos, and each RESTORER a checkpoint or a folder with the trainings of one objective, such as
artifacts/restorers/fog/diffloss. Photos are reduced to `--longest-side` pixels. OUT/gains.csv has the gain of each
restorer over the photos as they are, and over each restorer that was named before it. Finished restorers in OUT are
not run again. Every photo counts as a group. The intervals of a checkpoint hold for this one network, those of a
folder for its objective; all folders need equally many trainings.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from data.dataset import Dataset, Split
from models.restorers.contract import Restorer
from models.tasks import get_task
from models.tasks.contract import Image, Task
from pipeline.datasets.importing import import_dataset
from pipeline.metrics import load_records
from pipeline.metrics.evaluation import evaluate
from pipeline.metrics.records import Records
from pipeline.running.artifacts import RECORDS_FILE, trained_files
from pipeline.running.restoring import open_restorer, restored_image
from pipeline.settings.data import Data
from pipeline.settings.training import Restore
from pipeline.statistics import compare

TASK = "detection"
RESTORE = Restore(tile=None, overlap=64, precision="auto")
COCO = {"name": "photos", "files": {"test": {"json": "instances.json", "images": "images"}}, "masks": False}


def open_photos(root: Path, longest_side: int, folder: Path) -> Dataset:
    """The labelled photos as the split test, read once into `folder`. Faulty labels are left out."""
    if not folder.exists():
        data = {"source": "coco", "root": str(root), "faults": "skip-labels", "longest_side": longest_side}
        import_dataset(Data.model_validate({**data, "coco": COCO}), 0, folder)
    return Dataset.open(folder)


def read_restored(photos: Split, restorer: Restorer, image_id: str) -> Image:
    """A photo through a restorer."""
    return restored_image(restorer, photos.image(image_id), RESTORE)


def score(task: Task[Any], photos: Split, read: Callable[[str], Image], folder: Path) -> Records:
    """The records of the detector on the photos as `read` returns them, from `folder` if they are there."""
    if not (folder / RECORDS_FILE).exists():
        evaluate(task, photos, read, folder, f"{folder.parent.name} {folder.name}")
    return load_records(folder / RECORDS_FILE)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("detector", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("restorers", type=Path, nargs="*")
    parser.add_argument("--longest-side", type=int, default=640)
    options = parser.parse_args()
    if len({path.stem for path in options.restorers}) < len(options.restorers):
        parser.error("two restorers have the same name, under which OUT keeps their results. Copy one to another name.")
    if len({len(trained_files(path)) for path in options.restorers if path.is_dir()}) > 1:
        parser.error("the folders have different numbers of trainings, which are compared in pairs. Name others.")
    dataset = open_photos(options.photos, options.longest_side, options.out / "photos")
    photos = dataset.split("test")
    section = {"weights": str(options.detector), "trust_pickle": True, "frozen": True, "image_size": 640}
    classes = dataset.info.classes_of(TASK, TASK)
    task = get_task(TASK).load_weights({"model": "", **section}, classes, torch.device("cpu"))
    degraded = score(task, photos, photos.image, options.out / "degraded" / "1")
    scored: dict[str, Records | list[Records]] = {"none": degraded}
    rows = []
    for path in options.restorers:
        records = []
        for number, file in enumerate(trained_files(path) if path.is_dir() else [path], start=1):
            read = partial(read_restored, photos, open_restorer(file))
            records.append(score(task, photos, read, options.out / path.stem / str(number)))
        restored = records if path.is_dir() else records[0]
        for versus, others in scored.items():
            for metric, gain in compare(restored, others).items():
                rows.append({"restorer": path.stem, "versus": versus, "metric": metric, **vars(gain)})
        scored[path.stem] = restored
    table = pd.DataFrame(rows)
    table.to_csv(options.out / "gains.csv", index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
