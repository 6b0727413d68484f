"""Records: scores stored per image, from which a metric is computed on any resample of the images.

This module has their protocol and file format, the records of metrics that are means over images, and arithmetic.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.running.atomic_outputs import ADVICE

Metrics = dict[str, NDArray[np.float64]]  # by name, one number for each resample or training


class RecordsError(ValueError):
    """Scores that cannot be stored, read or resampled. The text says which, and what was expected."""


class Scores(Protocol):
    """Scores of one system on N images that can be computed on any resample of them."""

    @property
    def image_ids(self) -> tuple[str, ...]:
        """N ids, in the order of the columns of `weights`."""

    def metrics(self, weights: ArrayLike | None = None) -> Metrics:
        """The dataset's metrics in each of R resamples, each (R,); NaN where a metric is undefined.

        Args:
            weights: (R, N), how often each image is taken; None: each once, R = 1.

        Raises:
            RecordsError: weights of another shape, negative or not finite.
        """


class Records(Scores, Protocol):
    """Per-image scores of one system, in a form that can be stored."""

    def image_scores(self) -> dict[str, NDArray[np.float64]]:
        """Scores of each image by itself, (N,) each; NaN where undefined."""

    def missing_truth(self) -> str:
        """What the labels lack, so that no score of them means anything; "" if they lack nothing."""

    def save(self, path: Path) -> None:
        """Write an .npz file; the same records give the same bytes."""


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


ONE_CLASS = "there is one class, so that every prediction is right"


def write_arrays(path: Path, kind: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays without pickles; the same content gives the same bytes, whenever it is written.

    NumPy stores the zip epoch (1980) as the time of each member of an .npz, which a test checks.
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
        # np.load would leave a broken file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except Exception as error:  # zip, zlib and NumPy raise different types for a broken file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RecordsError(f"{path}: not a readable file of records ({reason}). {ADVICE}") from error
    if "kind" not in arrays:
        raise RecordsError(f"{path}: an .npz file, but not one of records (it has no entry 'kind'). {ADVICE}")
    return arrays


def read_kind(path: Path, kind: str) -> dict[str, NDArray[Any]]:
    """As `read_arrays`, for records of one kind.

    Raises:
        RecordsError: as for `read_arrays`, or the file holds another kind.
    """
    arrays = read_arrays(path)
    if str(arrays["kind"]) != kind:
        raise RecordsError(f"{path}: expected {kind} records, got {arrays['kind']} records. {ADVICE}")
    return arrays


def names_of(arrays: Mapping[str, NDArray[Any]], entry: str) -> tuple[str, ...]:
    """A stored one-dimensional array of text as a tuple."""
    return tuple(str(name) for name in arrays[entry])


@dataclass(frozen=True)
class MeanRecords:
    """Metrics that are means over images. `values` maps a metric's name to one number for each image, (N,).

    A value may be infinite (the PSNR of two equal images): the mean is infinite if that image is taken.
    """

    kind: ClassVar[str] = "mean"

    image_ids: tuple[str, ...]
    values: dict[str, NDArray[np.float64]]

    @classmethod
    def from_values(cls, values: Mapping[str, Mapping[str, float]]) -> "MeanRecords":
        """Gather {image id: {metric: value}}; images are put in the order of their ids.

        Raises:
            RecordsError: an image lacks a metric that another has, or a value is NaN.
        """
        ids = tuple(sorted(values))
        metrics = tuple(dict.fromkeys(metric for name in ids for metric in values[name]))
        for name in ids:
            for metric in metrics:
                if np.isnan(values[name].get(metric, np.nan)):
                    raise RecordsError(f"image {name!r}: expected a number for {metric}, got none or NaN")
        columns = {metric: np.array([values[name][metric] for name in ids], float) for metric in metrics}
        return cls(ids, columns)

    def metrics(self, weights: ArrayLike | None = None) -> Metrics:
        """Weighted means, each (R,); NaN for a resample without images. See `Records.metrics`."""
        taken = check_weights(weights, len(self.image_ids))
        return {metric: _weighted_mean(values, taken) for metric, values in self.values.items()}

    def image_scores(self) -> dict[str, NDArray[np.float64]]:
        """The values themselves."""
        return self.values

    def missing_truth(self) -> str:
        """Nothing: these metrics need no labels, or every image has its own."""
        return ""

    def save(self, path: Path) -> None:
        """Write an .npz file; the same records give the same bytes."""
        table = np.array(list(self.values.values()), float).reshape(len(self.values), len(self.image_ids))
        names = {"image_ids": np.array(self.image_ids, str), "metric_names": np.array(list(self.values), str)}
        write_arrays(path, self.kind, {**names, "values": table})

    @classmethod
    def load(cls, path: Path) -> "MeanRecords":
        """Read what `save` wrote.

        Raises:
            RecordsError: the file is missing or broken, or holds other records.
        """
        stored = read_kind(path, cls.kind)
        metrics = names_of(stored, "metric_names")
        return cls(names_of(stored, "image_ids"), dict(zip(metrics, stored["values"], strict=True)))


def _weighted_mean(values: NDArray[np.float64], taken: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R,) means; infinite values are kept out of the product, where 0 * inf would give NaN."""
    mean = np.full(len(taken), np.nan)
    total = taken.sum(axis=1)
    finite = np.isfinite(values)
    np.divide(taken @ np.where(finite, values, 0), total, out=mean, where=total > 0)
    for sign in (np.inf, -np.inf):
        mean[(taken[:, values == sign] > 0).any(axis=1)] += sign
    return mean
