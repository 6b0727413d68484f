"""Where a gain comes from: sizes.csv, images.csv, objects.csv and correlations.csv.

Everything is resampled with the weights of the other tables, so that gains are paired in the same way.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data.dataset import Dataset
from pipeline.metrics import QUALITY, ObjectScoring, get_scoring, load_records
from pipeline.metrics.detection_records import RecordsBySize
from pipeline.metrics.object_changes import ObjectRuns
from pipeline.reporting.score_rows import VALUES, Rows, value_rows
from pipeline.reporting.tables import Groups, RunFolders, write_table
from pipeline.running.artifacts import DIFFLOSS_FILE, record_files
from pipeline.running.progress import with_progress
from pipeline.settings.grammar import CLEAN, DEGRADED, parse_arm
from pipeline.settings.params import Params
from pipeline.statistics import correlations
from pipeline.statistics.comparison import too_little
from pipeline.statistics.resampling import Resamples, percentile_interval
from pipeline.statistics.scores import NO_GROUPS, read_cells, read_trainings, shared_resamples
from pipeline.statistics.systems import System

_ROW = ["task", "degradation", "variant"]
_CHANGES = ["invented", "cleared", "lost", "found_again"]
COLUMNS = {
    "sizes": [*_ROW, "size", *VALUES],
    "images": [*_ROW, "id", "metric", "score"],
    "objects": [
        *_ROW,
        *(f"{name}{end}" for name in _CHANGES for end in ("", "_low", "_high")),
        "n_objects",
        "n_images",
        "n_groups",
    ],
}


def write_breakdown(
    params: Params, clean: Dataset, folders: RunFolders, groups: Groups, gains: pd.DataFrame, out: Path
) -> dict[str, pd.DataFrame]:
    """Write sizes.csv, images.csv, objects.csv and correlations.csv; returns them by name.

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
    scored: dict[str, dict[Any, System]] = {task: {} for task in params.tasks}  # clean images, by size
    for task, degradation in with_progress(pairs, "report: sizes and images", "table"):
        records = folders.records(params, task, degradation)
        if not records:
            continue
        rows["images"] += image_rows(task, degradation, records)
        if task == QUALITY:
            continue
        scoring = get_scoring(task)
        if issubclass(scoring, ObjectScoring):
            degraded = Dataset.open(folders.degraded / degradation)
            runs = ObjectRuns(scoring, task, clean, degraded, folders.predictions)
            rows["sizes"] += size_rows(params, task, degradation, records, groups[degradation], scored[task])
            rows["objects"] += object_rows(params, task, degradation, records, runs, groups[degradation])
    tables = {name: write_table(rows[name], columns, out / f"{name}.csv") for name, columns in COLUMNS.items()}
    correlation_rows = correlations.correlation_rows(params, tables["images"], gains, groups)
    tables["correlations"] = write_table(correlation_rows, correlations.COLUMNS, out / "correlations.csv")
    return tables


def size_rows(
    params: Params,
    task: str,
    degradation: str,
    folders: Mapping[str, Path],
    groups: Mapping[str, str] = NO_GROUPS,
    clean: dict[Any, System] | None = None,
) -> Rows:
    """Rows of sizes.csv, for a task that finds objects; `clean` as in `read_cells`."""
    cell = read_cells(params, folders, load=RecordsBySize.load, groups=groups, clean=clean).whole
    first_split = next(iter(record_files(folders[DEGRADED]).values()))
    of_size = RecordsBySize.load(first_split[0]).objects()
    objects = {metric: of_size[metric.partition(" ")[0]] for metric in cell[DEGRADED].values}
    rows = value_rows(task, degradation, cell, params.statistics.level, objects)
    for row in rows:
        row["size"], _, row["metric"] = row["metric"].partition(" ")
    return rows


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

    Counts are sums over the images and over the severities, and means over the trainings of a restorer. Intervals cover
    the choice of images, not the seeds of the trainings. Variants are compared with the degraded images, restored clean
    images with the clean ones.
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
    scale, groups = len(counts) / resamples.weights.sum(axis=1), resamples.effective_groups
    low, high = math.nan, math.nan
    if not too_little(1, groups):
        low, high = percentile_interval(scale * (resamples.weights @ counts), groups, level)
    return {name: float(counts.sum()), f"{name}_low": low, f"{name}_high": high}
