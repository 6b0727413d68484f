"""Outputs that appear whole or not at all, and reading the outputs of other stages."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WORK = Path("work")  # unfinished outputs and checkpoints of running trainings


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a scratch path. At the end it replaces `path`; on an error it is removed."""
    name = hashlib.sha256(str(path).encode()).hexdigest()[:16]
    scratch = (WORK / "unfinished" / name / path.name).absolute()  # worker processes may have another working directory
    _remove(scratch)
    scratch.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield scratch
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(path)
        shutil.move(scratch, path)  # which copies if the outputs lie on another disk
    finally:
        _remove(scratch.parent)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """As `replacing`, for a folder: the scratch folder exists."""
    with replacing(path) as scratch:
        scratch.mkdir()
        yield scratch


@contextmanager
def resuming_folder(path: Path, identity: str) -> Iterator[Path]:
    """As `replacing_folder`, but the scratch folder survives kills and errors. The same identity continues in it.

    Args:
        path: the output.
        identity: a digest of everything that the content depends on. Scratch folders of other identities are removed.
    """
    name = hashlib.sha256(str(path).encode()).hexdigest()[:16]
    scratch = (WORK / "resumable" / name / identity).absolute()
    for folder in scratch.parent.glob("*"):
        if folder != scratch:
            _remove(folder)
    scratch.mkdir(parents=True, exist_ok=True)
    yield scratch
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove(path)
    shutil.move(scratch, path)
    _remove(scratch.parent)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


ADVICE = "Remove it and run `dvc repro`, which makes it again or takes it from the cache."


class StageFileError(ValueError):
    """A stage's output that cannot be read. The text names the file, and says what to do."""


def read_json(path: Path, *keys: str) -> dict[str, Any]:
    """A JSON object with at least these keys.

    Raises:
        StageFileError: the file is missing or damaged, or of another version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StageFileError(f"{path}: damaged or missing ({error}). {ADVICE}") from error
    missing = [key for key in keys if not isinstance(content, dict) or key not in content]
    if missing or not isinstance(content, dict):
        fault = f"has no {missing[0]!r}" if missing else "is no JSON object"
        raise StageFileError(f"{path}: written by another version: it {fault}. {ADVICE}")
    return content


def read_table(path: Path, **options: Any) -> Any:
    """A CSV file as a pandas DataFrame. Only an empty cell is missing: a class may be called NA.

    Args:
        path: the file.
        options: of `pandas.read_csv`.

    Raises:
        StageFileError: the file is missing, empty or damaged.
    """
    import pandas as pd

    try:
        return pd.read_csv(path, **{"keep_default_na": False, "na_values": [""], **options})
    except (OSError, ValueError) as error:
        raise StageFileError(f"{path}: damaged or missing ({' '.join(str(error).split())}). {ADVICE}") from error


class OutputError(ValueError):
    """A command's result that cannot be written to the chosen folder."""


@contextmanager
def replacing_output(path: Path, mark: str) -> Iterator[Path]:
    """Yield a new folder beside `path`. At the end it replaces `path`; on an error it is removed.

    Unlike with `replacing_folder`, it is on the disk of `path`, which the user chose. An existing folder is
    replaced only if it is empty or an earlier run of the same command wrote it.

    Args:
        path: the folder to write.
        mark: the name of a file that every result of the command has.

    Raises:
        OutputError: `path` has other files in it, or cannot be written.
    """
    if path.exists() and not (path / mark).is_file() and not (path.is_dir() and not any(path.iterdir())):
        raise OutputError(f"--out {path}: has other files in it, and no {mark}. Choose a new folder.")
    scratch = path.absolute().parent / f".{path.name}.unfinished"
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"--out {path}: cannot be written ({error.strerror}). Choose another folder.") from error
    try:
        yield scratch
        if path.exists():
            shutil.rmtree(path)
        scratch.rename(path)
    except OSError as error:  # a full disk
        raise OutputError(
            f"--out {path}: {error.filename or path} failed ({error.strerror}). Choose another folder."
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
