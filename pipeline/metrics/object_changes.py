"""The objects that a restorer invents, clears, loses and finds again."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.dataset import Dataset, Split
from pipeline.metrics.detection_records import SURE
from pipeline.metrics.matching import pair_objects
from pipeline.metrics.prediction_files import PredictionReader
from pipeline.metrics.scoring import ObjectScoring, Overlap
from pipeline.running.artifacts import TRAINING, record_files

THRESHOLD = 0.5  # of the intersection over union, for changes


@dataclass(frozen=True)
class Detected:
    """The sure detections of one variant on N images with G objects, crowds included."""

    sure: list[dict[str, Any]]  # COCO's results of enough confidence
    wrong: NDArray[np.bool_]  # (len(sure),) matched no object and no crowd
    matched: NDArray[np.bool_]  # (G,) objects that a detection matched; never a crowd


def match_sure_detections(labels: dict[str, Any], results: Iterable[dict[str, Any]], overlap: Overlap) -> Detected:
    """Match the sure detections of a variant with the objects.

    Args:
        labels: COCO's annotations; ids count from 1 in the order of the list.
        results: COCO's results, of which only the sure ones are kept.
        overlap: of boxes or of masks.
    """
    sure = [result for result in results if result["score"] >= SURE]
    wrong = np.ones(len(sure), dtype=bool)
    matched = np.zeros(len(labels["annotations"]), dtype=bool)
    for detection, target in pair_objects(labels, sure, overlap, THRESHOLD):
        wrong[detection] = False
        matched[target] = not labels["annotations"][target]["iscrowd"]
    return Detected(sure, wrong, matched)


def count_changes(
    labels: dict[str, Any], after: Detected, before: Detected, references: Sequence[Detected], overlap: Overlap
) -> dict[str, NDArray[np.int64]]:
    """Changes from one variant to another, for each of the N images.

    Args:
        labels: as in `match_sure_detections`.
        after: on the restored images.
        before: on the degraded images.
        references: on the clean images without a restorer.
        overlap: as in `match_sure_detections`.

    Returns:
        (N,) each: "invented", wrong detections that overlap no detection of the same class before or in the
        references; "cleared", wrong detections before that overlap none after; "lost", objects found before and not
        after; "found_again", objects found after and not before.
    """
    images = len(labels["images"])
    owners = np.array([entry["image_id"] - 1 for entry in labels["annotations"]], dtype=np.int64)
    return {
        "invented": _count(_new(after, [before, *references], overlap), images),
        "cleared": _count(_new(before, [after], overlap), images),
        "lost": np.bincount(owners[before.matched & ~after.matched], minlength=images),
        "found_again": np.bincount(owners[after.matched & ~before.matched], minlength=images),
    }


def _new(detected: Detected, references: Sequence[Detected], overlap: Overlap) -> list[dict[str, Any]]:
    """Wrong detections that overlap no detection of the same class and image in the references."""
    known: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for result in (result for reference in references for result in reference.sure):
        known.setdefault((result["image_id"], result["category_id"]), []).append(result)
    wrong = [result for result, is_wrong in zip(detected.sure, detected.wrong, strict=True) if is_wrong]
    return [
        result
        for result in wrong
        if not _overlaps(result, known.get((result["image_id"], result["category_id"]), []), overlap)
    ]


def _overlaps(result: dict[str, Any], known: Sequence[dict[str, Any]], overlap: Overlap) -> bool:
    from faster_coco_eval.core import mask as coco

    if not known:
        return False
    field = "bbox" if overlap == "bbox" else "segmentation"
    overlaps = coco.iou([result[field]], [detection[field] for detection in known], [0] * len(known))
    return bool(np.max(overlaps) >= THRESHOLD)


def _count(results: Sequence[dict[str, Any]], images: int) -> NDArray[np.int64]:
    owners = np.array([result["image_id"] - 1 for result in results], dtype=np.int64)
    return np.bincount(owners, minlength=images)


@dataclass(frozen=True)
class Changes:
    """The changes that one variant brings."""

    counts: dict[str, NDArray[np.float64]]  # (N,) each, of each image; summed over the copies of the split
    objects: int  # to be found, in all copies
    images: int


class ObjectRuns:
    """The predicted objects of one task on one degradation and on clean images.

    Labels are read once. The sure detections on degraded and clean images, with which all variants are compared, are
    matched once.

    Args:
        scoring: of the task.
        task: its name.
        clean: the clean dataset.
        degraded: the degraded dataset.
        predictions: reads them.
    """

    def __init__(
        self,
        scoring: type[ObjectScoring[Any]],
        task: str,
        clean: Dataset,
        degraded: Dataset,
        predictions: PredictionReader | None = None,
    ) -> None:
        self.scoring, self.clean, self.degraded = scoring, clean, degraded
        self._predictions = predictions or PredictionReader()
        self.classes = clean.info.classes_of(scoring.labels, task)
        self._labels: dict[Path, dict[str, Any]] = {}
        self._baselines: dict[Path, Detected] = {}

    def changes(self, variant: Path, before: Path, clean: Path | None) -> Changes:
        """The changes from a baseline to a variant, over all splits that both have.

        Args:
            variant: folder of its splits, several for each if its restorer was trained several times.
            before: folder of the baseline.
            clean: folder of the predictions on clean images; None if there are none.
        """
        variant_files, before_files = record_files(variant), record_files(before)
        clean_files = record_files(clean) if clean else {}
        references = [self._baseline(files[0]) for files in clean_files.values()]
        counts: list[dict[str, NDArray[np.float64]]] = []
        objects = images = 0
        for split, files in variant_files.items():
            labels = self._labels_of(self._split(variant / split))
            baseline = self._baseline(before_files[split][0])
            trainings = [
                count_changes(labels, self._detected(file), baseline, references, self.scoring.overlap)
                for file in files
            ]
            counts.append({name: np.mean([changes[name] for changes in trainings], axis=0) for name in trainings[0]})
            objects += sum(not entry["iscrowd"] for entry in labels["annotations"])
            images += len(labels["images"])
        return Changes({name: np.sum([part[name] for part in counts], axis=0) for name in counts[0]}, objects, images)

    def _baseline(self, records: Path) -> Detected:
        if records not in self._baselines:
            self._baselines[records] = self._detected(records)
        return self._baselines[records]

    def _detected(self, records: Path) -> Detected:
        labels = self._labels_of(self._split(records.parent))
        return match_sure_detections(labels, self._results(records.parent), self.scoring.overlap)

    def _results(self, folder: Path) -> Iterator[dict[str, Any]]:
        return self.scoring.coco_results(self._predictions.read(self.scoring, folder / "predictions"))

    def _split(self, folder: Path) -> Split:
        """The split whose labels belong to the predictions in a folder."""
        name = folder.name.partition(TRAINING)[0]
        return (self.degraded if name in self.degraded.evaluation_splits else self.clean).split(name)

    def _labels_of(self, split: Split) -> dict[str, Any]:
        if split.folder not in self._labels:
            self._labels[split.folder] = self.scoring.coco_labels(split, len(self.classes))
        return self._labels[split.folder]
