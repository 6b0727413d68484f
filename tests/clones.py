"""Temporary clones of the project, in which DVC runs as a user runs it."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEFT_OUT = (
    ".git",
    ".venv",
    "artifacts",
    "work",
    "mlruns",
    ".cache",
    "cache",
    "tmp",
    "__pycache__",
    "mlflow.db",
    "dvc.lock",
)
TABLES = ("results.csv", "gains.csv")


def clone(target: Path, params: str) -> Path:
    """Copy the project, without what it has made, to `target`, and one of its params files over params.yaml."""
    shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*LEFT_OUT, ".*_cache"))
    shutil.copyfile(ROOT / params, target / "params.yaml")
    config = target / ".dvc" / "config"
    config.write_text(config.read_text().replace("    no_scm = true\n", ""))  # what `git archive` has put there
    subprocess.run(["git", "init", "-q"], cwd=target, check=True)
    return target


def environment(folder: Path) -> dict[str, str]:
    """The environment without settings from outside, and with a home of its own."""
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)
    hidden = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "YOLO_", "DVC_"))}
    return {**hidden, "HOME": str(home), "DVC_SITE_CACHE_DIR": str(home / "dvc")}


def dvc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run DVC in a clone."""
    return subprocess.run(
        ["dvc", *arguments], cwd=folder, env=environment(folder), capture_output=True, text=True, check=False
    )


def edit(folder: Path, old: str, new: str) -> None:
    """Change a clone's params.yaml, in one place."""
    path = folder / "params.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
