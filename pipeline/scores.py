"""Scores of the variants of one task and degradation, with their metrics in every resample. Not a stage."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.tasks.records import Records, load_records
from pipeline import runtime
from pipeline.identity import CLEAN, DEGRADED, RECORDS_FILE
from pipeline.params import Params
from pipeline.statistics import resample_weights

Metrics = dict[str, NDArray[np.float64]]
Cell = Mapping[str, "Resampled"]  # variant -> its scores


class Resampled:
    """Metrics of one system on the images themselves and in every resample, computed once.

    A variant takes part in several comparisons; they all need the same resamples.

    Args:
        image_ids: N ids.
        weights: (R, N) how often each image is taken in each resample.
        value: each metric on the images themselves, (1,).
        resampled: each metric in each resample, (R,).
    """

    def __init__(
        self, image_ids: tuple[str, ...], weights: NDArray[np.int64], value: Metrics, resampled: Metrics
    ) -> None:
        self.image_ids, self.weights, self.value = image_ids, weights, value
        self._resampled = resampled

    @classmethod
    def from_records(cls, records: Records, weights: NDArray[np.int64]) -> "Resampled":
        """Scores of all images."""
        return cls(records.image_ids, weights, records.metrics(), records.metrics(weights))

    @classmethod
    def from_some(cls, records: Records, weights: NDArray[np.int64], ids: Iterable[str]) -> "Resampled":
        """Scores of some of the images, in the same resamples."""
        chosen = set(ids)
        taken = np.array([id in chosen for id in records.image_ids], dtype=np.int64)
        names = tuple(id for id in records.image_ids if id in chosen)
        return cls(names, weights, records.metrics(taken[None]), records.metrics(weights * taken))

    @classmethod
    def mean(cls, parts: Sequence["Resampled"]) -> "Resampled":
        """The mean of every metric over systems scored in the same resamples: mean performance under corruption."""
        first = parts[0]
        value = {name: np.mean([part.value[name] for part in parts], axis=0) for name in first.value}
        resampled = {name: np.mean([part._resampled[name] for part in parts], axis=0) for name in value}
        return cls(first.image_ids, first.weights, value, resampled)

    def relative_to(self, other: "Resampled") -> "Resampled":
        """Every metric as a share of another system's; NaN where that is 0."""
        return Resampled(
            self.image_ids,
            self.weights,
            {name: _share(value, other.value[name]) for name, value in self.value.items()},
            {name: _share(value, other._resampled[name]) for name, value in self._resampled.items()},
        )

    def metrics(self, weights: ArrayLike | None = None) -> Metrics:
        """As `Records.metrics`, for no weights or for its own."""
        return self.value if weights is None else self._resampled


@dataclass(frozen=True)
class Cells:
    """One task and degradation: the scores over all severities, and those of each severity by itself."""

    whole: Cell
    severities: Mapping[int | None, Cell]  # None: a published setting, or real photos


def read_cells(params: Params, folder: Path, severities: Mapping[str, Mapping[str, int]] | None = None) -> Cells:
    """Read the records of every variant in a folder <variant>/<split>/ and resample them together.

    All variants, and all cells with as many images, are resampled with the same weights, so that gains are paired.
    Where the split has a copy for each severity, the whole is the mean over the copies.

    Args:
        params: seed and number of resamples, and the order of the objectives.
        folder: of the records.
        severities: of each image, by split; without it no severity is known.
    """
    files = {v: sorted((folder / v).glob(f"*/{RECORDS_FILE}")) for v in _in_order(params, folder)}
    found = {v: {file.parent.name: load_records(file) for file in own} for v, own in files.items()}
    splits = list(found[DEGRADED])
    images = len(found[DEGRADED][splits[0]].image_ids)
    weights = resample_weights(images, params.statistics.resamples, runtime.seed_for(params.seed, "bootstrap"))
    # The clean images are the same for each copy of the split.
    every = {v: {s: own[s] if s in own else next(iter(own.values())) for s in splits} for v, own in found.items()}
    parts = {s: {v: Resampled.from_records(own[s], weights) for v, own in every.items()} for s in splits}
    whole = {v: Resampled.mean([parts[s][v] for s in splits]) for v in every} if len(splits) > 1 else parts[splits[0]]
    own_cells: dict[int | None, Cell] = {}
    for split in splits:
        levels = (severities or {}).get(split, {})
        for level in sorted(set(levels.values())):
            ids = [id for id, its in levels.items() if its == level]
            same = len(ids) == images
            own_cells[level] = {
                v: parts[split][v] if same else Resampled.from_some(own[split], weights, ids)
                for v, own in every.items()
            }
    return Cells(whole, own_cells or {None: whole})


def _in_order(params: Params, folder: Path) -> list[str]:
    """The variants that a folder holds: clean, degraded, the objectives as listed, then the others."""
    there = {path.name for path in folder.iterdir() if path.is_dir()}
    first = [name for name in (CLEAN, DEGRADED, *params.objectives) if name in there]
    return first + sorted(there - set(first))


def _share(value: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(value, whole, out=np.full(value.shape, np.nan), where=whole != 0)
