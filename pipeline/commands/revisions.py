"""The results of a git revision or DVC experiment, read from DVC's cache."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from data.dataset import INFO_FILE, Dataset
from pipeline.metrics import QUALITY
from pipeline.running.artifacts import ON_CLEAN_FOLDER, RECORDS_FILE
from pipeline.settings.grammar import CLEAN
from pipeline.settings.params import DAG

WORKSPACE = "workspace"  # DVC's name for the files as they are now
RECORDED = {
    "evaluate": None,
    "quality": QUALITY,
}  # stage: the task of its records; None if it has a folder for each task

Cells = dict[tuple[str, str], dict[str, list[str]]]  # (task, degradation): variant: paths of its records


class RevisionError(ValueError):
    """A revision cannot be compared. The text says why, and what to do."""


class Revision:
    """One revision of the project.

    Args:
        name: a commit, branch, tag or experiment; or `workspace`.

    Raises:
        RevisionError: there is no such revision, or this folder is no project of git and DVC.
    """

    def __init__(self, name: str) -> None:
        from dvc.api import DVCFileSystem

        self.name = name
        self.commit = None if name == WORKSPACE else _resolve(name)
        self._files = DVCFileSystem(rev=self.commit)
        self._stages = self._read_stages()
        self._digests: dict[tuple[str | None, str], dict[str, str]] = {}

    def params(self) -> dict[str, Any]:
        """The parameters as nested dictionaries."""
        from dvc.api import params_show

        params: dict[str, Any] = params_show(rev=self.commit)
        return params

    def cells(self) -> Cells:
        """The paths of all records, by task and degradation, then by variant.

        Records of clean images, which all degradations of a task share, are listed for each of them. In older
        revisions every degradation had its own.

        Raises:
            RevisionError: there are none.
        """
        cells: Cells = {}
        clean: dict[str, list[str]] = {}  # by task
        for stage, task in RECORDED.items():
            root = self._folder(stage)
            for path in self._find(root):
                parts = path.removeprefix(f"{root}/").split("/")
                if parts[-1] != RECORDS_FILE or ON_CLEAN_FOLDER in parts:  # of arms: clean_harm.csv has them
                    continue
                if task is None and parts[0] == CLEAN:
                    clean.setdefault(parts[1], []).append(path)
                else:
                    key = (task, parts[0]) if task else (parts[0], parts[1])
                    cells.setdefault(key, {}).setdefault(parts[-3], []).append(path)
        for (task, degradation), variants in cells.items():
            if task in clean and self._has_clean_images(degradation):
                cells[task, degradation] = {CLEAN: clean[task], **variants}
        if not cells:
            raise RevisionError(
                f"{self.name}: this revision has no results. Commit dvc.lock with it after `uv run dvc repro`."
            )
        return cells

    def fetch(self, paths: list[str], folder: Path) -> Path:
        """Copy the records of one variant to <folder>/<split>/; returns the folder.

        Raises:
            RevisionError: they are not in DVC's cache.
        """
        for path in paths:
            target = folder / path.split("/")[-2] / RECORDS_FILE
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._files.get_file(path, str(target))
            except FileNotFoundError as error:
                raise RevisionError(
                    f"{self.name}: {path} is not in DVC's cache. Fetch it with `uv run dvc pull`, or check that "
                    "revision out and run `uv run dvc repro`."
                ) from error
        return folder

    def groups(self, degradation: str) -> dict[str, str]:
        """The group of each evaluation image that has one: of the clean images, or of photos without clean ones."""
        is_clean = self._has_clean_images(degradation)
        dataset = self._dataset(self._folder("prepare") if is_clean else f"{self._folder('degrade')}/{degradation}")
        return dataset.evaluation_groups if dataset else {}

    def digests(self, degradation: str | None, split: str) -> dict[str, str]:
        """The digest of every file of a split, by its path in the dataset.

        Args:
            degradation: of a degraded dataset; None for the clean one.
            split: name of the split.
        """
        if (degradation, split) not in self._digests:
            root = self._folder("degrade" if degradation else "prepare") + (f"/{degradation}" if degradation else "")
            files = self._find(f"{root}/{split}")
            digests = {path.removeprefix(f"{root}/"): info["dvc_info"]["md5"] for path, info in files.items()}
            self._digests[degradation, split] = digests
        return self._digests[degradation, split]

    def _has_clean_images(self, degradation: str) -> bool:
        degraded = self._dataset(f"{self._folder('degrade')}/{degradation}")
        return degraded is None or degraded.has_clean_images

    def _dataset(self, root: str) -> Dataset | None:
        """The description of a dataset; None if this revision has none in DVC's cache."""
        with tempfile.TemporaryDirectory() as scratch:
            try:
                self._files.get_file(f"{root}/{INFO_FILE}", str(Path(scratch) / INFO_FILE))
            except FileNotFoundError:
                return None
            return Dataset.open(Path(scratch))

    def _find(self, root: str) -> dict[str, Any]:
        """The files below a folder that DVC tracks; files left from earlier runs do not count."""
        from dvc_data.index import DataIndexDirError

        try:
            files: dict[str, Any] = self._files.find(root, detail=True, dvc_only=True)
        except (FileNotFoundError, DataIndexDirError) as error:
            raise RevisionError(
                f"{self.name}: the list of files in {root} is not in DVC's cache. Fetch it with `uv run dvc pull`, or "
                "check that revision out and run `uv run dvc repro`."
            ) from error
        return dict(sorted(files.items()))

    def _folder(self, stage: str) -> str:
        if stage not in self._stages:
            raise RevisionError(
                f"{self.name}: {DAG} of this revision has no stage {stage}. Compare revisions that both have it."
            )
        out = next(iter(self._stages[stage]["outs"]))
        return str(out).partition("/${")[0]

    def _read_stages(self) -> dict[str, Any]:
        try:
            content: dict[str, Any] = YAML(typ="safe").load(self._files.read_text(str(DAG)))
        except FileNotFoundError as error:
            raise RevisionError(f"{self.name}: this revision has no {DAG}. Choose a revision that has it.") from error
        return content["stages"]


def flat(params: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested parameters as (dotted name, value)."""
    for name, value in params.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _resolve(name: str) -> str:
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo
    from dvc.scm import NoSCM, RevError, resolve_rev

    try:
        with Repo() as repo:
            if isinstance(repo.scm, NoSCM):
                raise RevisionError(
                    "compare needs git, and this project is in no repository. Run `git init` and commit."
                )
            commit: str = resolve_rev(repo.scm, name)
            return commit
    except NotDvcRepoError as error:
        raise RevisionError("compare needs DVC. Run it in the project's root.") from error
    except RevError as error:
        raise RevisionError(
            f"{name!r}: no such revision. `git log --all --oneline` lists commits, "
            "`uv run dvc exp list --all-commits` lists experiments."
        ) from error
