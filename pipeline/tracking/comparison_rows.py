"""The rows of the comparison, and the curves of the prior and task networks, read from a finished pipeline's files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from data.dataset import Dataset
from pipeline.reporting import pictures
from pipeline.running.artifacts import trained_file
from pipeline.running.atomic_outputs import read_json, read_table
from pipeline.running.digests import data_digest
from pipeline.settings.grammar import (
    CHECKPOINT,
    CLEAN,
    CLEAN_RETRAINED,
    DEGRADED,
    FROZEN,
    is_clean_restored,
    is_retrained,
    mixture_name,
    objective_of,
    variant_kind,
)
from pipeline.settings.params import Params
from pipeline.tracking.configurations import mixture_settings, row_configuration, training_configuration
from pipeline.tracking.logged_model import RestorerFile
from pipeline.tracking.runs import DataUsed, Row, Training
from pipeline.tracking.view import ENDS, gain_metric, recovered_metric, score_metric

Curve = dict[int, dict[str, float]]
CURVE_FILE = "curve.csv"
KEYS = {"stage", "degradation", "variant"}  # the columns of costs.csv that hold no costs


@dataclass(frozen=True)
class Folders:
    """The folders that `publish` reads, and a scratch folder for plots."""

    degraded: Path
    report: Path
    objectives: Path
    restorers: Path
    prior: Path
    tasks: Path
    scratch: Path


class ComparisonTables:
    """The tables of a finished pipeline, from which rows are read."""

    def __init__(self, params: Params, clean: Dataset, folders: Folders) -> None:
        self.params = params
        self.clean = clean
        self.folders = folders
        self.results, self.gains, self.costs = (
            read_table(folders.report / f"{name}.csv") for name in ("results", "gains", "costs")
        )

    def rows(self, tags: Mapping[str, str]) -> Iterator[Row]:
        """Every variant of results.csv for each degradation; `clean` once. All rows get `tags`."""
        for degradation, variant in self._variants():
            objective = objective_of(variant, self.params.objectives)
            prior = objective is not None and self._needs_prior(objective)
            curve = read_curve(self._restorer_folder(degradation, variant))
            yield Row(
                configuration=row_configuration(self.params, degradation, variant, prior),
                name=f"{degradation} · {variant}" if degradation else variant,
                tags={**tags, **self._labels(degradation, variant)},
                params=self._params(degradation, variant),
                metrics=self._metrics(degradation, variant),
                artifacts=tuple(self._artifacts(degradation, variant, curve)),
                curve=curve,
                data=tuple(self._data(degradation, variant)),
                restorer=self._restorer(degradation, variant),
            )

    def _needs_prior(self, objective: str) -> bool:
        """Whether an objective has a loss that needs the prior. Asking the loss itself would import torch."""
        return read_json(self.folders.objectives / f"{objective}.json", "prior")["prior"] is not None

    def _variants(self) -> list[tuple[str | None, str]]:
        """Clean; then for each degradation: degraded, the objectives as in params.yaml, all other variants."""
        pairs = list(self.results[["degradation", "variant"]].drop_duplicates().itertuples(index=False, name=None))
        first = [DEGRADED, *self.params.objectives]
        rows: list[tuple[str | None, str]] = [(None, CLEAN)] if CLEAN in set(self.results.variant) else []
        for degradation in self.params.degradations:
            variants = [variant for name, variant in pairs if name == degradation and variant != CLEAN]
            ordered = [variant for variant in first if variant in variants]
            ordered += [variant for variant in variants if variant not in first]
            rows += [(degradation, variant) for variant in ordered]
        return rows

    def _labels(self, degradation: str | None, variant: str) -> dict[str, str]:
        """Tags to filter by."""
        return {
            "dataset": self.clean.info.name,
            "degradation": degradation or "none",
            "variant": variant,
            "objective": objective_of(variant, self.params.objectives) or "none",
            "kind": variant_kind(variant, self.params.objectives),
            **{f"task.{task}": "yes" for task in self.params.tasks},
        }

    def _params(self, degradation: str | None, variant: str) -> dict[str, Any]:
        params, split = self.params, self.clean.evaluation_split
        sections: dict[str, Any] = {
            "dataset": self.clean.info.name,
            "split": split,
            "seed": params.seed,
            "degradation": degradation or "none",
            "variant": variant,
        }
        if degradation:
            sections["degrade"] = params.degrade.only(degradation)
        objective = objective_of(variant, params.objectives)
        if objective:
            settings = params.train_restorer.of(objective)
            sections["train_restorer"] = {**settings.training, **settings.network}
            sections["restore"] = params.restore.model_dump()
            sections["losses"] = params.losses_of(objective)
        of_task = params.retraining_settings if is_retrained(variant) else params.task_settings
        sections |= {task: of_task(task) for task in params.tasks}
        chosen = self._results(degradation, variant)
        return {**dict(_flat(sections)), "n_images": int(chosen.n_images.max())}

    def _metrics(self, degradation: str | None, variant: str) -> dict[str, float]:
        chosen = self._results(degradation, variant).drop_duplicates(["task", "metric"])
        scores = {score_metric(row.task, row.metric): row.value for row in chosen.itertuples()}
        metrics = {**scores, **self._gains(degradation, variant), **self._costs(degradation, variant)}
        return {name: float(value) for name, value in metrics.items() if pd.notna(value)}

    def _results(self, degradation: str | None, variant: str) -> pd.DataFrame:
        chosen = self.results[self.results.variant == variant]
        return chosen[chosen.degradation == degradation] if degradation else chosen

    def _gains(self, degradation: str | None, variant: str) -> dict[str, float]:
        """The gains over every baseline with their intervals. The gain of a baseline over itself is 0."""
        metrics: dict[str, float] = {}
        gains = self.gains[self.gains.degradation == degradation]
        for (task, metric), baselines in gains[gains.versus == variant].groupby(["task", "metric"], sort=False):
            metrics |= _gain(variant, task, metric, 0.0, 0.0, 0.0)
            if variant == DEGRADED and baselines.recovered.notna().any():
                metrics |= _recovered(task, metric, 0.0, 0.0, 0.0)
        for row in gains[gains.variant == variant].itertuples():
            metrics |= _gain(row.versus, row.task, row.metric, row.gain, row.ci_low, row.ci_high)
            if row.versus == DEGRADED:
                shares = row.recovered, row.recovered_low, row.recovered_high
                metrics |= _recovered(row.task, row.metric, *shares)
        return metrics

    def _costs(self, degradation: str | None, variant: str) -> dict[str, float]:
        """The costs of the variant's restorer; 0 if it has none."""
        columns = [name for name in self.costs.columns if name not in KEYS]
        objective = objective_of(variant, self.params.objectives)
        if objective is None:
            return {f"cost/{name}": 0.0 for name in columns}
        rows = self.costs[(self.costs.degradation == degradation) & (self.costs.variant == objective)]
        return {f"cost/{name}": row[name] for _, row in rows.head(1).iterrows() for name in columns}

    def _data(self, degradation: str | None, variant: str) -> Iterator[DataUsed]:
        if degradation is None or is_clean_restored(variant):
            yield from _data_used(self.clean, [self.clean.evaluation_split], "evaluation")
        if degradation is None:
            return
        degraded = Dataset.open(self.folders.degraded / degradation)
        if not is_clean_restored(variant):
            yield from _data_used(degraded, degraded.evaluation_splits, "evaluation", degradation)
        if variant == CLEAN_RETRAINED:
            yield from _data_used(self.clean, ["train"], "training")
        elif variant != DEGRADED and "train" in degraded.info.splits:
            yield from _data_used(degraded, ["train"], "training", degradation)

    def _restorer(self, degradation: str | None, variant: str) -> RestorerFile | None:
        weights = trained_file(self._restorer_folder(degradation, variant))
        if variant not in self.params.objectives or not weights.exists():
            return None
        restore, trained = self.params.restore, self.params.train_restorer.restorer
        return RestorerFile(weights, CHECKPOINT if variant == FROZEN else trained, restore.tile, restore.overlap)

    def _restorer_folder(self, degradation: str | None, variant: str) -> Path:
        return self.folders.restorers / str(degradation) / variant

    def _artifacts(self, degradation: str | None, variant: str, curve: Curve) -> Iterator[Path]:
        yield self.folders.report / "report.md"
        for task in self.params.tasks:
            names = [f"{degradation}-{task}", *(f"{end}-{degradation}-{task}-{variant}" for end in ("best", "worst"))]
            files = (self.folders.report / "pictures" / f"{name}.jpg" for name in names)
            yield from (path for path in files if path.exists())
        if curve:
            plot = self.folders.scratch / f"curve-{degradation}-{variant}.png"
            loss = {step: values["loss"] for step, values in curve.items()}
            pictures.plot_curves({variant: loss}, f"{degradation}, {variant}", plot)
            yield plot


def trainings(params: Params, folders: Folders) -> Iterator[Training]:
    """The curves of the prior, the task networks and the mixtures' restorers that this pipeline has trained."""
    stages = [("prior", "train_prior", folders.prior, params.train_prior.model_dump(mode="json"))]
    stages += [(task, "train_task", folders.tasks / task, params.task_settings(task)) for task in params.tasks]
    for name in params.objectives:
        if mixture_name(name):
            copy = folders.restorers / params.degradations[0] / name  # the same for every degradation
            description = read_json(folders.objectives / f"{name}.json", "objective")
            stages.append((name, "train_mixture", copy, mixture_settings(params, description)))
    for name, stage, folder, settings in stages:
        if curve := read_curve(folder):
            yield Training(training_configuration(params, stage, name, settings), name, {"stage": stage}, curve)


def read_curve(folder: Path) -> Curve:
    """The curve of a training: step -> values by name; empty if the folder has none."""
    path = folder / CURVE_FILE
    if not path.exists():
        return {}
    table = read_table(path, index_col="step")
    return {
        int(step): {str(name): float(value) for name, value in row.items() if not pd.isna(value)}
        for step, row in table.iterrows()
    }


def _data_used(dataset: Dataset, splits: Sequence[str], use: str, degradation: str | None = None) -> Iterator[DataUsed]:
    """Splits of a dataset, named `<dataset>-<degradation>-<split>`."""
    for split in splits:
        folder = dataset.folder / split
        name = "-".join(part for part in (dataset.info.name, degradation, split) if part)
        yield DataUsed(name, data_digest(folder), folder.as_posix(), dataset.info.splits[split], use)


def _gain(versus: str, task: str, metric: str, *values: float) -> dict[str, float]:
    """A gain and the ends of its interval."""
    return {gain_metric(versus, task, metric, end): value for end, value in zip(("", *ENDS), values, strict=True)}


def _recovered(task: str, metric: str, *values: float) -> dict[str, float]:
    """A recovered share and the ends of its interval."""
    return {recovered_metric(task, metric, end): value for end, value in zip(("", *ENDS), values, strict=True)}


def _flat(sections: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in sections.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
