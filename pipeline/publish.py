"""Stage publish: the tables and pictures of a finished run as MLflow runs, one for each row that people compare.

It reads files only, so that MLflow is complete also when DVC took every other stage from its cache, and it
finds its runs again by their configuration, so that publishing twice changes nothing.
"""

import csv
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from data.manifest import Dataset
from models.losses import needs_prior
from pipeline import pictures, runtime
from pipeline.identity import CLEAN, DEGRADED, row_identity
from pipeline.params import Params, load_params
from pipeline.tracking import Row, chart_link, publish, tracking_uri

Curve = dict[int, dict[str, float]]

COST_METRICS = ["seconds_per_step", "training_seconds", "parameters", "milliseconds_per_image"]


def rows(params: Params, clean: Dataset, report: Path, restorers: Path, scratch: Path) -> Iterator[Row]:
    """The rows of one run: clean, degraded for each degradation, and every objective for each degradation."""
    results, gains, costs = (pd.read_csv(report / f"{name}.csv") for name in ("results", "gains", "costs"))
    split = clean.evaluation_split
    common = {"dataset": clean.info.name, "split": split, "n_images": clean.info.splits[split], "seed": params.seed}
    for degradation, variant in _variants(params):
        chosen = results[results.variant == variant]
        if degradation:
            chosen = chosen[chosen.degradation == degradation]
        curve = _read_curve(restorers / str(degradation) / variant / "curve.csv")
        yield Row(
            identity=row_identity(params, degradation, variant, variant in params.objectives and needs_prior(variant)),
            name=f"{degradation} · {variant}" if degradation else variant,
            tags=_tags(clean, degradation, variant),
            params={**common, **_row_labels(degradation, variant), **_knobs(params, degradation, variant)},
            metrics={**_scores(chosen), **_gains(gains, degradation, variant), **_costs(costs, degradation, variant)},
            artifacts=tuple(_artifacts(report, restorers, degradation, variant, curve, scratch)),
            curve=curve,
        )


def _variants(params: Params) -> list[tuple[str | None, str]]:
    per_degradation: list[tuple[str | None, str]] = [
        (degradation, variant) for degradation in params.degradations for variant in [DEGRADED, *params.objectives]
    ]
    return [(None, CLEAN), *per_degradation]


def _scores(results: pd.DataFrame) -> dict[str, float]:
    unique = results.drop_duplicates(["task", "metric"])
    return {f"{row.task}/{row.metric}": row.value for row in unique.itertuples() if pd.notna(row.value)}


def _gains(gains: pd.DataFrame, degradation: str | None, variant: str) -> dict[str, float]:
    mine = gains[(gains.degradation == degradation) & (gains.variant == variant)]
    metrics: dict[str, float] = {}
    for row in mine.itertuples():
        name = f"gain_over_{row.versus}/{row.task} {row.metric}"
        metrics |= {name: row.gain, f"{name} low": row.ci_low, f"{name} high": row.ci_high}
        if row.versus == DEGRADED:
            metrics[f"recovered/{row.task} {row.metric}"] = row.recovered
    return {name: value for name, value in metrics.items() if pd.notna(value)}


def _costs(costs: pd.DataFrame, degradation: str | None, variant: str) -> dict[str, float]:
    mine = costs[(costs.degradation == degradation) & (costs.variant == variant)]
    return {f"cost/{name}": float(row[name]) for _, row in mine.iterrows() for name in COST_METRICS}


def _knobs(params: Params, degradation: str | None, variant: str) -> dict[str, Any]:
    sections: dict[str, Any] = {}
    if degradation:
        sections["degrade"] = params.degrade.only(degradation)
    if variant in params.objectives:
        sections["train_restorer"] = {**params.train_restorer.training, **params.train_restorer.network}
        sections["restore"] = params.restore.model_dump()
        sections["losses"] = params.losses_of(variant)
    sections |= {task: params.task_settings(task) for task in params.tasks}
    return dict(_flat(sections))


def _flat(sections: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in sections.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _tags(clean: Dataset, degradation: str | None, variant: str) -> dict[str, str]:
    return {
        "dataset": clean.info.name,
        **_row_labels(degradation, variant),
        "dvc.stage": os.environ.get("DVC_STAGE", ""),
        "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
        "git.commit": _git_commit(),
    }


def _row_labels(degradation: str | None, variant: str) -> dict[str, str]:
    return {"degradation": degradation or "none", "variant": variant}


def _git_commit() -> str:
    """The commit, with a mark where files differ from it; empty outside a repository."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip()


def _read_curve(path: Path) -> Curve:
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {int(row.pop("step")): {k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)}


def _artifacts(
    report: Path, restorers: Path, degradation: str | None, variant: str, curve: Curve, scratch: Path
) -> Iterator[Path]:
    yield report / "report.md"
    yield from sorted((report / "pictures").glob(f"{degradation}-*.png"))
    if curve:
        yield restorers / str(degradation) / variant / "restorer.safetensors"
        plot = scratch / f"curve-{degradation}-{variant}.png"
        pictures.plot_curves({variant: {s: v["loss"] for s, v in curve.items()}}, f"{degradation}, {variant}", plot)
        yield plot


def main() -> None:
    """Command line."""
    options = runtime.arguments("clean", "report", "restorers", "out")
    params = load_params()
    clean = Dataset.open(Path(options.clean))
    with runtime.replacing(Path(options.out)) as marker:
        scratch = marker.parent
        found = list(rows(params, clean, Path(options.report), Path(options.restorers), scratch))
        store, published = publish(clean.info.name, found)
        marker.write_text(json.dumps({"experiment": clean.info.name, "runs": published}, indent=1) + "\n")
    print(f"{len(published)} rows are in MLflow ({tracking_uri()}).")
    print(f"To compare them: uv run mlflow ui, then open {chart_link(store.experiment_id)}")


if __name__ == "__main__":
    runtime.run_stage(main)
