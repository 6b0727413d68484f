"""Which files of this project a module needs, found in its source: DVC does not track imports. Not a stage."""

import ast
import hashlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.running.atomic_outputs import WORK

PACKAGES = ("pipeline", "models", "data")


def closure(module: str, root: Path) -> set[Path]:
    """The files of a module and of everything in this project that it imports, at any depth.

    Imports for type checkers only do not count. Packages count with their __init__.py.

    Args:
        module: dotted name.
        root: the project's folder.

    Raises:
        FileNotFoundError: there is no such module.
    """
    files: set[Path] = set()
    waiting = [module]
    while waiting:
        for file in _files_of(waiting.pop(), root):
            if file not in files:
                files.add(file)
                waiting.extend(_imported(file, root))
    return files


def digest_files(*files: Path) -> str:
    """A digest of the names and contents of files, whatever their order."""
    digest = hashlib.sha256()
    for path in sorted(set(files)):
        digest.update(path.as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _files_of(module: str, root: Path) -> list[Path]:
    """A module's file and the __init__.py of every package above it."""
    parts = module.split(".")
    base = root.joinpath(*parts)
    own = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    if not own.exists():
        raise FileNotFoundError(f"{own}: no such module of this project")
    return [own, *(root.joinpath(*parts[:depth], "__init__.py") for depth in range(1, len(parts)))]


def _imported(file: Path, root: Path) -> Iterator[str]:
    for node in _runtime_nodes(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            deeper = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [node.module, *(name for name in deeper if _is_module(name, root))]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in PACKAGES)


def _runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes except what stands under `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        yield node
        yield from _runtime_nodes(node)


def _is_module(name: str, root: Path) -> bool:
    path = root.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


LOCK = "dvc.lock"


@cache
def data_digest(folder: Path) -> str:
    """A digest of the names and contents of all files below a folder, whatever their order on disk."""
    digest = hashlib.sha256()
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()[:16]


def git_commit() -> str:
    """The commit, with "-dirty" where tracked files differ from it; empty outside a repository or before a commit.

    dvc.lock does not count: the run itself writes it, stage by stage.
    """
    commit = _git("rev-parse", "--verify", "--quiet", "HEAD").stdout.strip()
    if not commit:
        return ""
    changed = _git("diff", "--quiet", "HEAD", "--", ":/", f":(top,exclude){LOCK}").returncode != 0
    return commit + ("-dirty" if changed else "")


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)


PROJECT = Path(__file__).parents[2]


def checkpoint_folder(modules: Sequence[str], *identity: Any) -> Path:
    """A folder under work/ named by everything that a training depends on: never a stale resumption.

    Args:
        modules: whose code, with all that it imports, the training runs.
        identity: parameters and fingerprints of the data.
    """
    code = digest_files(*(path for module in modules for path in closure(module, PROJECT)))
    text = json.dumps([code, identity], sort_keys=True, default=str)
    return WORK / "checkpoints" / hashlib.sha256(text.encode()).hexdigest()[:24]


def fingerprint(*places: Path) -> str:
    """A cheap digest of files and folders (names, sizes, times of change): has a training's input changed?"""
    digest = hashlib.sha256()
    for place in places:
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            status = path.stat()
            digest.update(f"{path.relative_to(place)}|{status.st_size}|{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
