"""The tables that other people read: results.csv, gains.csv, severities.csv and robustness.csv. Not a stage."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.settings.grammar import CLEAN
from pipeline.settings.grammar import DEGRADED, DEGRADED_RETRAINED, PIXEL, parse_arm
from pipeline.statistics.resampling import interval, paired_gain, recovered
from pipeline.statistics.scores import Cell, Cells, Resampled

QUALITY = "quality"
RESULTS = ["task", "degradation", "variant", "metric", "value", "ci_low", "ci_high", "n_images"]
GAINS = ["task", "degradation", "variant", "versus", "metric", "gain", "ci_low", "ci_high", "p_value", "recovered"]
SEVERITIES = ["task", "degradation", "severity", *RESULTS[2:], "gain", "gain_low", "gain_high"]
ROBUSTNESS = [
    *("task", "variant", "metric"),
    *("mPC", "mPC_low", "mPC_high", "rPC", "rPC_low", "rPC_high"),
    *("n_degradations", "n_severities", "n_images"),
]


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


def gain_rows(
    task: str,
    degradation: str,
    cell: Cell,
    level: float,
    pixels: Sequence[str] = (PIXEL,),
    rivals: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Rows of gains.csv for one cell: everything against degraded, the objectives against `pixels` and `rivals`."""
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
        for variant, versus in _comparisons(cell, pixels, rivals)
        for metric, gain in paired_gain(cell[variant], cell[versus], cell[versus].weights, level).items()
    ]


def severity_rows(task: str, degradation: str, cells: Cells, level: float) -> list[dict[str, Any]]:
    """Rows of severities.csv: every variant at each severity by itself, with its gain over the degraded images."""
    rows = []
    for severity, cell in cells.severities.items():
        gains = {(row["variant"], row["metric"]): row for row in gain_rows(task, degradation, cell, level)[::-1]}
        for row in result_rows(task, degradation, cell, level):
            gain = gains.get((row["variant"], row["metric"]), {})
            named = {"gain": gain.get("gain"), "gain_low": gain.get("ci_low"), "gain_high": gain.get("ci_high")}
            rows.append({**row, "severity": severity, **named})
    return rows


def robustness_rows(task: str, cells: Sequence[Cells], level: float) -> list[dict[str, Any]]:
    """Rows of robustness.csv: mPC and rPC of every variant over all degradations of the same clean images.

    mPC is the mean of a metric over degradations, each of them its mean over severities; rPC = mPC / clean.
    Source: Michaelis et al., "Benchmarking robustness in object detection: autonomous driving when winter is
    coming", 2019, equations 1 and 2.
    """
    paired = [cells_of_one for cells_of_one in cells if CLEAN in cells_of_one.whole]
    rows: list[dict[str, Any]] = []
    if not paired:
        return rows
    clean = paired[0].whole[CLEAN]
    shared = [v for v in paired[0].whole if v != CLEAN and all(v in one.whole for one in paired)]
    for variant in shared:
        mean = Resampled.mean([Resampled.mean([cell[variant] for cell in one.severities.values()]) for one in paired])
        shares = interval(mean.relative_to(clean), mean.weights, level)
        for metric, own in interval(mean, mean.weights, level).items():
            share = shares[metric]
            named = {"mPC": own.value, "mPC_low": own.low, "mPC_high": own.high}
            named |= {"rPC": share.value, "rPC_low": share.low, "rPC_high": share.high}
            count = {"n_degradations": len(paired), "n_severities": sum(len(one.severities) for one in paired)}
            images = len(paired[0].whole[CLEAN].image_ids)
            rows.append({"task": task, "variant": variant, "metric": metric, **named, **count, "n_images": images})
    return rows


def write_table(rows: Iterable[Mapping[str, Any]], columns: list[str], path: Path) -> pd.DataFrame:
    """Write rows as CSV, numbers with six significant digits, undefined ones empty; returns the table."""
    table = pd.DataFrame(rows, columns=columns)
    table.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")
    return table


def _comparisons(cell: Cell, pixels: Sequence[str], rivals: Sequence[str]) -> list[tuple[str, str]]:
    """Which variant is compared with which.

    All with the degraded images; objectives with the pixel losses, and those with the first of them; objectives with
    each rival among them, and rivals with those before them; objectives with a network trained on degraded images; that
    network's rivals with it; restored clean images with clean ones.
    """
    arms = {name: arm for name in cell if (arm := parse_arm(name))}
    harms = [name for name, arm in arms.items() if not arm.retrained]
    objectives = [name for name in cell if name not in (CLEAN, DEGRADED, *arms)]
    retrained = [name for name, arm in arms.items() if arm.retrained and arm.source != DEGRADED]
    pairs = [(variant, DEGRADED) for variant in cell if variant not in (DEGRADED, *harms)]
    known = [name for name in pixels if name in cell]
    others = [name for name in objectives if name not in known]
    pairs += [(variant, pixel) for pixel in known for variant in others]
    pairs += [(variant, known[0]) for variant in known[1:]]
    for rival in (name for name in rivals if name in others):
        others.remove(rival)
        pairs += [(variant, rival) for variant in others]
    if DEGRADED_RETRAINED in cell:
        pairs += [(variant, DEGRADED_RETRAINED) for variant in (*objectives, *retrained)]
    return pairs + [(variant, CLEAN) for variant in harms if CLEAN in cell]


def _recovered(cell: Cell, variant: str, metric: str) -> float:
    if CLEAN not in cell:
        return float("nan")
    value, degraded, clean = (float(cell[name].value[metric][0]) for name in (variant, DEGRADED, CLEAN))
    share = recovered(value, degraded, clean)
    return share if np.isfinite(share) else float("nan")
