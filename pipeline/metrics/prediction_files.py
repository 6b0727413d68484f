"""Files of stored predictions: rows of JSON that are written and read one by one."""

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from pipeline.metrics.records import RecordsError
from pipeline.metrics.scoring import Scoring
from pipeline.running.atomic_outputs import ADVICE

PREDICTIONS_FILE = "predictions.json"  # of objects: one object on each line
IMAGES_FILE = "images.json"  # all images, because an image may have no objects
KEPT_BYTES = 2**27  # of the files whose predictions a reader keeps


class RowWriter:
    """Appends rows to a JSON list in an open file, one on each line."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._separator = file, "\n"

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row."""
        self._file.write(self._separator + json.dumps(row))
        self._separator = ",\n"


@contextmanager
def row_writer(path: Path, key: str) -> Iterator[RowWriter]:
    """A context that writes {key: [rows]} to a file; it is complete when the context ends without an error."""
    with path.open("w") as file:
        file.write(f'{{"{key}": [')
        yield RowWriter(file)
        file.write("\n]}\n")


def read_rows(path: Path, key: str) -> Iterator[dict[str, Any]]:
    """The rows of a file of `row_writer`, one by one. Call it inside `naming_file`, which names the file in errors.

    Raises:
        RecordsError: the file is cut off or holds something else.
    """
    ended = False
    with path.open() as file:
        if next(file, "") != f'{{"{key}": [\n':
            raise RecordsError(f"expected a list of {key}, one on each line")
        for line in file:
            ended = line == "]}\n"
            if line.strip() and not ended:
                yield json.loads(line.rstrip(",\n"))
    if not ended:
        raise RecordsError("cut off")


class PredictionReader:
    """Reads stored predictions, and keeps those that it read last: several tables and pictures need the same ones."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Path, tuple[int, Mapping[str, Any]]] = OrderedDict()  # bytes and predictions

    def read(self, scoring: type[Scoring[Any]], folder: Path) -> Mapping[str, Any]:
        """The predictions in a folder, by image id.

        Raises:
            RecordsError: they are missing or damaged.
        """
        if folder not in self._kept:
            size = sum(file.stat().st_size for file in folder.glob("*.json"))
            self._kept[folder] = size, scoring.read(folder)
            while len(self._kept) > 1 and sum(kept for kept, _ in self._kept.values()) > KEPT_BYTES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(folder)
        return self._kept[folder][1]


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """A context that turns any error in reading stored predictions into an error that names their file.

    Raises:
        RecordsError: the file is missing, damaged or of another version.
    """
    try:
        yield
    except Exception as error:  # JSON of any content
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RecordsError(f"{path}: not readable predictions, or of another version ({reason}). {ADVICE}") from error
