"""Stored predictions of a task that finds objects, with the labels of their images. Not a stage."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.manifest import Dataset, Split
from models.tasks.contract import ObjectTask
from models.tasks.object_changes import Run, count_changes, read_run
from models.tasks.object_sizes import SIZES, RecordsBySize, match_by_size
from pipeline.identity import TRAINING
from pipeline.scoring.scores import read_trainings


@dataclass(frozen=True)
class Changes:
    """What one variant changed."""

    counts: dict[str, NDArray[np.float64]]  # (N,) each, of each image; summed over the copies of the split
    objects: int  # to be found, in all copies
    images: int


class ObjectRuns:
    """The runs of one task on one degradation and its clean counterpart; labels are read once.

    Args:
        kind: of the task.
        task: its name.
        clean: the clean dataset.
        degraded: the degraded one.
    """

    def __init__(self, kind: type[ObjectTask[Any]], task: str, clean: Dataset, degraded: Dataset) -> None:
        self.kind, self.clean, self.degraded = kind, clean, degraded
        self.classes = clean.info.classes_of(kind.labels, task)
        self._labels: dict[Path, dict[str, Any]] = {}

    def by_size(self, records: Path) -> RecordsBySize:
        """The predictions beside a file of records, matched for each size of objects."""
        split = self._split(records.parent)
        results = self._results(records.parent)
        return match_by_size(self._labels_of(split), results, self.kind.overlap, sorted(split.ids), self.classes)

    def objects_by_size(self) -> dict[str, int]:
        """How many objects of each size one copy of the split has, crowds left out."""
        labels = self._labels_of(self.degraded.split(self.degraded.evaluation_splits[0]))
        areas = np.array([entry["area"] for entry in labels["annotations"] if not entry["iscrowd"]])
        return {size: int(np.count_nonzero((areas >= low) & (areas <= high))) for size, (low, high) in SIZES.items()}

    def changes(self, variant: Path, before: Path, clean: Path | None) -> Changes:
        """What a variant changed against another one, over all splits that both have.

        Args:
            variant: folder of its splits, several for each where its restorer was trained several times.
            before: folder of what it is compared with.
            clean: folder of the run on clean images, which shows what is seen there without any restorer.
        """
        trainings, reference = read_trainings(variant, self._run), read_trainings(before, self._run)
        others = [own[0] for own in read_trainings(clean, self._run).values()] if clean else []
        counts: list[dict[str, NDArray[np.float64]]] = []
        objects = images = 0
        for split, runs in trainings.items():
            labels = self._labels_of(self._split(variant / split))
            found = [count_changes(labels, run, reference[split][0], others, self.kind.overlap) for run in runs]
            counts.append({name: np.mean([one[name] for one in found], axis=0) for name in found[0]})
            objects += sum(not entry["iscrowd"] for entry in labels["annotations"])
            images += len(labels["images"])
        return Changes({name: np.sum([one[name] for one in counts], axis=0) for name in counts[0]}, objects, images)

    def _run(self, records: Path) -> Run:
        labels = self._labels_of(self._split(records.parent))
        return read_run(labels, self._results(records.parent), self.kind.overlap)

    def _results(self, folder: Path) -> Iterator[dict[str, Any]]:
        return self.kind.coco_results(self.kind.read(folder / "predictions"))

    def _split(self, folder: Path) -> Split:
        """The labels that the predictions in a folder were scored with."""
        name = folder.name.partition(TRAINING)[0]
        return (self.degraded if name in self.degraded.evaluation_splits else self.clean).split(name)

    def _labels_of(self, split: Split) -> dict[str, Any]:
        if split.folder not in self._labels:
            self._labels[split.folder] = self.kind.coco_labels(split, len(self.classes))
        return self._labels[split.folder]
