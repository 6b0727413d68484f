"""Scores of the variants of one task and degradation, with their metrics in every resample. Not a stage."""

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

    @classmethod
    def over_trainings(cls, parts: Sequence["Resampled"], seed: int) -> "Resampled":
        """The mean over several trainings of the same restorer; every resample draws as many of them with replacement.

        The draws depend on the seed and the number of trainings alone, so that variants are paired by their trainings.
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


def read_cells(
    params: Params,
    folders: Mapping[str, Path],
    severities: Mapping[str, Mapping[str, int]] | None = None,
    load: Callable[[Path], Scores] = load_records,
) -> Cells:
    """Read the records of every variant and resample them together.

    All variants, and all cells with as many images, are resampled with the same weights, so that gains are paired.
    Where the split has a copy for each severity, the whole is the mean over the copies. Where a restorer was trained
    several times, each score is the mean over the trainings, and a resample draws among them, too.

    Args:
        params: seed and number of resamples.
        folders: variant to the folder that holds <split>/ with its records.
        severities: of each image, by split; without it no severity is known.
        load: reads other scores than the tables', from a file of records or what lies beside it.
    """
    found = {v: read_trainings(folder, load) for v, folder in folders.items()}
    splits = list(found[DEGRADED])
    images = len(found[DEGRADED][splits[0]][0].image_ids)
    weights = shared_weights(params, images)
    draw_seed = seed_for(params.seed, "trainings")
    # The clean images are the same for each copy of the split.
    every = {v: {s: own[s] if s in own else next(iter(own.values())) for s in splits} for v, own in found.items()}

    def score(records: Sequence[Scores], ids: Iterable[str] | None = None) -> Resampled:
        if ids is None:
            return Resampled.over_trainings([Resampled.from_records(one, weights) for one in records], draw_seed)
        return Resampled.over_trainings([Resampled.from_some(one, weights, ids) for one in records], draw_seed)

    parts = {s: {v: score(own[s]) for v, own in every.items()} for s in splits}
    whole = {v: Resampled.mean([parts[s][v] for s in splits]) for v in every} if len(splits) > 1 else parts[splits[0]]
    own_cells: dict[int | None, Cell] = {}
    for split in splits:
        levels = (severities or {}).get(split, {})
        for level in sorted(set(levels.values())):
            ids = [id for id, its in levels.items() if its == level]
            all_of_them = len(ids) == images
            own_cells[level] = parts[split] if all_of_them else {v: score(own[split], ids) for v, own in every.items()}
    return Cells(whole, own_cells or {None: whole})


def shared_weights(params: Params, images: int) -> NDArray[np.int64]:
    """How often each of N images is taken in each resample, (R, N): the same for everything about these images."""
    return resample_weights(images, params.statistics.resamples, seed_for(params.seed, "bootstrap"))


def read_trainings(folder: Path, load: Callable[[Path], Loaded]) -> dict[str, list[Loaded]]:
    """What `load` makes of the records of each split, one for each training of the restorer."""
    return {split: [load(file) for file in files] for split, files in record_files(folder).items()}


def _share(value: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(value, whole, out=np.full(value.shape, np.nan), where=whole != 0)
