"""Scores of restoring policies: the gate, never, always, and the oracle, on images before and after restoring."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.dataset import Dataset, Split, group_labels
from models.restorers import RESTORERS
from models.restorers.contract import Restorer
from models.tasks import get_task
from models.tasks.contract import Image, Task
from pipeline.commands.completed_runs import CompletedRun
from pipeline.commands.gate_model import ALWAYS, NEVER, Bools, GateError, image_features, output_features
from pipeline.metrics import MeanRecords, Metric, Records, get_scoring, load_records
from pipeline.metrics.evaluation import evaluate
from pipeline.running.artifacts import RECORDS_FILE, training_split, variant_folder
from pipeline.running.digests import checkpoint_folder, fingerprint
from pipeline.running.restoring import open_restorer, restored_image
from pipeline.running.seeds import choose_device
from pipeline.settings.grammar import CLEAN, CLEAN_RESTORED, DEGRADED
from pipeline.statistics.comparison import compare_systems, score_intervals
from pipeline.statistics.resampling import Resamples
from pipeline.statistics.systems import System

GATE, ORACLE = "gate", "oracle"
NO_FEATURES = ["part", "id", "image", "group", "before", "after"]  # the columns of a table of cases beside the features
POLICY_COLUMNS = [
    *("split", "policy", "restored", "metric", "value", "ci_low", "ci_high"),
    *("over_never", "over_never_low", "over_never_high", "over_always", "over_always_low", "over_always_high"),
    *("n_images", "n_groups"),
]


@dataclass(frozen=True)
class Part:
    """One version of a split, such as one severity: its images before and after restoring, and their predictions.

    Attributes:
        name: degraded/<split> or clean/<split>.
        truth: the split with the images before restoring, and with the labels.
        before: folder with predictions and records of the images before restoring.
        after: the same of the restored images.
    """

    name: str
    truth: Split
    before: Path
    after: Path


@dataclass(frozen=True)
class Cases:
    """The images that a gate is fitted or scored on: one case for each part and image of a split.

    Attributes:
        split: name of the split of the clean dataset.
        parts: in the order of the rows.
        table: columns part, id, image (the same for all versions of one image), group (of images that are not
            independent), before and after (the scores of the single image), and the features.
        image_metric: name of the score in `before` and `after`.
    """

    split: str
    parts: Sequence[Part]
    table: pd.DataFrame
    image_metric: str

    @property
    def features(self) -> list[str]:
        """The columns that the gate may use."""
        return [name for name in self.table.columns if name not in NO_FEATURES]


class GatePredictions:
    """Predictions of one task network before and after restoring. Predictions that no stage has made are made now.

    Args:
        run: the completed run.
        task: name of the task.
        with_clean: also use clean images, which mostly need no restoring.
    """

    def __init__(self, run: CompletedRun, task: str, with_clean: bool) -> None:
        self.run, self.task, self.with_clean = run, task, with_clean

    def groups(self, split: str) -> Mapping[str, str]:
        """The group of each image of a split that has one; those of the clean images, if there are any."""
        run = self.run
        return (run.clean if run.degraded.has_clean_images else run.degraded).info.groups.get(split, {})

    def cases(self, split: str) -> Cases:
        """The cases of a split. An image without a score counts as 0 before and after: restoring gains nothing.

        Raises:
            GateError: the degraded dataset has no such split.
        """
        rows: list[dict[str, Any]] = []
        image_metric = ""
        parts, groups = self._parts(split), self.groups(split)
        for part in parts:
            labels = dict(zip(part.truth.ids, group_labels(part.truth.ids, groups).tolist(), strict=True))
            image_metric, before = _image_scores(part.before)
            _, after = _image_scores(part.after)
            predictions = self._read(part.before)
            for image_id in part.truth.ids:
                scores = (before[image_id], after[image_id])
                defined = scores if np.isfinite(scores).all() else (0.0, 0.0)
                row = {"part": part.name, "id": image_id, "image": image_id, "group": labels[image_id]}
                row |= {"before": defined[0], "after": defined[1]}
                features = image_features(part.truth.image(image_id)) | output_features(predictions[image_id])
                rows.append(row | features)
        return Cases(split, parts, pd.DataFrame(rows), image_metric)

    def records(self, part: Part, restored: Mapping[str, bool]) -> Records:
        """Records of one part if exactly the images with restored[image id] are restored."""
        before, after = self._read(part.before), self._read(part.after)
        predictions = {
            image_id: after[image_id] if restored[image_id] else before[image_id] for image_id in part.truth.ids
        }
        return get_scoring(self.task).score(predictions, part.truth, self._network.classes)

    def _parts(self, split: str) -> list[Part]:
        """The parts of a split of the clean dataset; the reported split has one for each severity."""
        run = self.run
        names = [name for name in run.degraded.info.splits if name.partition("@")[0] == split]
        if not names:
            known = ", ".join(run.degraded.info.splits)
            raise GateError(f"{run.degraded.folder}: has no split {split!r}. Choose one of {known}.")
        parts = [self._part(run.degraded, name, DEGRADED, run.objective) for name in names]
        if self.with_clean and split in run.clean.info.splits and run.degraded.has_clean_images:
            parts.append(self._part(run.clean, split, CLEAN, f"{CLEAN_RESTORED}{run.objective}"))
        return parts

    def _part(self, dataset: Dataset, split: str, before: str, after: str) -> Part:
        truth, restored_split = dataset.split(split), training_split(split, self.run.training)
        return Part(
            f"{before}/{split}",
            truth,
            self._predicted(before, split, truth),
            self._predicted(after, restored_split, truth, self._restore),
        )

    def _predicted(
        self, variant: str, split: str, truth: Split, restore: Callable[[Image], Image] | None = None
    ) -> Path:
        """The folder with predictions and records of a variant: the run's, or one that is made now."""
        run = self.run
        evaluations = run.folder("evaluate", task=self.task).parents[2]
        of_run = variant_folder(evaluations, self.task, run.degradation, variant, run.params.arms) / split
        if (of_run / RECORDS_FILE).exists():
            return of_run
        folder = self._work / variant / split
        if not (folder / RECORDS_FILE).exists():
            scratch = folder.with_name(f"{folder.name}.unfinished")
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
            evaluate(self._network, truth, truth.image, scratch, f"{self.task} on {variant} {split}", restore=restore)
            scratch.rename(folder)
        return folder

    def _read(self, folder: Path) -> Mapping[str, Any]:
        """Predictions by image id."""
        return get_scoring(self.task).read(folder / "predictions")

    def _restore(self, image: Image) -> Image:
        return restored_image(self._restorer, image, self.run.params.restore)

    @cached_property
    def _network(self) -> Task[Any]:
        return get_task(self.task).load(self.run.folder("train_task", task=self.task), choose_device())

    @cached_property
    def _restorer(self) -> Restorer:
        return open_restorer(self.run.weights)

    @cached_property
    def _work(self) -> Path:
        """The folder for predictions that no stage has made, named by a digest of everything that they depend on."""
        run = self.run
        network = run.folder("train_task", task=self.task)
        inputs = fingerprint(network, run.weights, run.clean.folder, run.degraded.folder)
        restorers = [f"models.restorers{entry.split(':')[0]}" for entry in RESTORERS.values()]
        code = [get_task(self.task).__module__, "pipeline.metrics.evaluation", "pipeline.running.restoring", *restorers]
        return checkpoint_folder(code, inputs, run.params.restore.model_dump()) / "gate"


def _image_scores(folder: Path) -> tuple[str, dict[str, float]]:
    """The score of each single image: its name, and its values by image id."""
    records = load_records(folder / RECORDS_FILE)
    ((metric, scores),) = records.image_scores().items()
    return metric, dict(zip(records.image_ids, scores.tolist(), strict=True))


def mean_score(cases: Cases) -> str:
    """The name of the mean of the image scores, as a metric of policies.csv."""
    return f"mean {cases.image_metric}"


def policy_rows(
    cases: Cases, gate: Bools, predictions: GatePredictions, resamples: Resamples, level: float
) -> list[dict[str, Any]]:
    """Rows of policies.csv: the mean image score and the task's metrics of the whole split, under each policy.

    If there are several parts (severities, clean images), each metric is the mean over them.

    Args:
        cases: of one split.
        gate: (N,) the cases that the gate restores.
        predictions: of the same cases.
        resamples: of the images, in the order of their sorted names.
        level: of confidence.
    """
    table = cases.table
    everything = np.ones(len(table), dtype=bool)
    restored = {NEVER: ~everything, ALWAYS: everything, GATE: gate, ORACLE: (table.after > table.before).to_numpy()}
    scores = {policy: _policy_scores(cases, chosen, predictions, resamples) for policy, chosen in restored.items()}
    rows: list[dict[str, Any]] = []
    for policy, kinds in scores.items():
        for kind, system in enumerate(kinds):
            gains = {constant: compare_systems(system, scores[constant][kind], level) for constant in (NEVER, ALWAYS)}
            for name, score in score_intervals(system, level).items():
                row = {"split": cases.split, "policy": policy, "restored": restored[policy].mean(), "metric": name}
                row |= {"value": score.gain, "ci_low": score.low, "ci_high": score.high}
                for constant in (NEVER, ALWAYS):
                    gain = gains[constant][name]
                    row |= {f"over_{constant}": gain.gain}
                    row |= {f"over_{constant}_low": gain.low, f"over_{constant}_high": gain.high}
                rows.append({**row, "n_images": score.n_images, "n_groups": score.n_groups})
    return rows


def _policy_scores(
    cases: Cases, restored: Bools, predictions: GatePredictions, resamples: Resamples
) -> tuple[System, System]:
    """The mean image score, and the task's metrics, if the cases with restored (N,) are restored."""
    mean_scores, task_metrics = [], []
    for part in cases.parts:
        of_part = (cases.table.part == part.name).to_numpy()
        table, chosen = cases.table[of_part], restored[of_part]
        scores = np.where(chosen, table.after, table.before)
        values = {image_id: {mean_score(cases): float(score)} for image_id, score in zip(table.id, scores, strict=True)}
        mean_scores.append(System.from_tables([MeanRecords.from_values(values)], resamples))
        records = predictions.records(part, dict(zip(table.id, chosen, strict=True)))
        task_metrics.append(System.from_tables([records], resamples))
    return System.mean(mean_scores), System.mean(task_metrics)


def is_worse(rows: Sequence[Mapping[str, Any]], metric: Metric) -> bool:
    """Whether the gate is behind never or always in a metric, by the rows of policies.csv of one split."""
    values = {row["policy"]: row["value"] for row in rows if row["metric"] == metric.name}
    if metric.higher_is_better:
        return bool(values[GATE] < max(values[NEVER], values[ALWAYS]))
    return bool(values[GATE] > min(values[NEVER], values[ALWAYS]))
