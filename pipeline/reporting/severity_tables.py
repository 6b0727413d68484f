"""Scores against severity: the rows of severities.csv and crossovers.csv, and crossovers.csv as a table for people."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from pipeline.reporting.document import Cell, Table
from pipeline.reporting.score_rows import Rows, gain_rows, result_rows
from pipeline.settings.data import Sweep
from pipeline.settings.grammar import CLEAN, DEGRADED, parse_arm
from pipeline.settings.params import Statistics
from pipeline.statistics.crossovers import helpful_range
from pipeline.statistics.scores import Cells

SEVERITY = "severity"
SEVERITIES = [
    *("task", "degradation", "severity", "variant", "metric", "value", "ci_low", "ci_high", "n_images"),
    *("gain", "gain_low", "gain_high", "n_groups", "n_trainings", "setting", "setting_value"),
]
CROSSOVERS = [
    *("task", "degradation", "variant", "metric", "setting", "mildest", "severest"),
    *("starts", "starts_low", "starts_high", "stops", "stops_low", "stops_high"),
    *("n_severities", "n_images", "n_groups", "n_trainings", "reason"),
]


def severity_rows(task: str, degradation: str, cells: Cells, level: float, sweep: Sweep | None = None) -> Rows:
    """Rows of severities.csv: every variant at each severity by itself, with its gain over the degraded images.

    The gain of restored clean images is over the clean ones. The severities of a sweep are the numbers of its values.
    """
    rows = []
    for severity, cell in cells.severities.items():
        gains: dict[tuple[str, str], dict[str, Any]] = {}
        for row in gain_rows(task, degradation, cell, level):
            gains.setdefault((row["variant"], row["metric"]), row)  # the first comparison is the one with the source
        for row in result_rows(task, degradation, cell, level):
            gain = gains.get((row["variant"], row["metric"]), {})
            ends = {"gain_low": gain.get("ci_low"), "gain_high": gain.get("ci_high")}
            setting = {"setting": sweep.setting if sweep else SEVERITY, "setting_value": _position(severity, sweep)}
            rows.append({**row, "severity": severity, "gain": gain.get("gain"), **ends, **setting})
    return rows


def _position(severity: int | None, sweep: Sweep | None) -> float | None:
    """The value of a sweep's setting at a severity; without a sweep the severity itself."""
    return sweep.values[severity - 1] if sweep and severity else severity


def crossover_rows(task: str, degradation: str, cells: Cells, settings: Statistics, sweep: Sweep | None = None) -> Rows:
    """Rows of crossovers.csv: the severities between which every variant is better than the degraded images.

    Args:
        task: its name.
        degradation: its name.
        cells: the scores at each severity.
        settings: level of confidence.
        sweep: the values behind the severities; None: they are severities.
    """
    severities = [severity for severity in cells.severities if severity is not None]
    if len(severities) < 2:
        return []
    scale = [float(_position(severity, sweep) or 0) for severity in severities]
    rows: Rows = []
    for variant, whole in cells.whole.items():
        arm = parse_arm(variant)
        if variant in (CLEAN, DEGRADED) or (arm and not arm.retrained):
            continue
        gains = [
            cells.severities[severity][variant].minus(cells.severities[severity][DEGRADED]) for severity in severities
        ]
        for metric in gains[0].values:
            crossing = asdict(helpful_range(gains, metric, settings.level))
            reason = crossing.pop("reason")
            row: dict[str, Any] = {"task": task, "degradation": degradation, "variant": variant, "metric": metric}
            row |= {"setting": sweep.setting if sweep else SEVERITY, "mildest": scale[0], "severest": scale[-1]}
            row |= {name: _on_scale(position, scale) for name, position in crossing.items()}
            row |= {"n_severities": len(severities), "n_images": len(whole.image_ids)}
            rows.append(row | {"n_groups": gains[0].groups, "n_trainings": gains[0].trainings, "reason": reason})
    return rows


def _on_scale(position: float, scale: Sequence[float]) -> float:
    """A position on the scale of the severities' numbers as a value of their setting; infinite ones stay."""
    return float(np.interp(position, range(len(scale)), scale)) if math.isfinite(position) else position


def crossover_overview(crossovers: pd.DataFrame) -> Table:
    """Where each variant starts and stops to help, in words where that is outside of what was measured.

    Args:
        crossovers: crossovers.csv, every cell as the text that stands there.
    """
    header = ["task", "degradation", "metric", "variant", "setting", "measured", "starts to help", "stops helping"]
    rows = []
    for row in crossovers.to_dict("records"):
        keys = [Cell(row[name]) for name in ("task", "degradation", "metric", "variant", "setting")]
        measured = Cell(f"{row['mildest']} to {row['severest']}")
        rows.append([*keys, measured, _position_cell(row, "starts"), _position_cell(row, "stops")])
    return Table("crossovers", "Where restoring starts and stops to help", header, rows)


OUTSIDE = {"starts": ("already at the mildest", "never"), "stops": ("never helps", "still helps at the most severe")}


def _position_cell(row: dict[str, str], name: str) -> Cell:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    interval = f"{_in_words(low, name)} to {_in_words(high, name)}" if low else ""
    return Cell(_in_words(row[name], name), row[name], interval)


def _in_words(text: str, name: str) -> str:
    """A position of crossovers.csv, rounded; in words if it is infinite."""
    position = float(text)
    if math.isfinite(position):
        return f"{position:.3g}"
    return OUTSIDE[name][position > 0]
