"""Where a gain comes from: classes.csv, sizes.csv, images.csv, objects.csv and correlations.csv.

Everything is resampled with the weights of the other tables, so that gains are paired in the same way.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from data.dataset import Dataset
from pipeline.metrics import QUALITY, ObjectScoring, Scores, get_scoring, load_records
from pipeline.metrics.object_changes import ObjectRuns
from pipeline.reporting.score_rows import Rows
from pipeline.reporting.tables import Groups, RunFolders, write_table
from pipeline.running.artifacts import DIFFLOSS_FILE
from pipeline.running.progress import with_progress
from pipeline.settings.grammar import CLEAN, DEGRADED, parse_arm
from pipeline.settings.params import Params
from pipeline.statistics import correlations
from pipeline.statistics.comparison import compare_systems, estimate
from pipeline.statistics.resampling import Resamples, percentile_interval
from pipeline.statistics.scores import NO_GROUPS, Cell, read_cells, read_trainings, shared_resamples
from pipeline.statistics.systems import Metrics

_ROW = ["task", "degradation", "variant"]
_VALUES = ["metric", "value", "ci_low", "ci_high", "gain", "gain_low", "gain_high", "n_objects", "n_groups"]
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
        "n_groups",
    ],
}


@dataclass(frozen=True)
class ScoresByClass:
    """The scores of each class of a task by itself, as metrics "<metric> <class>"."""

    records: Any  # of a task: DetectionRecords, SegmentationRecords or ClassificationRecords

    @property
    def image_ids(self) -> tuple[str, ...]:
        """The ids of the N images."""
        image_ids: tuple[str, ...] = self.records.image_ids
        return image_ids

    def metrics(self, weights: ArrayLike | None = None) -> Metrics:
        """As `Scores.metrics`; NaN if a resample has nothing of the class."""
        classes: Mapping[str, Metrics] = self.records.per_class(weights)
        return {f"{metric} {name}": values for name, scores in classes.items() for metric, values in scores.items()}


def write_breakdown(
    params: Params, clean: Dataset, folders: RunFolders, groups: Groups, gains: pd.DataFrame, out: Path
) -> dict[str, pd.DataFrame]:
    """Write classes.csv, sizes.csv, images.csv, objects.csv and correlations.csv; returns them by name.

    Args:
        params: seed, resamples and the three lists.
        clean: the clean dataset.
        folders: where the degraded datasets and the records lie.
        groups: of the images of each degradation, by their ids.
        gains: gains.csv.
        out: folder of the report.
    """
    rows: dict[str, Rows] = {name: [] for name in COLUMNS}
    pairs = list(product([*params.tasks, QUALITY], params.degradations))
    for task, degradation in with_progress(pairs, "report: classes and images", "table"):
        records = folders.records(params, task, degradation)
        if not records:
            continue
        rows["images"] += image_rows(task, degradation, records)
        if task == QUALITY:
            continue
        rows["classes"] += class_rows(params, task, degradation, records, groups[degradation])
        scoring = get_scoring(task)
        if issubclass(scoring, ObjectScoring):
            runs = ObjectRuns(scoring, task, clean, Dataset.open(folders.degraded / degradation))
            rows["sizes"] += size_rows(params, task, degradation, records, runs, groups[degradation])
            rows["objects"] += object_rows(params, task, degradation, records, runs, groups[degradation])
    tables = {name: write_table(rows[name], columns, out / f"{name}.csv") for name, columns in COLUMNS.items()}
    correlation_rows = correlations.correlation_rows(params, tables["images"], gains, groups)
    tables["correlations"] = write_table(correlation_rows, correlations.COLUMNS, out / "correlations.csv")
    return tables


def class_rows(
    params: Params,
    task: str,
    degradation: str,
    folders: Mapping[str, Path],
    groups: Mapping[str, str] = NO_GROUPS,
) -> Rows:
    """Rows of classes.csv; `folders` has each variant's records."""
    objects: dict[str, int] = {}

    def load(path: Path) -> Scores:
        records: Any = load_records(path)
        objects.update(records.class_objects())
        return ScoresByClass(records)

    rows = _value_rows(params, task, degradation, folders, load, groups)
    for row in rows:
        row["metric"], _, row["class"] = row["metric"].partition(" ")
        row["n_objects"] = objects.get(row["class"])
    return rows


def size_rows(
    params: Params,
    task: str,
    degradation: str,
    folders: Mapping[str, Path],
    runs: ObjectRuns,
    groups: Mapping[str, str] = NO_GROUPS,
) -> Rows:
    """Rows of sizes.csv, for a task that finds objects."""
    rows = _value_rows(params, task, degradation, folders, runs.by_size, groups)
    objects = runs.objects_by_size()
    for row in rows:
        row["size"], _, row["metric"] = row["metric"].partition(" ")
        row["n_objects"] = objects[row["size"]]
    return rows


def _value_rows(
    params: Params,
    task: str,
    degradation: str,
    folders: Mapping[str, Path],
    load: Callable[[Path], Scores],
    groups: Mapping[str, str],
) -> Rows:
    """Every metric of every variant, with its gain over the degraded images."""
    level = params.statistics.level
    cell = read_cells(params, folders, load=load, groups=groups).whole
    rows = []
    for variant, system in cell.items():
        gains = {} if variant == DEGRADED else _gains(cell, variant, level)
        for metric, score in estimate(system, level).items():
            row: dict[str, Any] = {"task": task, "degradation": degradation, "variant": variant, "metric": metric}
            row |= {"value": score.gain, "ci_low": score.low, "ci_high": score.high, "n_groups": score.n_groups}
            rows.append(row | gains.get(metric, {}))
    return rows


def _gains(cell: Cell, variant: str, level: float) -> dict[str, dict[str, float]]:
    gains = compare_systems(cell[variant], cell[DEGRADED], level)
    return {metric: {"gain": gain.gain, "gain_low": gain.low, "gain_high": gain.high} for metric, gain in gains.items()}


def image_rows(task: str, degradation: str, folders: Mapping[str, Path]) -> Rows:
    """Rows of images.csv: a score of every image by itself, the mean over the trainings of a restorer.

    If the split has a copy for each severity, an id is "<split>/<id>", and the clean images occur in each.
    """
    splits = list(read_trainings(folders[DEGRADED], _image_scores))
    rows = []
    for variant, folder in folders.items():
        scores_of = read_trainings(folder, _image_scores)
        for split in splits:
            trainings = scores_of.get(split) or next(iter(scores_of.values()))
            for metric, scores in _mean_over_trainings(trainings).items():
                for image_id, score in scores.items():
                    row = {"task": task, "degradation": degradation, "variant": variant, "metric": metric}
                    row["id"] = f"{split}/{image_id}" if len(splits) > 1 else image_id
                    rows.append({**row, "score": score})
    return rows


def _image_scores(path: Path) -> dict[str, dict[str, float]]:
    """{metric: {image id: score}} of a file of records and of the file with DiffLoss's terms beside it."""
    files = [load_records(path)]
    if (path.parent / DIFFLOSS_FILE).exists():
        files.append(load_records(path.parent / DIFFLOSS_FILE))
    return {
        metric: dict(zip(records.image_ids, scores.tolist(), strict=True))
        for records in files
        for metric, scores in records.image_scores().items()
    }


def _mean_over_trainings(trainings: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        metric: {image_id: float(np.mean([scores[metric][image_id] for scores in trainings])) for image_id in first}
        for metric, first in trainings[0].items()
    }


def object_rows(
    params: Params,
    task: str,
    degradation: str,
    folders: Mapping[str, Path],
    runs: ObjectRuns,
    groups: Mapping[str, str] = NO_GROUPS,
) -> Rows:
    """Rows of objects.csv: how many objects each variant invented, cleared, lost and found again, with intervals.

    Counts are sums over the images and over the severities, and means over the trainings of a restorer. Variants are
    compared with the degraded images, restored clean images with the clean ones.
    """
    image_ids = runs.degraded.split(runs.degraded.evaluation_splits[0]).ids
    resamples = shared_resamples(params, image_ids, groups)
    rows = []
    for variant in folders:
        arm = parse_arm(variant)
        before = CLEAN if arm and not arm.retrained else DEGRADED
        if variant in (CLEAN, DEGRADED) or before not in folders:
            continue
        clean = folders.get(CLEAN) if before == DEGRADED else None
        changes = runs.changes(folders[variant], folders[before], clean)
        row: dict[str, Any] = {"task": task, "degradation": degradation, "variant": variant}
        row |= {"n_objects": changes.objects, "n_images": changes.images, "n_groups": resamples.groups}
        for name, counts in changes.counts.items():
            row |= _total(name, counts, resamples, params.statistics.level)
        rows.append(row)
    return rows


def _total(name: str, counts: NDArray[np.float64], resamples: Resamples, level: float) -> dict[str, float]:
    """The sum of counts (N,) with its interval; a resample of groups of other sizes is scaled to N images."""
    scale = len(counts) / resamples.weights.sum(axis=1)
    low, high = percentile_interval(scale * (resamples.weights @ counts), resamples.groups, level)
    return {name: float(counts.sum()), f"{name}_low": low, f"{name}_high": high}
