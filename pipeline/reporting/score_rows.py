"""Rows of results.csv, gains.csv, trainings.csv, classes.csv, robustness.csv and planning.csv."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from pipeline.metrics import QUALITY, main_metric
from pipeline.reporting.compared_pairs import compared_pairs
from pipeline.settings.grammar import (
    CLEAN,
    DEGRADED,
    PIXEL,
    parse_arm,
)
from pipeline.settings.params import Statistics
from pipeline.statistics.comparison import (
    ONE_TRAINING,
    Comparison,
    compare_systems,
    estimate,
    score_intervals,
    too_few_objects,
)
from pipeline.statistics.planning import plan
from pipeline.statistics.recovered import Recovered, recovered_shares
from pipeline.statistics.scores import OF_CLASS, Cell, Cells
from pipeline.statistics.systems import System

_ROW = ["task", "degradation", "variant"]
_COUNTS = ["n_groups", "n_trainings"]
RESULTS = [*_ROW, "metric", "value", "ci_low", "ci_high", "n_images", *_COUNTS, "reason"]
GAINS = [
    *(*_ROW, "versus", "metric", "gain", "ci_low", "ci_high", "p_value"),
    *("recovered", "recovered_low", "recovered_high", *_COUNTS, "reason"),
]
TRAININGS = [*_ROW, "training", "metric", "value"]
VALUES = ["metric", "value", "ci_low", "ci_high", "gain", "gain_low", "gain_high", "n_objects", "n_groups"]
CLASSES = [*_ROW, "class", *VALUES]
ROBUSTNESS = [
    *("task", "variant", "metric"),
    *("mPC", "mPC_low", "mPC_high", "rPC", "rPC_low", "rPC_high"),
    *("n_degradations", "n_severities", "n_images", *_COUNTS),
]
PLANNING = [
    *(*_ROW, "versus", "metric", "margin", "se_groups", "se_trainings", *_COUNTS),
    *("groups_needed", "trainings_needed"),
]
ADVICE = "train it for longer (train_task), or check the labels"
RETRAINED_ONCE = "one training of each task network: set retraining.repeats to train_restorer.repeats, 5 or more"

Rows = list[dict[str, Any]]


def result_rows(task: str, degradation: str, cell: Cell, level: float, missing: str = "") -> Rows:
    """Rows of results.csv for one cell: every variant's metrics with their intervals.

    What the labels lack (`missing`) comes first among the reasons for no interval.
    """
    return [
        {
            "task": task,
            "degradation": degradation,
            "variant": variant,
            "metric": metric,
            "value": score.gain,
            "ci_low": score.low,
            "ci_high": score.high,
            "n_images": score.n_images,
            "n_groups": score.n_groups,
            "n_trainings": score.n_trainings,
            "reason": score.reason and (missing or score.reason),
        }
        for variant, system in cell.items()
        for metric, score in score_intervals(system, level).items()
    ]


def gain_rows(
    task: str,
    degradation: str,
    cell: Cell,
    level: float,
    pixel_objectives: Sequence[str] = (PIXEL,),
    baselines: Sequence[str] = (),
    missing: str = "",
) -> Rows:
    """Rows of gains.csv for one cell: the gain of every compared pair in every metric, with interval and p-value.

    Args:
        task: its name, or "quality".
        degradation: its name.
        cell: the scores of every variant.
        level: of confidence.
        pixel_objectives: objectives with the pixel loss alone; the other objectives are compared with each of them.
        baselines: further objectives that the others are compared with.
        missing: what the labels lack, so that no gain has an interval; "" if they lack nothing.
    """
    shares = {variant: _recovered(cell, variant, level) for variant in cell}
    rows: Rows = []
    for variant, baseline in compared_pairs(list(cell), pixel_objectives, baselines):
        for metric, compared in compare_systems(cell[variant], cell[baseline], level).items():
            objection = missing or (task != QUALITY and never_right(cell, metric)) or ""
            gain = _without_interval(compared, objection) if objection else compared
            recovered = None if objection else shares[variant].get(metric)
            rows.append(
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
                    "recovered": recovered.share if recovered else math.nan,
                    "recovered_low": recovered.low if recovered else math.nan,
                    "recovered_high": recovered.high if recovered else math.nan,
                    "n_groups": gain.n_groups,
                    "n_trainings": gain.n_trainings,
                    "reason": _reason((variant, baseline), gain, recovered),
                }
            )
    return rows


def _without_interval(gain: Comparison, reason: str) -> Comparison:
    return replace(gain, low=math.nan, high=math.nan, p_value=math.nan, reason=reason)


def never_right(cell: Cell, metric: str) -> str:
    """Why scores mean nothing: the network scores 0 on the clean images, or if there are none, on all; "" otherwise."""
    judged = [cell[CLEAN]] if CLEAN in cell else list(cell.values())
    if any(system.values[metric].any() for system in judged):  # NaN counts as any other score
        return ""
    return f"the task network scores 0 on the {'clean' if CLEAN in cell else 'degraded and restored'} images: {ADVICE}"


def _recovered(cell: Cell, variant: str, level: float) -> dict[str, Recovered]:
    return recovered_shares(cell[variant], cell[DEGRADED], cell[CLEAN], level) if CLEAN in cell else {}


def _reason(pair: tuple[str, str], gain: Comparison, recovered: Recovered | None) -> str:
    """Why cells of a row of gains.csv are empty: the interval, or that of the recovered share."""
    if gain.reason == ONE_TRAINING and any(parse_arm(name) for name in pair):
        return RETRAINED_ONCE
    return gain.reason or (recovered.reason if recovered else "")


def training_rows(task: str, degradation: str, cell: Cell) -> Rows:
    """Rows of trainings.csv for one cell: every metric of every training of what was trained."""
    return [
        {
            "task": task,
            "degradation": degradation,
            "variant": variant,
            "training": number,
            "metric": metric,
            "value": value,
        }
        for variant, system in cell.items()
        if system.trained
        for metric, values in system.values.items()
        for number, value in enumerate(values.tolist(), start=1)
    ]


def class_rows(task: str, degradation: str, classes: Cell, level: float, objects: Mapping[str, int]) -> Rows:
    """Rows of classes.csv for one cell: every class's metrics, with their gains over the degraded images.

    Args:
        task: its name.
        degradation: its name.
        classes: `Cells.classes`.
        level: of confidence.
        objects: the number of each class, empty if it cannot be counted.
    """
    of_metric = {metric: objects.get(metric.partition(OF_CLASS)[2]) for metric in classes[DEGRADED].values}
    rows = value_rows(task, degradation, classes, level, of_metric)
    for row in rows:
        row["metric"], _, row["class"] = row["metric"].partition(OF_CLASS)
    return rows


def value_rows(task: str, degradation: str, cell: Cell, level: float, objects: Mapping[str, int | None]) -> Rows:
    """Every metric of every variant with its interval, and its gain over the degraded images.

    Args:
        task: its name.
        degradation: its name.
        cell: the scores of every variant.
        level: of confidence.
        objects: the number of objects behind each metric; of too few, a score has no interval. None: not counted.
    """
    rows: Rows = []
    for variant, system in cell.items():
        gains = {} if variant == DEGRADED else compare_systems(system, cell[DEGRADED], level)
        for metric, estimated in estimate(system, level).items():
            count = objects[metric]
            few = "" if count is None else too_few_objects(metric, count)
            score = _without_interval(estimated, few) if few else estimated
            row: dict[str, Any] = {"task": task, "degradation": degradation, "variant": variant, "metric": metric}
            row |= {"value": score.gain, "ci_low": score.low, "ci_high": score.high, "n_groups": score.n_groups}
            row["n_objects"] = count
            if gain := gains.get(metric):
                row |= {"gain": gain.gain, "gain_low": gain.low, "gain_high": gain.high}
            rows.append(row)
    return rows


def planning_rows(
    task: str,
    degradation: str,
    cell: Cell,
    settings: Statistics,
    pixel_objectives: Sequence[str] = (PIXEL,),
    baselines: Sequence[str] = (),
) -> Rows:
    """Rows of planning.csv for one cell: how many groups or trainings show a gain of the margin in the main metric.

    Args:
        task: its name.
        degradation: its name.
        cell: the scores of every variant.
        settings: level of confidence and margin.
        pixel_objectives: as in `gain_rows`.
        baselines: as in `gain_rows`.
    """
    metric = main_metric(task).name
    rows: Rows = []
    for variant, baseline in compared_pairs(list(cell), pixel_objectives, baselines):
        if variant == CLEAN or parse_arm(variant) or parse_arm(baseline) or never_right(cell, metric):
            continue
        plans = plan(cell[variant], cell[baseline], metric, settings.margin, settings.level)
        if plans:
            row = {"task": task, "degradation": degradation, "variant": variant, "versus": baseline, "metric": metric}
            rows.append(row | {"margin": settings.margin} | asdict(plans))
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
        means = [System.mean([cell[variant] for cell in cells.severities.values()]) for cells in paired]
        mean = System.mean(means)
        relative = estimate(mean.relative_to(clean), level)
        for metric, mpc in score_intervals(mean, level).items():
            rpc = relative[metric]
            row: dict[str, Any] = {"task": task, "variant": variant, "metric": metric}
            row |= {"mPC": mpc.gain, "mPC_low": mpc.low, "mPC_high": mpc.high}
            row |= {"rPC": rpc.gain, "rPC_low": rpc.low, "rPC_high": rpc.high}
            rows.append(row | counts | {"n_groups": mpc.n_groups, "n_trainings": mpc.n_trainings})
    return rows
