"""The tables that other programs read: results.csv, gains.csv, severities.csv, robustness.csv and verdicts.csv.

Also costs.csv, and what `dvc metrics` and `dvc plots` read: metrics.json and curves.csv.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.datasets.manifests import read_manifest
from pipeline.metrics import QUALITY
from pipeline.running.artifacts import variant_folder
from pipeline.running.atomic_outputs import read_json, read_table
from pipeline.settings.grammar import CLEAN, DEGRADED, RETRAINED, parse_arm
from pipeline.settings.params import Params
from pipeline.statistics.resampling import interval, paired_gain, recovered
from pipeline.statistics.scores import Cell, Cells, Resampled, read_cells
from pipeline.statistics.verdicts import verdict_table

PIXEL = "pixel"
DEGRADED_RETRAINED = f"{DEGRADED}{RETRAINED}"  # the strongest baseline in the literature
RESULTS = ["task", "degradation", "variant", "metric", "value", "ci_low", "ci_high", "n_images"]
GAINS = ["task", "degradation", "variant", "versus", "metric", "gain", "ci_low", "ci_high", "p_value", "recovered"]
SEVERITIES = ["task", "degradation", "severity", *RESULTS[2:], "gain", "gain_low", "gain_high"]
ROBUSTNESS = [
    *("task", "variant", "metric"),
    *("mPC", "mPC_low", "mPC_high", "rPC", "rPC_low", "rPC_high"),
    *("n_degradations", "n_severities", "n_images"),
]
COLUMNS = {"results": RESULTS, "gains": GAINS, "severities": SEVERITIES, "robustness": ROBUSTNESS}
COSTS = [
    *("stage", "degradation", "variant"),
    *("parameters", "seconds_per_step", "training_seconds"),
    *("milliseconds_per_image", "gflops", "peak_memory_mib", "megapixels"),
]
CURVES = ["degradation", "variant", "step", "loss"]

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class RunFolders:
    """Where the stages before the report wrote."""

    degraded: Path
    restored: Path
    restorers: Path
    quality: Path
    evaluations: Path
    costs: Path

    def records(self, params: Params, task: str, degradation: str) -> dict[str, Path]:
        """The folder with each variant's records, in the order of the tables; variants without records are left out.

        Args:
            params: the objectives and arms.
            task: its name, or "quality".
            degradation: its name.
        """
        if task == QUALITY:
            variants = [DEGRADED, *params.objectives]
            folders = {variant: self.quality / degradation / variant for variant in variants}
        else:
            variants = [CLEAN, DEGRADED, *params.objectives, *params.arms]
            folders = {v: variant_folder(self.evaluations, task, degradation, v, params.arms) for v in variants}
        return {variant: folder for variant, folder in folders.items() if folder.is_dir()}


def write_tables(params: Params, folders: RunFolders, out: Path) -> dict[str, pd.DataFrame]:
    """Write results.csv, gains.csv, severities.csv, robustness.csv and verdicts.csv; returns them by name."""
    rows: dict[str, Rows] = {name: [] for name in COLUMNS}
    level = params.statistics.level
    severities = {name: _read_severities(folders.degraded / name) for name in params.degradations}
    for task in [*params.tasks, QUALITY]:
        cells_of_task = []
        for degradation in params.degradations:
            records = folders.records(params, task, degradation)
            if not records:  # real photos without clean counterparts have no quality
                continue
            cells = read_cells(params, records, severities[degradation])
            cells_of_task.append(cells)
            rows["results"] += result_rows(task, degradation, cells.whole, level)
            rows["gains"] += gain_rows(
                task, degradation, cells.whole, level, params.pixel_objectives, params.statistics.baselines
            )
            rows["severities"] += severity_rows(task, degradation, cells, level)
        rows["robustness"] += robustness_rows(task, cells_of_task, level)
    tables = {name: write_table(rows[name], columns, out / f"{name}.csv") for name, columns in COLUMNS.items()}
    tables["verdicts"] = verdict_table(tables["results"], tables["gains"], params.statistics)
    _write_csv(tables["verdicts"], out / "verdicts.csv")
    return tables


def write_table(rows: Iterable[Mapping[str, Any]], columns: list[str], path: Path) -> pd.DataFrame:
    """Write rows as CSV, numbers with six significant digits, undefined ones empty; returns the table."""
    table = pd.DataFrame(rows, columns=columns)
    _write_csv(table, path)
    return table


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")


def result_rows(task: str, degradation: str, cell: Cell, level: float) -> Rows:
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
    pixel_objectives: Sequence[str] = (PIXEL,),
    baselines: Sequence[str] = (),
) -> Rows:
    """Rows of gains.csv for one cell: the gain of every compared pair in every metric, with interval and p-value.

    Args:
        task: its name, or "quality".
        degradation: its name.
        cell: the scores of every variant.
        level: of confidence.
        pixel_objectives: objectives with the pixel loss alone; the other objectives are compared with each of them.
        baselines: further objectives that the others are compared with.
    """
    return [
        {
            "task": task,
            "degradation": degradation,
            "variant": variant,
            "versus": baseline,
            "metric": metric,
            "gain": gain.gain,
            "ci_low": gain.low,
            "ci_high": gain.high,
            "p_value": gain.p_value,
            "recovered": _recovered(cell, variant, metric),
        }
        for variant, baseline in _comparisons(list(cell), pixel_objectives, baselines)
        for metric, gain in paired_gain(cell[variant], cell[baseline], cell[baseline].weights, level).items()
    ]


def _comparisons(
    variants: Sequence[str], pixel_objectives: Sequence[str], baselines: Sequence[str]
) -> list[tuple[str, str]]:
    """(variant, baseline) of every comparison, in the order of gains.csv."""
    arms = {name: arm for name in variants if (arm := parse_arm(name))}
    clean_restored = [name for name, arm in arms.items() if not arm.retrained]
    retrained = [name for name, arm in arms.items() if arm.retrained and name != DEGRADED_RETRAINED]
    objectives = [name for name in variants if name not in (CLEAN, DEGRADED, *arms)]

    pairs = [(variant, DEGRADED) for variant in variants if variant not in (DEGRADED, *clean_restored)]
    pairs += _objective_comparisons(objectives, pixel_objectives, baselines)
    if DEGRADED_RETRAINED in variants:
        pairs += [(variant, DEGRADED_RETRAINED) for variant in (*objectives, *retrained)]
    if CLEAN in variants:
        pairs += [(variant, CLEAN) for variant in clean_restored]
    return pairs


def _objective_comparisons(
    objectives: Sequence[str], pixel_objectives: Sequence[str], baselines: Sequence[str]
) -> list[tuple[str, str]]:
    """Each objective against the pixel losses, then against each baseline; a baseline only against earlier ones.

    Several pixel losses are compared with the first of them.
    """
    pixel = [name for name in pixel_objectives if name in objectives]
    compared = [name for name in objectives if name not in pixel]
    pairs = [(variant, baseline) for baseline in pixel for variant in compared]
    pairs += [(variant, pixel[0]) for variant in pixel[1:]]
    for baseline in baselines:
        if baseline in compared:
            compared.remove(baseline)
            pairs += [(variant, baseline) for variant in compared]
    return pairs


def _recovered(cell: Cell, variant: str, metric: str) -> float:
    if CLEAN not in cell:
        return float("nan")
    value, degraded, clean = (float(cell[name].value[metric][0]) for name in (variant, DEGRADED, CLEAN))
    share = recovered(value, degraded, clean)
    return share if np.isfinite(share) else float("nan")


def severity_rows(task: str, degradation: str, cells: Cells, level: float) -> Rows:
    """Rows of severities.csv: every variant at each severity by itself, with its gain over the degraded images.

    The gain of restored clean images is over the clean ones.
    """
    rows = []
    for severity, cell in cells.severities.items():
        gains: dict[tuple[str, str], dict[str, Any]] = {}
        for row in gain_rows(task, degradation, cell, level):
            gains.setdefault((row["variant"], row["metric"]), row)  # the first comparison is the one with the source
        for row in result_rows(task, degradation, cell, level):
            gain = gains.get((row["variant"], row["metric"]), {})
            ends = {"gain_low": gain.get("ci_low"), "gain_high": gain.get("ci_high")}
            rows.append({**row, "severity": severity, "gain": gain.get("gain"), **ends})
    return rows


def robustness_rows(task: str, cells_of_task: Sequence[Cells], level: float) -> Rows:
    """Rows of robustness.csv: mPC and rPC of every variant over all degradations of the same clean images.

    mPC is the mean of a metric over degradations, each of them its mean over severities; rPC = mPC / clean.
    Source: Michaelis et al., "Benchmarking robustness in object detection: autonomous driving when winter is
    coming", 2019, equations 1 and 2.
    """
    paired = [cells for cells in cells_of_task if CLEAN in cells.whole]
    if not paired:
        return []
    clean = paired[0].whole[CLEAN]
    counts = {
        "n_degradations": len(paired),
        "n_severities": sum(len(cells.severities) for cells in paired),
        "n_images": len(clean.image_ids),
    }
    rows: Rows = []
    for variant in paired[0].whole:
        if variant == CLEAN or not all(variant in cells.whole for cells in paired):
            continue
        means = [Resampled.mean([cell[variant] for cell in cells.severities.values()]) for cells in paired]
        mean = Resampled.mean(means)
        relative = interval(mean.relative_to(clean), mean.weights, level)
        for metric, mpc in interval(mean, mean.weights, level).items():
            rpc = relative[metric]
            row: dict[str, Any] = {"task": task, "variant": variant, "metric": metric}
            row |= {"mPC": mpc.value, "mPC_low": mpc.low, "mPC_high": mpc.high}
            row |= {"rPC": rpc.value, "rPC_low": rpc.low, "rPC_high": rpc.high}
            rows.append(row | counts)
    return rows


def _read_severities(degraded: Path) -> dict[str, dict[str, int]]:
    """{split: {image id: severity}}; empty for real photos."""
    manifest = read_manifest(degraded)
    if "severity" not in manifest:
        return {}
    known = manifest.dropna(subset=["severity"])
    return {
        str(split): dict(zip(rows["id"], rows["severity"].astype(int), strict=True))
        for split, rows in known.groupby("split")
    }


def write_costs(params: Params, costs: Path, out: Path) -> None:
    """Write costs.csv: what each training and each restored image cost on this machine."""
    rows: Rows = [{"stage": "train_prior", **read_json(costs / "prior.json")}]
    rows += [{"stage": f"train_task {task}", **read_json(costs / "tasks" / f"{task}.json")} for task in params.tasks]
    for degradation in params.degradations:
        for objective in params.objectives:
            row = {"stage": "train_restorer", "degradation": degradation, "variant": objective}
            row |= read_json(costs / "training" / degradation / f"{objective}.json")
            rows.append(row | read_json(costs / "restoring" / degradation / f"{objective}.json"))
    pd.DataFrame(rows, columns=COSTS).to_csv(out / "costs.csv", index=False, lineterminator="\n")


def write_metrics(results: pd.DataFrame, gains: pd.DataFrame, out: Path) -> None:
    """Write metrics.json: {degradation: {variant: {"task/metric": score, "gain in task/metric": gain}}}.

    Gains are those over the degraded images. Undefined numbers are left out; the others have six significant digits.
    """
    metrics: dict[str, dict[str, dict[str, float]]] = {}
    over_degraded = gains[(gains.versus == DEGRADED) & (gains.variant != CLEAN)]
    for table, column, prefix in ((results, "value", ""), (over_degraded, "gain", "gain in ")):
        for row in table.to_dict("records"):
            if np.isfinite(row[column]):
                numbers = metrics.setdefault(row["degradation"], {}).setdefault(row["variant"], {})
                numbers[f"{prefix}{row['task']}/{row['metric']}"] = float(f"{row[column]:.6g}")
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")


def write_curves(restorers: Path, degradations: Iterable[str], objectives: Iterable[str], out: Path) -> None:
    """Write curves.csv: the loss of every restorer at every step; a restorer that was not trained here has none."""
    parts = [pd.DataFrame(columns=CURVES)]
    objectives = list(objectives)
    for degradation in degradations:
        for objective in objectives:
            path = restorers / degradation / objective / "curve.csv"
            if path.exists():
                curve = read_table(path, dtype=str, keep_default_na=False)
                parts.append(curve.assign(degradation=degradation, variant=objective)[CURVES])
    pd.concat(parts).to_csv(out / "curves.csv", index=False, lineterminator="\n")
