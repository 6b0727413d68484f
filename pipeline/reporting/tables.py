"""The tables that other programs read: results.csv, gains.csv, trainings.csv and those beside them.

Also costs.csv, and what `dvc metrics` and `dvc plots` read: metrics.json and curves.csv.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.dataset import Dataset
from pipeline.datasets.manifests import read_manifest
from pipeline.metrics import QUALITY, load_records
from pipeline.metrics.prediction_files import PredictionReader
from pipeline.reporting import score_rows, severity_tables
from pipeline.reporting.score_rows import Rows
from pipeline.running.artifacts import variant_folder
from pipeline.running.atomic_outputs import read_json, read_table
from pipeline.running.progress import with_progress
from pipeline.settings.grammar import CLEAN, DEGRADED, is_retrained, mixture_name
from pipeline.settings.params import Params
from pipeline.statistics.scores import Cells, ScoresWithClasses, class_objects, missing_truth, read_cells
from pipeline.statistics.systems import System
from pipeline.statistics.verdicts import verdict_table

COLUMNS = {
    "results": score_rows.RESULTS,
    "gains": score_rows.GAINS,
    "trainings": score_rows.TRAININGS,
    "classes": score_rows.CLASSES,
    "severities": severity_tables.SEVERITIES,
    "crossovers": severity_tables.CROSSOVERS,
    "robustness": score_rows.ROBUSTNESS,
    "planning": score_rows.PLANNING,
}
COSTS = [
    *("stage", "degradation", "variant"),
    *("parameters", "seconds_per_step", "training_seconds"),
    *("milliseconds_per_image", "gflops", "peak_memory_mib", "megapixels"),
]
CURVES = ["degradation", "variant", "step", "loss"]
GRADIENT_RATIOS = ["degradation", "variant", "step", "component", "ratio"]
RATIO = "_ratio"  # the end of such a column's name in curve.csv

Groups = Mapping[str, Mapping[str, str]]  # by degradation: the group of an image id


@dataclass(frozen=True)
class RunFolders:
    """Where the stages before the report wrote, and what reads their predictions."""

    degraded: Path
    restored: Path
    restorers: Path
    quality: Path
    evaluations: Path
    costs: Path
    predictions: PredictionReader = field(default_factory=PredictionReader, init=False)

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
            ceiling = [CLEAN] if Dataset.open(self.degraded / degradation).has_clean_images else []
            variants = [*ceiling, DEGRADED, *params.objectives, *params.arms]
            folders = {v: variant_folder(self.evaluations, task, degradation, v, params.arms) for v in variants}
        return {variant: folder for variant, folder in folders.items() if folder.is_dir()}


def write_tables(params: Params, folders: RunFolders, groups: Groups, out: Path) -> dict[str, pd.DataFrame]:
    """Write results.csv, gains.csv, verdicts.csv and the other tables of `COLUMNS`; returns them by name.

    Args:
        params: the three lists, seed and settings of the statistics.
        folders: where the records lie.
        groups: by degradation, from `read_groups`.
        out: folder of the report.
    """
    rows: dict[str, Rows] = {name: [] for name in COLUMNS}
    settings, pixel = params.statistics, params.pixel_objectives
    severities = {name: _read_severities(folders.degraded / name) for name in params.degradations}
    tasks = [*params.tasks, QUALITY]
    cells_of: dict[str, list[Cells]] = {task: [] for task in tasks}
    clean: dict[str, dict[Any, System]] = {task: {} for task in tasks}
    pairs = list(product(tasks, params.degradations))
    for task, degradation in with_progress(pairs, "report: scores", "table"):
        records = folders.records(params, task, degradation)
        if not records:  # real photos without clean counterparts have no quality
            continue
        load = load_records if task == QUALITY else ScoresWithClasses.load
        of_images = severities[degradation], load, groups[degradation]
        cells = read_cells(params, records, *of_images, clean=clean[task])
        cells_of[task].append(cells)
        cell = task, degradation, cells.whole
        missing = missing_truth(records[DEGRADED])
        rows["results"] += score_rows.result_rows(*cell, settings.level, missing)
        rows["gains"] += score_rows.gain_rows(*cell, settings.level, pixel, settings.baselines, missing)
        rows["trainings"] += score_rows.training_rows(*cell)
        sweep = params.degrade.sweeps.get(degradation)
        rows["severities"] += severity_tables.severity_rows(task, degradation, cells, settings.level, sweep)
        if task != QUALITY:
            of_severity = task, degradation, cells, settings, sweep
            rows["crossovers"] += severity_tables.crossover_rows(*of_severity)
            rows["planning"] += score_rows.planning_rows(*cell, settings, pixel, settings.baselines)
            objects = class_objects(records[DEGRADED])
            rows["classes"] += score_rows.class_rows(task, degradation, cells.classes, settings.level, objects)
    for task, cells_of_task in cells_of.items():
        rows["robustness"] += score_rows.robustness_rows(task, cells_of_task, settings.level)
    tables = {name: write_table(rows[name], columns, out / f"{name}.csv") for name, columns in COLUMNS.items()}
    tables["verdicts"] = verdict_table(tables["results"], tables["gains"], params.statistics)
    _write_csv(tables["verdicts"], out / "verdicts.csv")
    return tables


def read_groups(params: Params, clean: Dataset, degraded: Path) -> Groups:
    """For each degradation the groups of its evaluation images, by image id.

    They are those of the clean images. Real photos without clean counterparts have groups of their own dataset.
    """
    groups = {}
    for name in params.degradations:
        dataset = Dataset.open(degraded / name)
        groups[name] = (clean if dataset.has_clean_images else dataset).evaluation_groups
    return groups


def write_table(rows: Iterable[Mapping[str, Any]], columns: list[str], path: Path) -> pd.DataFrame:
    """Write rows as CSV, numbers with six significant digits, undefined ones empty; returns the table."""
    table = pd.DataFrame(rows, columns=columns)
    _write_csv(table, path)
    return table


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")


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
    for objective in params.objectives:
        if mixture := mixture_name(objective):
            row = {"stage": "train_mixture", "degradation": mixture, "variant": objective}
            rows.append(row | read_json(costs / "mixtures" / f"{objective}.json"))
    for degradation in params.degradations:
        for objective in params.objectives:
            row = {"stage": "train_restorer", "degradation": degradation, "variant": objective}
            row |= read_json(costs / "training" / degradation / f"{objective}.json")
            rows.append(row | read_json(costs / "restoring" / degradation / f"{objective}.json"))
    for task, degradation, arm in product(params.tasks, params.degradations, filter(is_retrained, params.arms)):
        row = {"stage": f"arm {task}", "degradation": degradation, "variant": arm}
        rows.append(row | read_json(costs / "arms" / task / degradation / f"{arm}.json"))
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
    """Write curves.csv and gradient_ratios.csv, of the first training of every restorer that was trained here.

    curves.csv has the loss at every step. gradient_ratios.csv has the realised ratio of each component's gradient to
    the pixel loss's, at the steps that measured it.
    """
    parts, ratios = [pd.DataFrame(columns=CURVES)], [pd.DataFrame(columns=GRADIENT_RATIOS)]
    objectives = list(objectives)
    for degradation in degradations:
        for objective in objectives:
            path = restorers / degradation / objective / "curve.csv"
            if path.exists():
                curve = read_table(path, dtype=str, na_values=[])
                if curve.empty:  # of a checkpoint that is used as it is
                    continue
                curve = curve.assign(degradation=degradation, variant=objective)
                parts.append(curve[CURVES])
                components = [name for name in curve.columns if name.endswith(RATIO)]
                long = curve.melt([*CURVES[:3]], components, var_name="component", value_name="ratio")
                long["component"] = long.component.str.removesuffix(RATIO)
                ratios.append(long[long.ratio != ""][GRADIENT_RATIOS])
    for name, tables in (("curves", parts), ("gradient_ratios", ratios)):
        pd.concat(tables).to_csv(out / f"{name}.csv", index=False, lineterminator="\n")
