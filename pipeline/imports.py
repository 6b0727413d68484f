"""Which files of this project a module needs, found in its source: DVC does not track imports. Not a stage."""

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

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
