"""What the gate is fitted and judged on: images before and after restoring, with the task's scores. Not a stage."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from data import images
from data.dataset import Dataset, Split
from models.restorers import RESTORERS, load_restorer
from models.tasks import get_task
from models.tasks.contract import Image, Task
from pipeline.commands.finished_runs import Finished
from pipeline.commands.gate_model import ALWAYS, NEVER, GateError, image_features, output_features
from pipeline.metrics import MeanRecords, get_scoring, load_records
from pipeline.metrics.evaluation import evaluate
from pipeline.running.artifacts import RECORDS_FILE, TRAINING, variant_folder
from pipeline.settings.grammar import CLEAN
from pipeline.running.digests import checkpoint_folder, fingerprint
from pipeline.running.restoring import restore_batch as restore
from pipeline.running.restoring import to_batch
from pipeline.running.seeds import choose_device
from pipeline.settings.grammar import CLEAN_RESTORED, DEGRADED
from pipeline.statistics.resampling import interval, paired_gain
from pipeline.statistics.scores import Resampled

OWN_COLUMNS = ["part", "id", "image", "before", "after"]

Read = Callable[[str], Image]


@dataclass(frozen=True)
class Part:
    """The images of one split before and after restoring, with the predictions on both.

    Attributes:
        name: degraded/<split>, or clean/<split>.
        truth: the split whose labels count.
        read: gives the image before, by its id.
        before: folder with predictions and records.
        after: the same of the restored images.
    """

    name: str
    truth: Split
    read: Read
    before: Path
    after: Path


class Cases:
    """Gathers the parts of one task, degradation and restorer; predictions that do not exist yet are made.

    Args:
        run: the finished run.
        name: of the task.
        with_clean: also clean images: most of what a camera sees may need no restoring.
    """

    def __init__(self, run: Finished, name: str, with_clean: bool) -> None:
        self.run, self.name, self.with_clean = run, name, with_clean

    @cached_property
    def task(self) -> Task[Any]:
        """The network that judges."""
        return get_task(self.name).load(self.run.folder("train_task", task=self.name), choose_device())

    def parts(self, split: str) -> list[Part]:
        """The parts of a split of the clean data set; of a reported split one for each severity."""
        run = self.run
        names = [name for name in run.degraded.info.splits if name.partition("@")[0] == split]
        if not names:
            known = ", ".join(run.degraded.info.splits)
            raise GateError(f"{run.degraded.folder}: has no split {split!r}; there are {known}")
        found = [self._part(run.degraded, name, DEGRADED, run.objective) for name in names]
        if self.with_clean and split in run.clean.info.splits and run.degraded.has_clean_images:
            found.append(self._part(run.clean, split, CLEAN, f"{CLEAN_RESTORED}{run.objective}"))
        return found

    def table(self, parts: Sequence[Part]) -> tuple[pd.DataFrame, str]:
        """A row a case, and the name of the images' own score.

        Columns: part, id, image (the same for all versions of one image), before and after (the score of the image by
        itself, degraded and restored), and the features. An image that has no score counts as 0 before and after:
        whatever is done with it gains nothing.
        """
        rows: list[dict[str, Any]] = []
        metric = ""
        for part in parts:
            metric, before = _scores(part.before)
            _, after = _scores(part.after)
            predictions = self.predictions(part.before)
            for id in part.truth.ids:
                scores = (before[id], after[id])
                known = scores if np.isfinite(scores).all() else (0.0, 0.0)
                row = {"part": part.name, "id": id, "image": id, "before": known[0], "after": known[1]}
                rows.append(row | image_features(part.read(id)) | output_features(predictions[id]))
        return pd.DataFrame(rows), metric

    def predictions(self, folder: Path) -> Mapping[str, Any]:
        """By image id, what lies in the folder of one side of a part."""
        return get_scoring(self.name).read(folder / "predictions")

    def _part(self, dataset: Dataset, split: str, before: str, after: str) -> Part:
        truth = dataset.split(split)
        number = self.run.training
        name = split if number == 1 else f"{split}{TRAINING}{number}"
        folder = self._predicted(before, split, truth, truth.image)
        restored = self._predicted(after, name, truth, lambda id: self._restore(truth.image(id)))
        return Part(f"{before}/{split}", truth, truth.image, folder, restored)

    def _predicted(self, variant: str, split: str, truth: Split, read: Read) -> Path:
        """The folder of the predictions on one variant: the run's own, or one that is made now."""
        run = self.run
        evaluations = run.folder("evaluate", task=self.name).parents[2]
        own = variant_folder(evaluations, self.name, run.degradation, variant, run.params.arms) / split
        if (own / RECORDS_FILE).exists():
            return own
        made = self._work / variant / split
        if not (made / RECORDS_FILE).exists():
            scratch = made.with_name(f"{made.name}.unfinished")
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
            evaluate(self.task, truth, read, scratch, f"{self.name} on {variant} {split}")
            scratch.rename(made)
        return made

    def _restore(self, image: Image) -> Image:
        with torch.inference_mode():
            return images.to_uint8(restore(self._restorer, to_batch(self._restorer, image), self.run.params.restore)[0])

    @cached_property
    def _restorer(self) -> Any:
        return load_restorer(self.run.weights).to(choose_device())

    @cached_property
    def _work(self) -> Path:
        """Where predictions are kept that no stage has made: a folder named by all that they depend on."""
        run = self.run
        network = run.folder("train_task", task=self.name)
        inputs = fingerprint(network, run.weights, run.clean.folder, run.degraded.folder)
        restorers = [entry.split(":")[0] for entry in RESTORERS.values()]
        code = [get_task(self.name).__module__, "pipeline.metrics.evaluation", "pipeline.running.restoring", *restorers]
        return checkpoint_folder(code, inputs, run.params.restore.model_dump()) / "gate"


def features_of(cases: pd.DataFrame) -> list[str]:
    """The columns that the gate may look at."""
    return [name for name in cases.columns if name not in OWN_COLUMNS]


def _scores(folder: Path) -> tuple[str, dict[str, float]]:
    """The images' own score: its name, and its value by image id."""
    records = load_records(folder / RECORDS_FILE)
    metric, scores = next(iter(records.image_scores().items()))
    return metric, dict(zip(records.image_ids, scores.tolist(), strict=True))


GATE, ORACLE = "gate", "oracle"
COLUMNS = [
    *("split", "policy", "restored", "metric", "value", "ci_low", "ci_high"),
    *("over_never", "over_never_low", "over_never_high", "over_always", "over_always_low", "over_always_high"),
    "n_images",
]

Bools = NDArray[np.bool_]


def decisions(cases: pd.DataFrame, gate: Bools) -> dict[str, Bools]:
    """Which cases (N,) each policy restores; the oracle knows the true gains of the images' own scores."""
    everything = np.ones(len(cases), dtype=bool)
    return {NEVER: ~everything, ALWAYS: everything, GATE: gate, ORACLE: (cases.after > cases.before).to_numpy()}


def policy_rows(
    split: str,
    cases: pd.DataFrame,
    metric: str,
    chosen: Mapping[str, Bools],
    parts: Sequence[Part],
    source: Cases,
    weights: NDArray[np.int64],
    level: float,
) -> list[dict[str, Any]]:
    """Rows of policies.csv: the mean of the images' own score, and the task's metrics, which are of the whole split.

    Where there are several parts (severities, clean images), each metric is the mean over them.

    Args:
        split: for the first column.
        cases: of all parts.
        metric: name of the images' own score.
        chosen: policy to the cases (N,) that it restores.
        parts: in the order of the cases.
        source: reads the predictions and scores them.
        weights: (R, I) how often each image is taken in each resample.
        level: of confidence.
    """
    scored: dict[str, list[Resampled]] = {}
    for policy, restored in chosen.items():
        own = [_own(cases, restored, part, metric) for part in parts]
        whole = [_mixed(source, source.task, part, cases, restored) for part in parts]
        scored[policy] = [Resampled.mean([Resampled.from_records(r, weights) for r in kind]) for kind in (own, whole)]
    rows: list[dict[str, Any]] = []
    for policy, kinds in scored.items():
        for place, scores in enumerate(kinds):
            gains = {rival: paired_gain(scores, scored[rival][place], weights, level) for rival in (NEVER, ALWAYS)}
            for name, found in interval(scores, weights, level).items():
                row = {"split": split, "policy": policy, "restored": chosen[policy].mean(), "metric": name}
                row |= {"value": found.value, "ci_low": found.low, "ci_high": found.high}
                for rival, own_gains in gains.items():
                    gain = own_gains[name]
                    row |= {f"over_{rival}": gain.gain, f"over_{rival}_low": gain.low, f"over_{rival}_high": gain.high}
                rows.append({**row, "n_images": len(scores.image_ids)})
    return rows


def is_worse(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the gate is behind always or never in the task's first metric, by the rows of one split."""
    metric = list(dict.fromkeys(row["metric"] for row in rows))[1]  # the first is the images' own score
    values = {row["policy"]: row["value"] for row in rows if row["metric"] == metric}
    return bool(values[GATE] < max(values[NEVER], values[ALWAYS]))


def _own(cases: pd.DataFrame, restored: Bools, part: Part, metric: str) -> MeanRecords:
    mine = (cases.part == part.name).to_numpy()
    scores = np.where(restored, cases.after, cases.before)[mine]
    return MeanRecords.from_values(
        {id: {f"mean {metric}": float(score)} for id, score in zip(cases.id[mine], scores, strict=True)}
    )


def _mixed(source: Cases, task: Task[Any], part: Part, cases: pd.DataFrame, restored: Bools) -> Any:
    """Records of the predictions that a policy gives: of the restored image where it restores."""
    before, after = source.predictions(part.before), source.predictions(part.after)
    mine = (cases.part == part.name).to_numpy()
    taken = dict(zip(cases.id[mine], restored[mine], strict=True))
    return task.score({id: after[id] if taken[id] else before[id] for id in part.truth.ids}, part.truth)
