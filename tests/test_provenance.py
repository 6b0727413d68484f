import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.running.digests import data_digest, git_commit


def test_digests_follow_names_and_contents_only(tmp_path: Path) -> None:
    folder = tmp_path / "test"
    (folder / "labels").mkdir(parents=True)
    (folder / "labels" / "a.txt").write_text("0 0.5")
    shutil.copytree(folder, tmp_path / "copy")
    before = data_digest(folder)
    assert data_digest(tmp_path / "copy") == before and len(before) == 16
    (tmp_path / "copy" / "labels" / "a.txt").rename(tmp_path / "copy" / "labels" / "b.txt")
    shutil.copytree(tmp_path / "copy", tmp_path / "renamed")
    assert data_digest(tmp_path / "renamed") != before
    shutil.copytree(folder, tmp_path / "other")
    (tmp_path / "other" / "labels" / "a.txt").write_text("1 0.5")
    assert data_digest(tmp_path / "other") != before


def test_a_commit_says_whether_files_differ_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert git_commit() == ""
    for name in ("file", "dvc.lock"):
        (tmp_path / name).write_text("a")
    for command in ("init -q", "add -A", "-c user.name=t -c user.email=t@example.org commit -q -m t"):
        subprocess.run(["git", *command.split()], check=True)
    clean = git_commit()
    assert len(clean) == 40
    (tmp_path / "dvc.lock").write_text("b")  # as every run does
    (tmp_path / "untracked").write_text("b")
    assert git_commit() == clean
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    (tmp_path / "file").write_text("b")
    assert git_commit() == f"{clean}-dirty"
