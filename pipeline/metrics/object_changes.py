"""Average precision by the size of objects, with COCO's ranges of areas."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data.dataset import Dataset, Split
from models.tasks.contract import ObjectTask
from pipeline.metrics.detection import SURE, DetectionRecords, records_of
from pipeline.metrics.matching import Matches, Overlap, blocks_of, join_blocks, match_objects, pair_objects
from pipeline.running.artifacts import TRAINING
from pipeline.statistics.scores import read_trainings

# In square pixels, of the box or of the mask, both ends included, as COCO has them.
SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}


@dataclass(frozen=True)
class RecordsBySize:
    """Matched detections of the same images, once for each size of objects."""

    sizes: Mapping[str, DetectionRecords]

    @property
    def image_ids(self) -> tuple[str, ...]:
        """The ids of the N images."""
        return next(iter(self.sizes.values())).image_ids

    def metrics(self, weights: ArrayLike | None = None) -> dict[str, NDArray[np.float64]]:
        """COCO's average precision for each size, each (R,); NaN where a resample has no object of it.

        Args:
            weights: (R, N) how often each image is taken; None: each once, R = 1.

        Returns:
            {"small mAP50-95": (R,), "small mAP50": ..., "medium ...": ..., "large ...": ...}, in [0, 1]

        Raises:
            RecordsError: weights of another shape, negative or not finite.
        """
        return {
            f"{size} {metric}": values
            for size, records in self.sizes.items()
            for metric, values in records.metrics(weights).items()
        }


def match_by_size(
    labels: dict[str, Any],
    results: Iterable[dict[str, Any]],
    overlap: Overlap,
    ids: Sequence[str],
    classes: Sequence[str],
) -> RecordsBySize:
    """Match as COCO does for its AP_small, AP_medium and AP_large.

    Objects of other sizes are ignored, and so are detections of other sizes that match nothing.

    Args:
        labels: COCO's annotations, where image number n of `ids` has id n + 1.
        results: COCO's results, image by image.
        overlap: of boxes or of masks.
        ids: N images.
        classes: C names.
    """
    found: dict[str, list[tuple[int, Matches]]] = {size: [] for size in SIZES}
    for start, own, some in blocks_of(labels, results):
        for size, areas in SIZES.items():
            found[size].append((start, match_objects(own, some, overlap, areas)))
    return RecordsBySize({size: _pruned(records_of(join_blocks(own), ids, classes)) for size, own in found.items()})


def _pruned(records: DetectionRecords) -> DetectionRecords:
    """Without the detections that count at no threshold: most of them, and resampling would carry them along."""
    kept = ~records.ignored.all(axis=1)
    rows = {field: getattr(records, field)[kept] for field in ("image", "category", "score", "correct", "ignored")}
    return replace(records, **rows)


THRESHOLD = 0.5  # of the intersection over union


@dataclass(frozen=True)
class Run:
    """What one run found in N images with G objects, crowds included."""

    sure: list[dict[str, Any]]  # COCO's results with enough confidence
    wrong: NDArray[np.bool_]  # (len(sure),) matched no object and no crowd
    found: NDArray[np.bool_]  # (G,) objects that a detection matched; never a crowd


def read_run(labels: dict[str, Any], results: Iterable[dict[str, Any]], overlap: Overlap) -> Run:
    """Match the detections of a run with the objects.

    Args:
        labels: COCO's annotations; ids count from 1 in the order of the list.
        results: COCO's results, of which only the sure ones are kept.
        overlap: of boxes or of masks.
    """
    sure = [result for result in results if result["score"] >= SURE]
    wrong = np.ones(len(sure), dtype=bool)
    found = np.zeros(len(labels["annotations"]), dtype=bool)
    for result, place in pair_objects(labels, sure, overlap, THRESHOLD):
        wrong[result] = False
        found[place] = not labels["annotations"][place]["iscrowd"]
    return Run(sure, wrong, found)


def count_changes(
    labels: dict[str, Any], run: Run, before: Run, others: Sequence[Run], overlap: Overlap
) -> dict[str, NDArray[np.int64]]:
    """Changes from one run to another, for each of the N images.

    Args:
        labels: as in `read_run`.
        run: after restoring.
        before: on the degraded images.
        others: further runs that show what a detector sees in these places without the restorer: on clean images.
        overlap: as in `read_run`.

    Returns:
        (N,) each: "invented", wrong detections with no detection of the same class and place before or in the
        others; "cleared", wrong detections before with none in `run`; "lost", objects found before and not in
        `run`; "found_again", objects found in `run` and not before.
    """
    images = len(labels["images"])
    owners = np.array([entry["image_id"] - 1 for entry in labels["annotations"]], dtype=np.int64)
    return {
        "invented": _count(_new(run, [before, *others], overlap), images),
        "cleared": _count(_new(before, [run], overlap), images),
        "lost": np.bincount(owners[before.found & ~run.found], minlength=images),
        "found_again": np.bincount(owners[run.found & ~before.found], minlength=images),
    }


def _new(run: Run, others: Sequence[Run], overlap: Overlap) -> list[dict[str, Any]]:
    """Wrong detections of a run that overlap no detection of the same class and image in the others."""
    known: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for result in (result for other in others for result in other.sure):
        known.setdefault((result["image_id"], result["category_id"]), []).append(result)
    wrong = [result for result, is_wrong in zip(run.sure, run.wrong, strict=True) if is_wrong]
    return [
        result
        for result in wrong
        if not _overlaps(result, known.get((result["image_id"], result["category_id"]), []), overlap)
    ]


def _overlaps(result: dict[str, Any], others: Sequence[dict[str, Any]], overlap: Overlap) -> bool:
    from faster_coco_eval.core import mask as coco

    if not others:
        return False
    field = "bbox" if overlap == "bbox" else "segmentation"
    shared = coco.iou([result[field]], [other[field] for other in others], [0] * len(others))
    return bool(np.max(shared) >= THRESHOLD)


def _count(results: Sequence[dict[str, Any]], images: int) -> NDArray[np.int64]:
    owners = np.array([result["image_id"] - 1 for result in results], dtype=np.int64)
    return np.bincount(owners, minlength=images)


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
