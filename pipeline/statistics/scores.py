"""Scores of the variants of one task and degradation, with their metrics in every resample."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.metrics import Scores, load_records
from pipeline.running.artifacts import record_files
from pipeline.running.seeds import seed_for
from pipeline.settings.grammar import DEGRADED
from pipeline.settings.params import Params
from pipeline.statistics.resampling import resample_weights

Metrics = dict[str, NDArray[np.float64]]
Loaded = TypeVar("Loaded")
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
    def from_records(cls, records: Scores, weights: NDArray[np.int64]) -> "Resampled":
        """Scores of all images."""
        return cls(records.image_ids, weights, records.metrics(), records.metrics(weights))

    @classmethod
    def from_some(cls, records: Scores, weights: NDArray[np.int64], ids: Iterable[str]) -> "Resampled":
        """Scores of some of the images, in the same resamples."""
        chosen = set(ids)
        taken = np.array([image_id in chosen for image_id in records.image_ids], dtype=np.int64)
        image_ids = tuple(image_id for image_id in records.image_ids if image_id in chosen)
        return cls(image_ids, weights, records.metrics(taken[None]), records.metrics(weights * taken))

    @classmethod
    def mean(cls, parts: Sequence["Resampled"]) -> "Resampled":
        """The mean of every metric over systems that were scored in the same resamples."""
        first = parts[0]
        value = {name: np.mean([part.value[name] for part in parts], axis=0) for name in first.value}
        resampled = {name: np.mean([part._resampled[name] for part in parts], axis=0) for name in value}
        return cls(first.image_ids, first.weights, value, resampled)

    @classmethod
    def over_trainings(cls, parts: Sequence["Resampled"], seed: int) -> "Resampled":
        """The mean over several trainings of one restorer; every resample draws as many of them, with replacement.

        The draws depend only on the seed and the number of trainings, so that variants are paired by their trainings.
        """
        if len(parts) == 1:
            return parts[0]
        mean, count = cls.mean(parts), len(parts)
        drawn = (
            np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=len(mean.weights)) / count
        )
        mean._resampled = {
            name: (drawn.T * [part._resampled[name] for part in parts]).sum(axis=0) for name in mean._resampled
        }
        return mean

    def relative_to(self, other: "Resampled") -> "Resampled":
        """Every metric divided by that of another system; NaN where that is 0."""
        return Resampled(
            self.image_ids,
            self.weights,
            {name: _ratio(value, other.value[name]) for name, value in self.value.items()},
            {name: _ratio(value, other._resampled[name]) for name, value in self._resampled.items()},
        )

    def metrics(self, weights: ArrayLike | None = None) -> Metrics:
        """The metrics on the images themselves, or, with any weights, in the resamples of `self.weights`."""
        return self.value if weights is None else self._resampled


@dataclass(frozen=True)
class Cells:
    """One task and degradation: the scores over all severities, and those of each severity by itself."""

    whole: Cell
    severities: Mapping[int | None, Cell]  # None: a published setting, or real photos


def read_cells(
    params: Params,
    folders: Mapping[str, Path],
    severities: Mapping[str, Mapping[str, int]] | None = None,
    load: Callable[[Path], Scores] = load_records,
) -> Cells:
    """Read the records of every variant and resample them together.

    All variants, and all cells with as many images, are resampled with the same weights, so that gains are paired.
    If the split has a copy for each severity, the whole is the mean over the copies. If a restorer was trained
    several times, each score is the mean over the trainings, and a resample draws among them, too.

    Args:
        params: seed and number of resamples.
        folders: variant to the folder that holds <split>/ with its records.
        severities: of each image, by split; without it no severity is known.
        load: reads other scores than the tables', from a file of records or what lies beside it.
    """
    records = {variant: read_trainings(folder, load) for variant, folder in folders.items()}
    splits = list(records[DEGRADED])
    image_count = len(records[DEGRADED][splits[0]][0].image_ids)
    weights = shared_weights(params, image_count)
    seed = seed_for(params.seed, "trainings")

    def cell(split: str, ids: Sequence[str] | None = None) -> Cell:
        return {
            variant: _resampled(_of_split(by_split, split), weights, seed, ids) for variant, by_split in records.items()
        }

    cells = {split: cell(split) for split in splits}
    by_severity: dict[int | None, Cell] = {}
    for split in splits:
        severity_of = severities.get(split, {}) if severities else {}
        for severity in sorted(set(severity_of.values())):
            ids = [image_id for image_id, level in severity_of.items() if level == severity]
            by_severity[severity] = cells[split] if len(ids) == image_count else cell(split, ids)
    whole = _mean_cell(list(cells.values()))
    return Cells(whole, by_severity or {None: whole})


def _of_split(by_split: Mapping[str, list[Scores]], split: str) -> list[Scores]:
    """The trainings' scores of one split; clean images have only one split, the same for each copy."""
    return by_split[split] if split in by_split else next(iter(by_split.values()))


def _resampled(
    trainings: Sequence[Scores], weights: NDArray[np.int64], seed: int, ids: Sequence[str] | None
) -> Resampled:
    """The mean over the trainings of one variant, of all images or of those with these ids."""
    if ids is None:
        parts = [Resampled.from_records(scores, weights) for scores in trainings]
    else:
        parts = [Resampled.from_some(scores, weights, ids) for scores in trainings]
    return Resampled.over_trainings(parts, seed)


def _mean_cell(cells: Sequence[Cell]) -> Cell:
    """The mean of every variant's scores over the copies of a split."""
    if len(cells) == 1:
        return cells[0]
    return {variant: Resampled.mean([cell[variant] for cell in cells]) for variant in cells[0]}


def shared_weights(params: Params, images: int) -> NDArray[np.int64]:
    """How often each of N images is taken in each resample, (R, N): the same for everything about these images."""
    return resample_weights(images, params.statistics.resamples, seed_for(params.seed, "bootstrap"))


def read_trainings(folder: Path, load: Callable[[Path], Loaded]) -> dict[str, list[Loaded]]:
    """What `load` makes of the records of each split, one for each training of the restorer."""
    return {split: [load(file) for file in files] for split, files in record_files(folder).items()}


def _ratio(value: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(value, reference, out=np.full(value.shape, np.nan), where=reference != 0)
