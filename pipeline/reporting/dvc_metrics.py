"""What `dvc metrics` and `dvc plots` show: the report's numbers in the forms that DVC reads. Not a stage."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.settings.grammar import CLEAN
from pipeline.running.atomic_outputs import read_table
from pipeline.settings.grammar import DEGRADED

GAIN = "gain in "
CURVES = ["degradation", "variant", "step", "loss"]

Metrics = dict[str, dict[str, dict[str, float]]]


def metrics(results: pd.DataFrame, gains: pd.DataFrame) -> Metrics:
    """{degradation: {arm: {"task/metric": score, "gain in task/metric": gain over degraded}}}; no undefined ones.

    The numbers are those of results.csv and gains.csv, with their six digits.
    """
    found: Metrics = {}
    over_degraded = gains[(gains.versus == DEGRADED) & (gains.variant != CLEAN)]
    for table, column, prefix in ((results, "value", ""), (over_degraded, "gain", GAIN)):
        for row in table.to_dict("records"):
            if np.isfinite(row[column]):
                own = found.setdefault(row["degradation"], {}).setdefault(row["variant"], {})
                own[f"{prefix}{row['task']}/{row['metric']}"] = float(f"{row[column]:.6g}")
    return found


def write_metrics(results: pd.DataFrame, gains: pd.DataFrame, out: Path) -> None:
    """Write metrics.json."""
    (out / "metrics.json").write_text(json.dumps(metrics(results, gains), indent=1) + "\n")


def write_curves(restorers: Path, degradations: Iterable[str], objectives: Iterable[str], out: Path) -> None:
    """Write curves.csv: the loss of every restorer at every step; those that were not trained here have none."""
    parts = [pd.DataFrame(columns=CURVES)]
    variants = list(objectives)
    for degradation in degradations:
        for variant in variants:
            path = restorers / degradation / variant / "curve.csv"
            if path.exists():
                table = read_table(path, dtype=str, keep_default_na=False)
                parts.append(table.assign(degradation=degradation, variant=variant)[CURVES])
    pd.concat(parts).to_csv(out / "curves.csv", index=False, lineterminator="\n")
