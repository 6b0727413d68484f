"""The severities between which restoring helps: where its gain becomes positive, and where that ends."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.statistics.comparison import too_little, undefined, variance_components
from pipeline.statistics.resampling import LEVEL
from pipeline.statistics.systems import Floats, System

PLACES = 50  # between two severities at which the gain and its interval are evaluated


@dataclass(frozen=True)
class HelpfulRange:
    """The first and the last severity at which a gain is positive, with linear interpolation between measured ones.

    -inf is milder than all measured severities, inf is more severe. So `starts` is -inf if restoring helps from the
    mildest one on, and inf if it never helps; `stops` is inf if it still helps at the most severe one, and -inf if it
    never helps.

    Attributes:
        starts: the severity from which the gain is positive.
        starts_low: below it the gain's interval excludes a gain; NaN if the data cannot support an interval.
        starts_high: from here on the gain's interval excludes 0.
        stops: the severity up to which the gain is positive.
        stops_low: up to here the gain's interval excludes 0; NaN if the data cannot support an interval.
        stops_high: above it the gain's interval excludes a gain.
        reason: why there is no interval, in one sentence; "" if there is one.
    """

    starts: float
    starts_low: float
    starts_high: float
    stops: float
    stops_low: float
    stops_high: float
    reason: str = ""


def helpful_range(gains: Sequence[System], metric: str, level: float = LEVEL) -> HelpfulRange:
    """Where a gain is positive.

    The interval of a crossover has every severity at which the gain's own interval contains 0: the crossover is where
    the true gain is 0, and there the gain's interval fails to contain 0 with probability 1 - level. Between two
    severities the gain is interpolated in every resample, which all severities share.

    Args:
        gains: variant - baseline at S severities, from mild to severe, in the same R resamples.
        metric: one of the systems' metrics.
        level: of confidence.

    Returns:
        Positions on the scale of the index: 0 is the first severity, S - 1 the last.
    """
    values = np.stack([gain.values[metric] for gain in gains])  # (S, K)
    resampled = np.stack([gain.resampled[metric] for gain in gains])  # (S, K, R)
    groups = min(gain.effective_groups for gain in gains)
    positions = np.linspace(0, len(gains) - 1, PLACES * (len(gains) - 1) + 1)
    starts, stops = positive_range(positions, interpolated(values.mean(axis=1), positions))
    reason = too_little(values.shape[1], groups) or next(
        (text for value, sample in zip(values, resampled, strict=True) if (text := undefined(value, sample))), ""
    )
    if reason:
        return HelpfulRange(starts, math.nan, math.nan, stops, math.nan, math.nan, reason)
    pairs = zip(interpolated(values, positions), interpolated(resampled, positions), strict=True)
    intervals = np.array([variance_components(*pair, groups).interval(level) for pair in pairs])  # (P, 2)
    (sure_start, sure_stop), (first, last) = (positive_range(positions, ends) for ends in intervals.T)
    return HelpfulRange(starts, first, sure_start, stops, sure_stop, last)


def interpolated(parts: Floats, positions: Floats) -> Floats:
    """Values at positions between the S parts of an array (S, ...): (P, ...)."""
    places = np.minimum(positions.astype(int), len(parts) - 2)
    share = (positions - places).reshape(-1, *(1,) * (parts.ndim - 1))
    mixed: Floats = (1 - share) * parts[places] + share * parts[places + 1]
    return mixed


def positive_range(positions: Floats, gains: Floats) -> tuple[float, float]:
    """The first and the last position (P,) at which a gain (P,) is positive; see `HelpfulRange`."""
    positive = np.flatnonzero(gains > 0)
    if not positive.size:
        return math.inf, -math.inf
    first, last = positive[0], positive[-1]
    starts = -math.inf if first == 0 else _crossing(positions, gains, first - 1)
    stops = math.inf if last == len(gains) - 1 else _crossing(positions, gains, last)
    return starts, stops


def _crossing(positions: Floats, gains: Floats, place: int) -> float:
    """Where the line from a place to the next one is 0."""
    before, after = gains[place : place + 2]
    return float(positions[place] + (positions[place + 1] - positions[place]) * before / (before - after))
