"""The metrics of one system on the images themselves and in every resample of their groups, for each training."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics import Scores
from pipeline.metrics.records import Metrics
from pipeline.statistics.resampling import Resamples, effective_groups

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class System:
    """Metrics of K trainings of one system in the same R resamples, computed once for all comparisons.

    Attributes:
        image_ids: N ids.
        groups: G, the number of independent groups of these images.
        effective_groups: the number of equal groups that tell as much.
        trained: whether another seed would give another system: an objective, not the degraded images.
        values: each metric on the images themselves, (K,).
        resampled: each metric in each resample, (K, R).
        rarest_class: name and number of objects of the rarest class in these images, if average precision is among
            the metrics.
    """

    image_ids: tuple[str, ...]
    groups: int
    effective_groups: float
    trained: bool
    values: Metrics
    resampled: Metrics
    rarest_class: tuple[str, int] | None = None

    @classmethod
    def from_tables(
        cls, tables: Sequence[Scores], resamples: Resamples, trained: bool = False, ids: Iterable[str] | None = None
    ) -> "System":
        """Score K tables of the same images, of all images or of those with these ids, in the same resamples.

        Raises:
            ValueError: the tables differ in images.
        """
        image_ids = tables[0].image_ids
        if len(image_ids) != len(resamples.labels) or any(table.image_ids != image_ids for table in tables):
            raise ValueError("all tables must be of the same images in the same order")
        chosen = set(image_ids if ids is None else ids)
        taken = np.array([image_id in chosen for image_id in image_ids], dtype=np.int64)
        rarest_class = getattr(tables[0], "rarest_class", None)  # records of average precision have it
        labels = resamples.labels[taken > 0]
        whole, weights = (None, resamples.weights) if taken.all() else (taken[None], resamples.weights * taken)
        return cls(
            tuple(image_id for image_id in image_ids if image_id in chosen),
            len(np.unique(labels)),
            effective_groups(labels),
            trained,
            _stacked([{name: value[0] for name, value in table.metrics(whole).items()} for table in tables]),
            _stacked([table.metrics(weights) for table in tables]),
            rarest_class(taken) if rarest_class else None,
        )

    @classmethod
    def mean(cls, parts: Sequence["System"]) -> "System":
        """The mean of every metric over parts that were scored in the same resamples, training by training."""
        total = parts[0]
        for part in parts[1:]:
            total = total._combined(part, np.add)
        return total._changed(lambda scores: scores / len(parts))

    @property
    def trainings(self) -> int:
        """K."""
        return max((len(values) for values in self.values.values()), default=1)

    def first(self, trainings: int) -> "System":
        """The same system with its first trainings only."""
        return self._changed(lambda scores: scores[:trainings])

    def only(self, wanted: Callable[[str], bool]) -> "System":
        """The same system with those metrics that are wanted, by name."""
        values, resampled = (
            {name: scores for name, scores in part.items() if wanted(name)} for part in (self.values, self.resampled)
        )
        return replace(self, values=values, resampled=resampled)

    def in_other_resamples(self) -> "System":
        """The same scores in other resamples, for a comparison with scores of other images.

        Independent samples must not share their resamples. Resamples are drawn independently, so the next one serves.
        """
        return replace(self, resampled={name: np.roll(part, 1, axis=1) for name, part in self.resampled.items()})

    def relative_to(self, other: "System") -> "System":
        """Every metric divided by that of another system; NaN where that is 0."""
        return self._combined(other, _ratio)

    def minus(self, other: "System") -> "System":
        """Every metric that both have less that of another system; NaN where either is not finite."""
        return self._combined(other, _difference)

    def _changed(self, operation: Callable[[Floats], Floats]) -> "System":
        values, resampled = (
            {name: operation(scores) for name, scores in part.items()} for part in (self.values, self.resampled)
        )
        return replace(self, values=values, resampled=resampled)

    def _combined(self, other: "System", operation: Callable[[Floats, Floats], Floats]) -> "System":
        names = [name for name in self.values if name in other.values]
        return replace(
            self,
            groups=min(self.groups, other.groups),
            effective_groups=min(self.effective_groups, other.effective_groups),
            values={name: operation(self.values[name], other.values[name]) for name in names},
            resampled={name: operation(self.resampled[name], other.resampled[name]) for name in names},
        )


def _stacked(trainings: Sequence[Metrics]) -> Metrics:
    """The metrics of K trainings, stacked along a new first axis."""
    return {name: np.stack([metrics[name] for metrics in trainings]) for name in trainings[0]}


def _ratio(value: Floats, reference: Floats) -> Floats:
    value, reference = np.broadcast_arrays(value, reference)
    return np.divide(value, reference, out=np.full(value.shape, np.nan), where=reference != 0)


def _difference(minuend: Floats, subtrahend: Floats) -> Floats:
    with np.errstate(invalid="ignore"):  # inf - inf, of equal images: undefined
        difference = minuend - subtrahend
    return np.where(np.isfinite(difference), difference, np.nan)
