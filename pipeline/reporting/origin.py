"""Where the numbers of a report come from: commit, digests of the data, settings."""

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from data.dataset import Dataset
from pipeline.running.digests import data_digest, git_commit
from pipeline.settings.params import ELSEWHERE, Params


@dataclass(frozen=True)
class EvaluatedSplit:
    """A split that was evaluated, with a digest of the names and contents of its files."""

    dataset: str
    split: str
    images: int
    digest: str


@dataclass(frozen=True)
class Origin:
    """What a report was made from."""

    commit: str
    experiment: str
    data: list[EvaluatedSplit]
    settings: str


def describe_origin(params: Params, clean: Dataset, degraded: Path) -> Origin:
    """The origin of a report on a clean dataset and the degraded ones in a folder."""
    data = [_evaluated("clean", clean, split) for split in clean.info.splits if split == clean.evaluation_split]
    for degradation in params.degradations:
        dataset = Dataset.open(degraded / degradation)
        data += [_evaluated(degradation, dataset, split) for split in dataset.evaluation_splits]
    return Origin(git_commit(), os.environ.get("DVC_EXP_NAME", ""), data, settings_text(params))


def _evaluated(name: str, dataset: Dataset, split: str) -> EvaluatedSplit:
    return EvaluatedSplit(name, split, dataset.info.splits[split], data_digest(dataset.folder / split))


def settings_text(params: Params) -> str:
    """The settings as YAML; of tasks, losses and restorers only those that took part.

    What no result depends on is left out: where the work runs, and where MLflow is.
    """
    settings = params.model_dump(mode="json", by_alias=True, exclude=ELSEWHERE)
    used_losses = {name for objective in params.objectives for name in params.losses_of(objective)}
    settings |= {
        "train_task": {task: params.task_settings(task) for task in params.tasks},
        "train_restorer": params.train_restorer.used,
        "losses": {name: section for name, section in params.losses.items() if name in used_losses},
    }
    stream = io.StringIO()
    yaml: Any = YAML(typ="safe")
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False
    yaml.width = 100
    yaml.dump(settings, stream)
    return stream.getvalue()
