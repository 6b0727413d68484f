"""Where a gain comes from: classes.csv, sizes.csv, images.csv and objects.csv. Not a stage.

Everything is resampled with the weights of the other tables, so that gains are paired in the same way.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from data.dataset import Dataset
from pipeline.metrics import ObjectScoring, Scores, get_scoring, load_records
from pipeline.metrics.object_changes import ObjectRuns
from pipeline.reporting.tables import QUALITY, write_table
from pipeline.running.artifacts import DIFFLOSS_FILE
from pipeline.settings.grammar import CLEAN
from pipeline.settings.grammar import DEGRADED, parse_arm
from pipeline.settings.params import Params
from pipeline.statistics import correlations
from pipeline.statistics.resampling import interval, paired_gain, percentile_interval
from pipeline.statistics.scores import Cell, Metrics, read_cells, read_trainings, shared_weights

_ROW = ["task", "degradation", "variant"]
_VALUES = ["metric", "value", "ci_low", "ci_high", "gain", "gain_low", "gain_high", "n_objects"]
_CHANGES = ["invented", "cleared", "lost", "found_again"]
COLUMNS = {
    "classes": [*_ROW, "class", *_VALUES],
    "sizes": [*_ROW, "size", *_VALUES],
    "images": [*_ROW, "id", "metric", "score"],
    "objects": [
        *_ROW,
        *(f"{name}{end}" for name in _CHANGES for end in ("", "_low", "_high")),
        "n_objects",
        "n_images",
    ],
}


@dataclass(frozen=True)
class ScoresByClass:
    """The scores of each class of a task by themselves, as metrics "<metric> <class>"."""

    records: Any  # of a task: DetectionRecords, SegmentationRecords or ClassificationRecords

    @property
    def image_ids(self) -> tuple[str, ...]:
        """The ids of the N images."""
        ids: tuple[str, ...] = self.records.image_ids
        return ids

    def metrics(self, weights: ArrayLike | None = None) -> Metrics:
        """As `Scores.metrics`; NaN where a resample has nothing of the class."""
        classes: Mapping[str, Metrics] = self.records.per_class(weights)
        return {f"{metric} {name}": values for name, own in classes.items() for metric, values in own.items()}


FoldersOf = Callable[[str, str], Mapping[str, Path]]  # task and degradation to the folders of each variant's records


def write_breakdown(
    params: Params, clean: Dataset, degraded: Path, folders_of: FoldersOf, gains: pd.DataFrame, out: Path
) -> dict[str, pd.DataFrame]:
    """Write classes.csv, sizes.csv, images.csv, objects.csv and correlations.csv; returns them by name.

    Args:
        params: seed, resamples and the three lists.
        clean: the clean dataset.
        degraded: folder of the degraded ones.
        folders_of: where the records of a task (or quality) and degradation lie; empty where there are none.
        gains: gains.csv.
        out: folder of the report.
    """
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in COLUMNS}
    for task in [*params.tasks, QUALITY]:
        for degradation in params.degradations:
            folders = folders_of(task, degradation)
            if folders:
                rows["images"] += image_rows(task, degradation, folders)
            if folders and task != QUALITY:
                rows["classes"] += class_rows(params, task, degradation, folders)
            scoring = get_scoring(task)
            if folders and issubclass(scoring, ObjectScoring):
                runs = ObjectRuns(scoring, task, clean, Dataset.open(degraded / degradation))
                rows["sizes"] += size_rows(params, task, degradation, folders, runs)
                rows["objects"] += object_rows(params, task, degradation, folders, runs)
    found = {name: write_table(rows[name], columns, out / f"{name}.csv") for name, columns in COLUMNS.items()}
    related = correlations.rows(params, found["images"], gains)
    found["correlations"] = write_table(related, correlations.COLUMNS, out / "correlations.csv")
    return found


def class_rows(params: Params, task: str, degradation: str, folders: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Rows of classes.csv; `folders` has each variant's records."""
    objects: dict[str, int] = {}

    def load(path: Path) -> Scores:
        records: Any = load_records(path)
        objects.update(records.class_objects())
        return ScoresByClass(records)

    rows = _rows(params, folders, load)
    for row in rows:
        row["metric"], _, row["class"] = row["metric"].partition(" ")
        row["n_objects"] = objects.get(row["class"])
    return _labelled(rows, task, degradation)


def size_rows(
    params: Params, task: str, degradation: str, folders: Mapping[str, Path], runs: ObjectRuns
) -> list[dict[str, Any]]:
    """Rows of sizes.csv, for a task that finds objects."""
    rows = _rows(params, folders, runs.by_size)
    objects = runs.objects_by_size()
    for row in rows:
        row["size"], _, row["metric"] = row["metric"].partition(" ")
        row["n_objects"] = objects[row["size"]]
    return _labelled(rows, task, degradation)


def _rows(params: Params, folders: Mapping[str, Path], load: Callable[[Path], Scores]) -> list[dict[str, Any]]:
    """Every metric of every variant, with its gain over the degraded images."""
    cell, level = read_cells(params, folders, load=load).whole, params.statistics.level
    rows = []
    for variant, scores in cell.items():
        gains = {} if variant == DEGRADED else _gains(cell, variant, level)
        for metric, own in interval(scores, scores.weights, level).items():
            row = {"variant": variant, "metric": metric, "value": own.value, "ci_low": own.low, "ci_high": own.high}
            rows.append(row | gains.get(metric, {}))
    return rows


def _gains(cell: Cell, variant: str, level: float) -> dict[str, dict[str, float]]:
    rival = cell[DEGRADED]
    return {
        metric: {"gain": own.gain, "gain_low": own.low, "gain_high": own.high}
        for metric, own in paired_gain(cell[variant], rival, rival.weights, level).items()
    }


def image_rows(task: str, degradation: str, folders: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Rows of images.csv: a score of every image by itself, the mean over the trainings of a restorer.

    Where the split has a copy for each severity, an id is "<split>/<id>", and the clean images occur in each.
    """
    splits = list(read_trainings(folders[DEGRADED], _image_scores))
    rows = []
    for variant, folder in folders.items():
        found = read_trainings(folder, _image_scores)
        for split in splits:
            trainings = found.get(split) or next(iter(found.values()))
            rows += [
                {"variant": variant, "id": f"{split}/{id}" if len(splits) > 1 else id, "metric": metric, "score": score}
                for metric, scores in _mean(trainings).items()
                for id, score in scores.items()
            ]
    return _labelled(rows, task, degradation)


def _image_scores(path: Path) -> dict[str, dict[str, float]]:
    """{metric: {image id: score}} of one file of records and, beside it, DiffLoss's terms of some of the images."""
    files = [load_records(path)]
    if (path.parent / DIFFLOSS_FILE).exists():
        files.append(load_records(path.parent / DIFFLOSS_FILE))
    return {
        metric: dict(zip(records.image_ids, scores.tolist(), strict=True))
        for records in files
        for metric, scores in records.image_scores().items()
    }


def _mean(trainings: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        metric: {id: float(np.mean([one[metric][id] for one in trainings])) for id in scores}
        for metric, scores in trainings[0].items()
    }


def object_rows(
    params: Params, task: str, degradation: str, folders: Mapping[str, Path], runs: ObjectRuns
) -> list[dict[str, Any]]:
    """Rows of objects.csv: how many objects each variant invented, cleared, lost and found again, with intervals.

    They are sums over the images, and over the severities; the mean over the trainings of a restorer. Variants are
    compared with the degraded images, restored clean images with the clean ones.
    """
    rows = []
    for variant in folders:
        arm = parse_arm(variant)
        before = CLEAN if arm and not arm.retrained else DEGRADED
        if variant in (CLEAN, DEGRADED) or before not in folders:
            continue
        clean = folders.get(CLEAN) if before == DEGRADED else None
        changes = runs.changes(folders[variant], folders[before], clean)
        row: dict[str, Any] = {"variant": variant, "n_objects": changes.objects, "n_images": changes.images}
        for name, counts in changes.counts.items():
            row |= _total(name, counts, shared_weights(params, len(counts)), params.statistics.level)
        rows.append(row)
    return _labelled(rows, task, degradation)


def _total(name: str, counts: NDArray[np.float64], weights: NDArray[np.int64], level: float) -> dict[str, float]:
    low, high = percentile_interval(weights @ counts, len(counts), level)
    return {name: float(counts.sum()), f"{name}_low": low, f"{name}_high": high}


def _labelled(rows: list[dict[str, Any]], task: str, degradation: str) -> list[dict[str, Any]]:
    return [{"task": task, "degradation": degradation, **row} for row in rows]
