"""Where the numbers of a report come from: commit, data, settings. Not a stage."""

import hashlib
import io
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from data.manifest import INFO_FILE, Dataset
from pipeline.params import Params

SHOWN_DIGITS = 16


@dataclass(frozen=True)
class Data:
    """A dataset that was evaluated: the digest is of the names and bytes of the files of `splits`."""

    name: str
    splits: str
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
    splits = [clean.evaluation_split] if clean.evaluation_split in clean.info.splits else []
    data = [_data("clean", clean, splits)] if splits else []
    for name in params.degradations:
        own = Dataset.open(degraded / name)
        data.append(_data(name, own, own.evaluation_splits))
    return Origin(git_commit(), os.environ.get("DVC_EXP_NAME", ""), data, settings_text(params))


def digest(dataset: Dataset, splits: Sequence[str]) -> str:
    """A digest of what a dataset says about itself and of every file of some splits."""
    found = hashlib.sha256()
    files = [path for split in splits for path in (dataset.folder / split).rglob("*") if path.is_file()]
    for path in [dataset.folder / INFO_FILE, *sorted(files)]:
        name, content = path.relative_to(dataset.folder).as_posix().encode(), path.read_bytes()
        found.update(b"%d %s %d " % (len(name), name, len(content)) + content)
    return found.hexdigest()[:SHOWN_DIGITS]


def git_commit() -> str:
    """The commit, with "-dirty" where files differ from it; empty outside a repository."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip()


def settings_text(params: Params) -> str:
    """The settings as YAML; of tasks, losses and restorers only those that took part."""
    settings = params.model_dump(mode="json", by_alias=True)
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


def _data(name: str, dataset: Dataset, splits: Sequence[str]) -> Data:
    images = sum(dataset.info.splits[split] for split in splits)
    return Data(name, ", ".join(splits), images, digest(dataset, splits))
