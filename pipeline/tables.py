"""The two tables that other people read: results.csv and gains.csv. Not a stage."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from models.tasks.records import Records, load_records
from pipeline import runtime
from pipeline.identity import CLEAN, DEGRADED
from pipeline.params import Params
from pipeline.statistics import interval, paired_gain, recovered, resample_weights

QUALITY = "quality"
RESULTS = ["task", "degradation", "variant", "metric", "value", "ci_low", "ci_high", "n_images"]
GAINS = ["task", "degradation", "variant", "versus", "metric", "gain", "ci_low", "ci_high", "p_value", "recovered"]

Cell = Mapping[str, "Resampled"]  # variant -> its scores


class Resampled:
    """Records with their metrics in every resample, computed once: a variant takes part in several comparisons."""

    def __init__(self, records: Records, weights: NDArray[np.int64]) -> None:
        self.image_ids = records.image_ids
        self.weights = weights
        self.value = records.metrics()
        self._resampled = records.metrics(weights)

    def metrics(self, weights: ArrayLike | None = None) -> dict[str, NDArray[np.float64]]:
        """As `Records.metrics`, for no weights or for its own."""
        return self.value if weights is None else self._resampled


def read_cell(params: Params, files: Mapping[str, Path]) -> dict[str, Resampled]:
    """Read the records of every variant of one task and degradation and resample them together.

    All variants, and all cells with as many images, are resampled with the same weights, so that gains are paired.

    Args:
        params: seed and number of resamples.
        files: variant to records file.
    """
    records = {variant: load_records(file) for variant, file in files.items()}
    images = len(next(iter(records.values())).image_ids)
    weights = resample_weights(images, params.statistics.resamples, runtime.seed_for(params.seed, "bootstrap"))
    return {variant: Resampled(scores, weights) for variant, scores in records.items()}


def result_rows(task: str, degradation: str, cell: Cell, level: float) -> list[dict[str, Any]]:
    """Rows of results.csv for one cell: every variant's metrics with their intervals."""
    return [
        {
            "task": task,
            "degradation": degradation,
            "variant": variant,
            "metric": metric,
            "value": estimate.value,
            "ci_low": estimate.low,
            "ci_high": estimate.high,
            "n_images": len(scores.image_ids),
        }
        for variant, scores in cell.items()
        for metric, estimate in interval(scores, scores.weights, level).items()
    ]


def gain_rows(task: str, degradation: str, cell: Cell, level: float) -> list[dict[str, Any]]:
    """Rows of gains.csv for one cell: everything against degraded, and every other objective against pixel."""
    return [
        {
            "task": task,
            "degradation": degradation,
            "variant": variant,
            "versus": versus,
            "metric": metric,
            "gain": gain.gain,
            "ci_low": gain.low,
            "ci_high": gain.high,
            "p_value": gain.p_value,
            "recovered": _recovered(cell, variant, metric),
        }
        for variant, versus in _comparisons(cell)
        for metric, gain in paired_gain(cell[variant], cell[versus], cell[versus].weights, level).items()
    ]


def write_table(rows: Iterable[Mapping[str, Any]], columns: list[str], path: Path) -> pd.DataFrame:
    """Write rows as CSV, numbers with six significant digits, undefined ones empty; returns the table."""
    table = pd.DataFrame(rows, columns=columns)
    table.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")
    return table


def _comparisons(cell: Cell) -> list[tuple[str, str]]:
    against_degraded = [(variant, DEGRADED) for variant in cell if variant != DEGRADED]
    rivals = [variant for variant in cell if variant not in (CLEAN, DEGRADED, "pixel")]
    return against_degraded + [(variant, "pixel") for variant in rivals if "pixel" in cell]


def _recovered(cell: Cell, variant: str, metric: str) -> float:
    if CLEAN not in cell:
        return float("nan")
    value, degraded, clean = (float(cell[name].value[metric][0]) for name in (variant, DEGRADED, CLEAN))
    share = recovered(value, degraded, clean)
    return share if np.isfinite(share) else float("nan")
