"""What happens to DVC's writing functions: the lock files that they open to write are filled beside their place."""

import builtins
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import IO, Any

NAMES = ("dvc.lock", "rwlock")  # DVC writes other files by the same functions; they are left to it
PART = ".part"  # a kill may leave it behind; the next write of the same file takes its place


class WholeFiles:
    """A file system that fills a file beside its place and then moves it there; all else is that of another one.

    Args:
        files: DVC's local file system, or the module `builtins`.
    """

    def __init__(self, files: Any) -> None:
        self._files = files

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)

    @contextmanager
    def open(self, path: str | os.PathLike[str], mode: str = "r", **options: Any) -> Iterator[IO[Any]]:
        """As `open`; a file of NAMES that is written appears when the block ends without an error."""
        writes = mode.startswith("w") and Path(path).name in NAMES
        place = f"{os.fspath(path)}{PART}" if writes else path
        with self._files.open(place, mode, **options) as file:
            yield file
            if writes:
                file.flush()
                os.fsync(file.fileno())  # or a power cut could leave the new name with nothing behind it
        if writes:
            Path(place).replace(path)


class _Wrapping(Loader):
    """Loads a module as its own loader does, and gives its writing function a file system of whole files."""

    def __init__(self, own: Loader, writer: str) -> None:
        self._own, self._writer = own, writer

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._own.exec_module(module)
        setattr(module, self._writer, _whole(getattr(module, self._writer)))


def _whole(writer: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its argument `fs` replaced; both of DVC's take it by that name."""
    parameters = signature(writer)

    def write(*values: Any, **named: Any) -> Any:
        given = parameters.bind(*values, **named)
        given.arguments["fs"] = WholeFiles(given.arguments.get("fs") or builtins)
        return writer(*given.args, **given.kwargs)

    return write


def wrapped_spec(
    name: str, writer: str, path: Sequence[str] | None, target: ModuleType | None = None
) -> ModuleSpec | None:
    """Where Python finds a module, with a loader that wraps its function `writer`."""
    spec = PathFinder.find_spec(name, path, target)
    if spec is not None and spec.loader is not None:
        spec.loader = _Wrapping(spec.loader, writer)
    return spec
