"""What the commands share that are no stages: they end in one line, and write their results whole. Not a stage."""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline import runtime


class OutputError(ValueError):
    """A result that cannot be written where it was asked for."""


def run_command(main: Callable[[], None]) -> None:
    """As `runtime.run_stage`, for a command that DVC does not run."""

    def run() -> None:
        try:
            main()
        except KeyboardInterrupt:
            sys.exit("interrupted: the same command goes on from here, or starts again")

    runtime.run_stage(run)


@contextmanager
def replacing_output(path: Path, mark: str) -> Iterator[Path]:
    """Yield a new folder beside `path` that takes its place at the end, or vanishes on an error.

    Unlike `runtime.replacing_folder`, it lies on the disk of `path`, which the user chose, and what is there is
    replaced only where an earlier run of the same command wrote it.

    Args:
        path: the folder to write.
        mark: the name of a file that all of the command's results have.

    Raises:
        OutputError: something else lies at `path`, or nothing can be written there.
    """
    if path.exists() and not (path / mark).is_file() and not (path.is_dir() and not any(path.iterdir())):
        raise OutputError(f"--out {path}: something else is there (no {mark} in it); choose a new folder")
    scratch = path.absolute().parent / f".{path.name}.unfinished"
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"--out {path}: cannot be written ({error.strerror})") from error
    try:
        yield scratch
        if path.exists():
            shutil.rmtree(path)
        scratch.rename(path)
    except OSError as error:  # a full disk
        raise OutputError(f"--out {path}: {error.filename or path} failed ({error.strerror})") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
