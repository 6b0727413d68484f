"""Where the numbers of a report come from: commit, data, settings. Not a stage."""

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
class Data:
    """A split that was evaluated, with a digest of the names and contents of its files."""

    name: str
    split: str
    images: int
    digest: str


@dataclass(frozen=True)
class Origin:
    """What a report was made from."""

    commit: str
    experiment: str
    data: list[Data]
    settings: str


def describe(params: Params, clean: Dataset, degraded: Path) -> Origin:
    """The origin of a report on a clean dataset and the degraded ones in a folder."""
    parts = [("clean", clean, tuple(name for name in clean.info.splits if name == clean.evaluation_split))]
    for name in params.degradations:
        own = Dataset.open(degraded / name)
        parts.append((name, own, own.evaluation_splits))
    data = [
        Data(name, split, dataset.info.splits[split], data_digest(dataset.folder / split))
        for name, dataset, splits in parts
        for split in splits
    ]
    return Origin(git_commit(), os.environ.get("DVC_EXP_NAME", ""), data, settings_text(params))


def settings_text(params: Params) -> str:
    """The settings as YAML; of tasks, losses and restorers only those that took part.

    Where the work runs, and where MLflow is, have no part in them.
    """
    settings = params.model_dump(mode="json", by_alias=True, exclude=ELSEWHERE)
    used_losses = {name: section for one in params.objectives for name, section in params.losses_of(one).items()}
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
