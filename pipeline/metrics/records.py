"""What all records share: the check of resampling weights, safe ratios, and their files on disk."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

PREDICTIONS_FILE = "predictions.json"  # of objects: one on each line
IMAGES_FILE = "images.json"  # which images the objects are of: some have none


class RecordsError(ValueError):
    """Scores that cannot be stored, read or resampled; the text says which and what was expected."""


def check_weights(weights: ArrayLike | None, images: int) -> NDArray[np.float64]:
    """Resampling weights as float64 (R, N); None stands for one pass in which each image is taken once.

    Raises:
        RecordsError: the shape is not (R, images), or a weight is negative or not finite.
    """
    if weights is None:
        return np.ones((1, images))
    checked = np.asarray(weights, dtype=np.float64)
    if checked.ndim != 2 or checked.shape[1] != images:
        raise RecordsError(f"expected weights of shape (resamples, {images} images), got {checked.shape}")
    if not np.all((checked >= 0) & (checked < np.inf)):
        raise RecordsError("expected weights that are finite and not negative: how often each image is taken")
    return checked


def ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """Element-wise quotient, NaN where the denominator is 0; the two shapes are broadcast."""
    shape = np.broadcast_shapes(numerator.shape, denominator.shape)
    return np.divide(numerator, denominator, out=np.full(shape, np.nan), where=denominator != 0)


def mean_of_defined(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the last axis of the entries that are not NaN; NaN where there are none."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0).sum(axis=-1), defined.sum(axis=-1).astype(np.float64))


def write_arrays(path: Path, kind: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays without pickles; the same content gives the same bytes, whenever it is written.

    NumPy stamps each member of an .npz with the zip epoch (1980), not with the time; a test watches that.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, kind=np.array(kind), **arrays)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read what `write_arrays` wrote; the entry `kind` names the class of records.

    Raises:
        RecordsError: the file is missing, broken or holds no records.
    """
    try:
        # Opened here, since np.load leaves a broken file open that it opened itself.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except Exception as error:  # zip, zlib and NumPy each have their own ways to refuse a broken file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RecordsError(f"{path}: not a readable file of records ({reason})") from error
    if "kind" not in arrays:
        raise RecordsError(f"{path}: an .npz file, but not one of records (it has no entry 'kind')")
    return arrays


def read_kind(path: Path, kind: str) -> dict[str, NDArray[Any]]:
    """Like `read_arrays`, for records of one kind.

    Raises:
        RecordsError: see `read_arrays`; also where the file holds another kind.
    """
    arrays = read_arrays(path)
    if str(arrays["kind"]) != kind:
        raise RecordsError(f"{path}: expected {kind} records, got {arrays['kind']} records")
    return arrays


def write_rows(path: Path, kind: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as a JSON list under the key `kind`, one on each line, without keeping them."""
    with path.open("w") as file:
        file.write(f'{{"{kind}": [')
        for number, row in enumerate(rows):
            file.write((",\n" if number else "\n") + json.dumps(row))
        file.write("\n]}\n")


def read_rows(path: Path, kind: str) -> Iterator[dict[str, Any]]:
    """Yield what `write_rows` wrote, row by row; inside `reading`, which names the file.

    Raises:
        RecordsError: the file is cut off or holds something else.
    """
    ended = False
    with path.open() as file:
        if next(file, "") != f'{{"{kind}": [\n':
            raise RecordsError(f"expected a list of {kind}, one on each line")
        for line in file:
            ended = line == "]}\n"
            if line.strip() and not ended:
                yield json.loads(line.rstrip(",\n"))
    if not ended:
        raise RecordsError("cut off")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What goes wrong while stored predictions are read, as an error that names the file.

    Raises:
        RecordsError: the file is missing, broken or of another version.
    """
    try:
        yield
    except Exception as error:  # JSON of any content
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RecordsError(f"{path}: not readable predictions, or of another version ({reason})") from error


def names_of(arrays: Mapping[str, NDArray[Any]], entry: str) -> tuple[str, ...]:
    """A stored one-dimensional array of text as a tuple."""
    return tuple(str(name) for name in arrays[entry])
