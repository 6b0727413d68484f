"""The severities between which restoring helps: where its gain becomes positive, and where it ends."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.statistics.comparison import too_little, undefined
from pipeline.statistics.resampling import LEVEL, interval_tail
from pipeline.statistics.systems import Floats, System


@dataclass(frozen=True)
class HelpfulRange:
    """The first and the last severity at which a gain is positive, between measured ones by linear interpolation.

    -inf is milder than all measured severities, inf is more severe. So `starts` is -inf if restoring helps from the
    mildest one on, and inf if it never helps; `stops` is inf if it still helps at the most severe one, and -inf if it
    never helps.

    Attributes:
        starts: the severity from which the gain is positive.
        starts_low: lower end of its confidence interval; NaN if the data cannot support one.
        starts_high: upper end.
        stops: the severity up to which the gain is positive.
        stops_low: lower end of its confidence interval; NaN if the data cannot support one.
        stops_high: upper end.
        reason: why there is no interval, in one sentence; "" if there is one.
    """

    starts: float
    starts_low: float
    starts_high: float
    stops: float
    stops_low: float
    stops_high: float
    reason: str = ""


def helpful_range(gains: Sequence[System], metric: str, level: float = LEVEL, seed: int = 0) -> HelpfulRange:
    """Where a gain is positive, with percentile intervals.

    All severities are resampled together, so that what makes an image hard at one severity makes it hard at the next.
    With several trainings every resample also draws trainings. A crossover has no variance formula: it can lie outside
    of what was measured.

    Args:
        gains: variant - baseline at S severities, from mild to severe, in the same R resamples.
        metric: one of the systems' metrics.
        level: of confidence.
        seed: of the draws of trainings.

    Returns:
        Positions on the scale of the index: 0 is the first severity, S - 1 the last.
    """
    values = np.stack([gain.values[metric] for gain in gains])  # (S, K)
    resampled = np.stack([gain.resampled[metric] for gain in gains])  # (S, K, R)
    trainings, groups = values.shape[1], min(gain.groups for gain in gains)
    (starts,), (stops,) = positive_range(values.mean(axis=1)[:, None])
    reason = too_little(trainings, groups) or next(
        (text for value, sample in zip(values, resampled, strict=True) if (text := undefined(value, sample))), ""
    )
    if reason:
        return HelpfulRange(starts, math.nan, math.nan, stops, math.nan, math.nan, reason)
    drawn = _with_drawn_trainings(resampled, seed)
    drawn = drawn[:, np.isfinite(drawn).all(axis=0)]
    tail = interval_tail(groups, level)
    ends = [_interval(positions, tail) for positions in positive_range(drawn)]
    return HelpfulRange(starts, *ends[0], stops, *ends[1])


def positive_range(gains: Floats) -> tuple[Floats, Floats]:
    """The first and the last position at which gains (S, R) are positive, (R,) each; see `HelpfulRange`."""
    last = len(gains) - 1
    positive = gains > 0
    ever, columns = positive.any(axis=0), np.arange(gains.shape[1])
    first_place, last_place = positive.argmax(axis=0), last - positive[::-1].argmax(axis=0)
    starts = _crossing(gains, np.maximum(first_place - 1, 0), columns)
    starts = np.where(ever, np.where(first_place == 0, -np.inf, starts), np.inf)
    stops = _crossing(gains, np.minimum(last_place, last - 1), columns)
    return starts, np.where(ever, np.where(last_place == last, np.inf, stops), -np.inf)


def _crossing(gains: Floats, places: NDArray[np.intp], columns: NDArray[np.intp]) -> Floats:
    """Where the line from each place to the next one is 0."""
    before, after = gains[places, columns], gains[places + 1, columns]
    with np.errstate(divide="ignore", invalid="ignore"):
        return places + before / (before - after)


def _with_drawn_trainings(resampled: Floats, seed: int) -> Floats:
    """The mean gain of K drawn trainings in each resample: (S, K, R) to (S, R)."""
    trainings, resamples = resampled.shape[1:]
    if trainings == 1:
        return resampled[:, 0]
    chosen = np.random.default_rng(seed).integers(trainings, size=(trainings, resamples))
    return np.take_along_axis(resampled, np.broadcast_to(chosen, resampled.shape), axis=1).mean(axis=1)


def _interval(positions: Floats, tail: float) -> tuple[float, float]:
    """The quantiles of positions that may be infinite: positions that occur, without interpolation."""
    ordered = np.sort(positions)
    place = math.floor(tail * len(ordered))
    return float(ordered[place]), float(ordered[len(ordered) - 1 - place])
