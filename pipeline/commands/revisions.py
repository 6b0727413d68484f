"""The results of another git revision or DVC experiment, read from DVC's cache. Not a stage."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.reporting.tables import QUALITY
from pipeline.running.artifacts import RECORDS_FILE

WORKSPACE = "workspace"  # what DVC calls the files as they are now
DAG = "dvc.yaml"
RECORDED = {"evaluate": None, "quality": QUALITY}  # stage -> the task of its records; None: a folder for each task

Cells = dict[tuple[str, str], dict[str, list[str]]]  # (task, degradation) -> variant -> paths of its records


class RevisionError(ValueError):
    """A revision that cannot be compared; the text says why and what to do."""


class Revision:
    """One revision of the project.

    Args:
        name: what git or DVC call it: commit, branch, tag, experiment; or `workspace`.

    Raises:
        RevisionError: there is no such revision, or this is no project of git and DVC.
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

        found: dict[str, Any] = params_show(rev=self.commit)
        return found

    def cells(self) -> Cells:
        """Which records there are.

        Raises:
            RevisionError: there are none.
        """
        found: Cells = {}
        for stage, task in RECORDED.items():
            root = self._folder(stage)
            for path in self._find(root):
                parts = path.removeprefix(f"{root}/").split("/")
                if parts[-1] == RECORDS_FILE:
                    key = (task, parts[0]) if task else (parts[0], parts[1])
                    found.setdefault(key, {}).setdefault(parts[-3], []).append(path)
        if not found:
            raise RevisionError(
                f"{self.name}: that revision has no results; commit dvc.lock with it after `uv run dvc repro`"
            )
        return found

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
                    f"{self.name}: {path} is not in DVC's cache; fetch it (uv run dvc pull), or check that revision "
                    "out and run uv run dvc repro"
                ) from error
        return folder

    def digests(self, degradation: str | None, split: str) -> dict[str, str]:
        """The digest of every file of a split, by its path in there.

        Args:
            degradation: of a degraded dataset; None for the clean one.
            split: name of the split.
        """
        if (degradation, split) not in self._digests:
            root = self._folder("degrade" if degradation else "prepare") + (f"/{degradation}" if degradation else "")
            files = self._find(f"{root}/{split}")
            found = {path.removeprefix(f"{root}/"): info["dvc_info"]["md5"] for path, info in files.items()}
            self._digests[degradation, split] = found
        return self._digests[degradation, split]

    def _find(self, root: str) -> dict[str, Any]:
        """The files below a folder, only those that DVC knows: others may be left from earlier runs."""
        from dvc_data.index import DataIndexDirError

        try:
            found: dict[str, Any] = self._files.find(root, detail=True, dvc_only=True)
        except (FileNotFoundError, DataIndexDirError) as error:
            raise RevisionError(
                f"{self.name}: the list of files in {root} is not in DVC's cache; fetch it (uv run dvc pull), or check "
                "that revision out and run uv run dvc repro"
            ) from error
        return dict(sorted(found.items()))

    def _folder(self, stage: str) -> str:
        if stage not in self._stages:
            raise RevisionError(f"{self.name}: {DAG} has no stage {stage} there: it is of another version of the code")
        out = next(iter(self._stages[stage]["outs"]))
        return str(out).partition("/${")[0]

    def _read_stages(self) -> dict[str, Any]:
        try:
            content: dict[str, Any] = YAML(typ="safe").load(self._files.read_text(DAG))
        except FileNotFoundError as error:
            raise RevisionError(f"{self.name}: there is no {DAG} in that revision") from error
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
                raise RevisionError("--compare needs git: this project is in no repository")
            commit: str = resolve_rev(repo.scm, name)
            return commit
    except NotDvcRepoError as error:
        raise RevisionError("--compare needs DVC: run it in the project's root") from error
    except RevError as error:
        raise RevisionError(
            f"--compare: no revision {name!r}; `git log --all --oneline` lists commits, "
            "`uv run dvc exp list --all-commits` experiments"
        ) from error
