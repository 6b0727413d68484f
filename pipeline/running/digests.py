"""Digests of code and data, and the commit: what results come from."""

import ast
import hashlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.running.atomic_outputs import WORK
from pipeline.settings.plugins import PLUGIN_TABLES, PROJECT, assigned, plugin_modules

PACKAGES = ("pipeline", "models", "data")
NOT_READ = {".py", ".pyc", ".md"}  # files in a package's folder that no stage reads as data
LOCK = "dvc.lock"
LENGTH = 16  # hexadecimal digits
# How a stage runs, but nothing that it writes: a change here re-runs no stage but `publish`, which writes the tracking.
PLUMBING = (
    "pipeline.running.entry",
    "pipeline.running.progress",
    "pipeline.running.system_errors",
    "pipeline.tracking",
)

# Stages that use all plug-ins of a kind at once.
PLUGINS_OF_STAGES = {"report": ("metrics",), "publish": ("restorers",)}
PUBLISHED = "pipeline.tracking.served_restorer"  # the stage `publish` logs it with every restorer


def stage_digest(stage: str, root: Path = PROJECT) -> str:
    """The digest of the code that a stage runs, without that of the plug-ins that its item chooses.

    Args:
        stage: its name in dvc.yaml.
        root: the project's folder.
    """
    modules = [f"pipeline.{stage}"]
    for kind in PLUGINS_OF_STAGES.get(stage, ()):
        modules += plugin_modules(kind, root).values()
    if stage == "publish":
        return code_digest([*modules, PUBLISHED], root, without=())
    return code_digest(modules, root)


def code_digest(modules: Sequence[str], root: Path = PROJECT, without: Sequence[str] = PLUMBING) -> str:
    """A digest of the code that modules run: their files and those of all project modules that they import.

    Comments, docstrings, formatting and the tables of plug-ins do not count. Other files in the folders of these
    modules (templates, styles) count with their bytes.

    Args:
        modules: dotted names.
        root: the project's folder.
        without: modules and packages that do not count, nor what only they import.

    Raises:
        FileNotFoundError: a module does not exist.
    """
    files = imported_files(modules, root, without)
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(root).as_posix()}\0{_syntax(path, path.stat().st_mtime_ns, root)}\0".encode())
    for path in sorted(_data_files({file.parent for file in files})):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:LENGTH]


def imported_files(modules: Sequence[str], root: Path = PROJECT, without: Sequence[str] = ()) -> set[Path]:
    """The files of modules and of everything in this project that they import, at any depth.

    Packages count with their __init__.py; imports inside functions count, those for type checkers do not.

    Args:
        modules: dotted names.
        root: the project's folder.
        without: modules and packages that are left out, with what only they import.

    Raises:
        FileNotFoundError: a module does not exist.
    """
    files: set[Path] = set()
    waiting = list(modules)
    while waiting:
        for file in _files_of(waiting.pop(), root):
            if file not in files:
                files.add(file)
                imports = _imports(file, file.stat().st_mtime_ns, root)
                waiting.extend(name for name in imports if not _is_in(name, without))
    return files


def digest_files(*files: Path) -> str:
    """A digest of the names and bytes of files, whatever their order."""
    digest = hashlib.sha256()
    for path in sorted(set(files)):
        digest.update(path.as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:LENGTH]


@cache
def data_digest(folder: Path) -> str:
    """A digest of the names and bytes of all files below a folder, whatever their order on disk."""
    digest = hashlib.sha256()
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()[:LENGTH]


def fingerprint(*places: Path) -> str:
    """A digest of the names, sizes and modification times of files and folders: cheaper than their bytes."""
    digest = hashlib.sha256()
    for place in places:
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            status = path.stat()
            digest.update(f"{path.relative_to(place)}|{status.st_size}|{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def checkpoint_folder(modules: Sequence[str], *identity: Any) -> Path:
    """The folder under work/ for the checkpoint of a training, named by everything that the training depends on.

    Args:
        modules: whose code, with all that it imports, the training runs.
        identity: parameters, and fingerprints of the data.
    """
    text = json.dumps([code_digest(modules), identity], sort_keys=True, default=str)
    return WORK / "checkpoints" / hashlib.sha256(text.encode()).hexdigest()[:24]


def git_commit() -> str:
    """The commit, with "-dirty" where tracked files differ from it; empty outside a repository or before a commit.

    dvc.lock does not count: the run itself writes it, stage by stage.
    """
    commit = _git("rev-parse", "--verify", "--quiet", "HEAD").stdout.strip()
    if not commit:
        return ""
    changed = _git("diff", "--quiet", "HEAD", "--", ":/", f":(top,exclude){LOCK}").returncode != 0
    return commit + ("-dirty" if changed else "")


@cache
def _syntax(path: Path, modified: int, root: Path) -> str:
    """A file's syntax tree as text, without docstrings, comments and tables of plug-ins."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = ".".join(path.parent.relative_to(root).parts) if path.name == "__init__.py" else None
    tables = [name for holder, name in PLUGIN_TABLES.values() if holder == package]
    tree.body = [node for node in tree.body if all(assigned(node, table) is None for table in tables)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_text(part)]
    return ast.dump(tree)


def _is_text(node: ast.stmt) -> bool:
    """Whether a statement is a docstring, of a module, class, function or attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _data_files(folders: set[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in folder.iterdir() if path.is_file() and path.suffix not in NOT_READ)


def _files_of(module: str, root: Path) -> list[Path]:
    """A module's file and the __init__.py of every package above it."""
    parts = module.split(".")
    base = root.joinpath(*parts)
    file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    if not file.exists():
        raise FileNotFoundError(f"{file}: no such module of this project")
    return [file, *(root.joinpath(*parts[:depth], "__init__.py") for depth in range(1, len(parts)))]


@cache
def _imports(file: Path, modified: int, root: Path) -> list[str]:
    """The project modules that a file imports."""
    folder, imports = file.parent.relative_to(root).parts, []
    for node in _runtime_nodes(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [*folder[: len(folder) - node.level + 1]] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            deeper = [f"{source}.{alias.name}" for alias in node.names]
            names = [source, *(name for name in deeper if _is_module(name, root))]
        else:
            continue
        imports += [name for name in names if name.split(".")[0] in PACKAGES]
    return imports


def _is_in(module: str, packages: Sequence[str]) -> bool:
    return any(f"{module}.".startswith(f"{package}.") for package in packages)


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


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
