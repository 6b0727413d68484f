"""clean_harm.csv: what each arm costs on clean images, beside what it gains on degraded ones."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from data.dataset import Dataset
from pipeline.reporting.document import Paragraph, Section
from pipeline.reporting.score_rows import Rows, never_right
from pipeline.reporting.table_views import Texts, complete_table
from pipeline.reporting.tables import RunFolders, write_table
from pipeline.running.artifacts import ON_CLEAN_FOLDER, variant_folder
from pipeline.settings.grammar import CLEAN, DEGRADED, is_retrained, objective_of
from pipeline.settings.params import Params
from pipeline.statistics.comparison import compare_systems
from pipeline.statistics.scores import Cell, missing_truth, read_cells

ON_DEGRADED = "gain_on_degraded"
COLUMNS = [
    *("task", "degradation", "variant", "metric", CLEAN, "score", "gain", "ci_low", "ci_high"),
    *(ON_DEGRADED, f"{ON_DEGRADED}_low", f"{ON_DEGRADED}_high"),
    *("n_images", "n_groups", "n_trainings", "reason"),
]
NOTE = (
    "score: the arm's network, behind its restorer if it has one, on the clean images. clean: the network that was "
    "trained on clean images, without a restorer. A negative gain is the cost on clean images; the gain on degraded "
    "images stands beside it. clean-restored-...: the gain on degraded images is that of the objective. "
)
SEEDS = "Intervals cover other test images, and other seeds of the retrained networks."
ONE_SEED = "Each network was trained once: intervals cover other test images, not other seeds."


def write_clean_harm(params: Params, clean: Dataset, folders: RunFolders, gains: pd.DataFrame, out: Path) -> None:
    """Write clean_harm.csv.

    Args:
        params: tasks, degradations, arms and the settings of the statistics.
        clean: the clean dataset.
        folders: where the records lie.
        gains: gains.csv.
        out: folder of the report.
    """
    rows: Rows = []
    for task in params.tasks:
        for degradation in params.degradations:
            records = _records(params, folders.evaluations, task, degradation)
            if len(records) > 1:
                cell = read_cells(params, records, groups=clean.evaluation_groups, splits_of=CLEAN).whole
                missing = missing_truth(records[CLEAN])
                rows += harm_rows(params, task, degradation, cell, gains, missing)
    write_table(rows, COLUMNS, out / "clean_harm.csv")


def _records(params: Params, evaluations: Path, task: str, degradation: str) -> dict[str, Path]:
    """The folder with the records of clean images of the clean-trained network and of every arm."""
    folders = {CLEAN: variant_folder(evaluations, task, degradation, CLEAN, params.arms)}
    for arm in params.arms:
        folder = variant_folder(evaluations, task, degradation, arm, params.arms)
        folders[arm] = folder / ON_CLEAN_FOLDER if is_retrained(arm) else folder
    return folders


def harm_rows(
    params: Params, task: str, degradation: str, on_clean: Cell, gains: pd.DataFrame, missing: str = ""
) -> Rows:
    """Rows of clean_harm.csv for one task and degradation.

    Args:
        params: the objectives and the level of confidence.
        task: its name.
        degradation: its name.
        on_clean: scores of clean images, of `clean` and of every arm.
        gains: gains.csv.
        missing: what the labels lack, so that no gain has an interval; "" if they lack nothing.
    """
    rows: Rows = []
    for arm, system in on_clean.items():
        if arm == CLEAN:
            continue
        measured = arm if is_retrained(arm) else objective_of(arm, params.objectives)
        on_degraded = gains[(gains.task == task) & (gains.degradation == degradation) & (gains.versus == DEGRADED)]
        of_metric = on_degraded[on_degraded.variant == measured].set_index("metric")
        for metric, compared in compare_systems(system, on_clean[CLEAN], params.statistics.level).items():
            harm, objection = compared, missing or never_right(on_clean, metric)
            if objection:
                harm = replace(compared, low=math.nan, high=math.nan, reason=objection)
            row: dict[str, Any] = {"task": task, "degradation": degradation, "variant": arm, "metric": metric}
            row |= {CLEAN: on_clean[CLEAN].values[metric].mean(), "score": system.values[metric].mean()}
            row |= {"gain": harm.gain, "ci_low": harm.low, "ci_high": harm.high}
            row |= {"n_images": harm.n_images, "n_groups": harm.n_groups}
            row |= {"n_trainings": harm.n_trainings, "reason": harm.reason}
            if metric in of_metric.index:
                gain, low, high = of_metric.loc[metric, ["gain", "ci_low", "ci_high"]]
                row |= {ON_DEGRADED: gain, f"{ON_DEGRADED}_low": low, f"{ON_DEGRADED}_high": high}
            rows.append(row)
    return rows


def clean_harm_section(texts: Texts, repeats: int) -> Section | None:
    """What the arms, each trained `repeats` times, cost on clean images; None if there are no arms."""
    if not len(texts.get("clean_harm", ())):
        return None
    table = complete_table("clean_harm", "Arms on clean images", texts["clean_harm"])
    return Section("Cost on clean images", [Paragraph(NOTE + (SEEDS if repeats > 1 else ONE_SEED), note=True), table])
