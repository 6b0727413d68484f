"""Makes DVC write `dvc.lock` and `.dvc/tmp/rwlock` whole or not at all.

DVC 3.67 empties these files and then fills them, `dvc.lock` after every stage and for a noticeable part of a second.
A SIGKILL in between leaves half a file, and every later `dvc repro` refuses to start until somebody removes it.
DVC has no setting and no plug-in for that. So the two modules that open these files get another `open`.

Python runs `watch_imports` whenever it starts in this environment, so this module imports only what is loaded anyway.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing's constant would import typing
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import IO, Any

MODULES = ("dvc.utils.serialize._common", "dvc_objects.fs.local")  # they call the builtin `open`
NAMES = ("dvc.lock", "rwlock")
PART = ".part"  # a kill may leave this file; the next write replaces it


class _WholeFile:
    """A file that appears at its path when the `with` block ends without an error."""

    def __init__(self, path: str, mode: str, **options: Any) -> None:
        self._path = path
        self._file: IO[Any] = open(path + PART, mode, **options)

    def __enter__(self) -> IO[Any]:
        return self._file

    def __exit__(self, kind: object, *_: object) -> None:
        with self._file:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())  # a power cut must not leave the new name without content
        if kind is None:
            os.replace(self._path + PART, self._path)


def open_whole(path: str | os.PathLike[str], mode: str = "r", **options: Any) -> IO[Any] | _WholeFile:
    """As `open`, but a file of NAMES that is written appears whole."""
    if mode.startswith("w") and os.path.basename(path) in NAMES:
        return _WholeFile(os.fspath(path), mode, **options)
    return open(path, mode, **options)


class _Finder:
    """Finds the modules in MODULES for Python's import, and gives them `open_whole` as `open`."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in MODULES:
            return None
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            vars(module)["open"] = open_whole
            execute(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def watch_imports() -> None:
    """Install the finder."""
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
