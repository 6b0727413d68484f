"""The share of a loss that restoring wins back, with Fieller's interval."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from pipeline.statistics.comparison import too_little, undefined, variance_components
from pipeline.statistics.resampling import LEVEL
from pipeline.statistics.systems import Floats, System

NOTHING_LOST = "clean images score no better than degraded ones: there is no loss to recover"
UNBOUNDED = "the interval of the share has no end: the loss is small beside its uncertainty"
NO_LOSS = "clean and degraded images cannot be told apart: there is no loss to recover"


@dataclass(frozen=True)
class Recovered:
    """The share of the loss that restoring wins back: 0 is as bad as degraded, 1 as good as clean; no bounds.

    Attributes:
        share: (variant - degraded) / (clean - degraded); NaN unless the interval of the loss lies above 0.
        low: lower end of its confidence interval; NaN if the data cannot support one.
        high: upper end.
        reason: why there is no interval, in one sentence; "" if there is one.
    """

    share: float
    low: float
    high: float
    reason: str = ""


def recovered_shares(variant: System, degraded: System, clean: System, level: float = LEVEL) -> dict[str, Recovered]:
    """The recovered share of each metric, of systems that were scored in the same resamples."""
    won, lost = variant.minus(degraded), clean.minus(degraded)
    return {
        metric: recovered_share(
            won.values[metric],
            won.resampled[metric],
            float(lost.values[metric].mean()),
            lost.resampled[metric].mean(axis=0),
            won.effective_groups,
            level,
        )
        for metric in won.values
    }


def recovered_share(
    won: Floats, won_resampled: Floats, lost: float, lost_resampled: Floats, groups: float, level: float = LEVEL
) -> Recovered:
    """The recovered share of a loss with Fieller's interval.

    A ratio has no variance near a denominator of 0, so that an interval from its resamples would be far too narrow
    there. Fieller's interval holds every share s for which the t test of a gain does not reject
    won - s * lost = 0. It is bounded only if the loss itself differs from 0.
    Source: Fieller, "Some problems in interval estimation", Journal of the Royal Statistical Society B 16 (1954).

    Args:
        won: (K,) variant - degraded, for each training.
        won_resampled: (K, R) the same in each resample of the groups.
        lost: clean - degraded.
        lost_resampled: (R,) the same in the same resamples.
        groups: G, as the number of equal groups that tell as much.
        level: of confidence.
    """
    reason = too_little(1, groups) or undefined(np.array([lost]), lost_resampled)
    if not reason and lost <= 0:
        reason = NOTHING_LOST
    if reason:
        return Recovered(math.nan, math.nan, math.nan, reason)
    inflation = groups / (groups - 1)
    if lost**2 <= _critical(level, groups - 1) * inflation * float(
        np.var(lost_resampled[np.isfinite(lost_resampled)], ddof=1)
    ):
        return Recovered(math.nan, math.nan, math.nan, NO_LOSS)
    share = float(won.mean()) / lost
    reason = too_little(len(won), groups) or undefined(won, won_resampled)
    if reason:
        return Recovered(share, math.nan, math.nan, reason)
    parts = variance_components(won - share * lost, won_resampled - share * lost_resampled, groups)
    critical = _critical(level, parts.degrees_of_freedom)
    both = np.vstack([won_resampled.mean(axis=0), lost_resampled])
    (won_variance, covariance), (_, lost_variance) = inflation * np.cov(both[:, np.isfinite(both).all(axis=0)])
    gain = float(won.mean())
    square = lost**2 - critical * lost_variance
    if square <= 0:  # fewer degrees of freedom than the test of the loss above has
        return Recovered(share, math.nan, math.nan, UNBOUNDED)
    middle = gain * lost - critical * covariance
    rest = gain**2 - critical * (won_variance + parts.between_trainings)
    root = math.sqrt(max(middle**2 - square * rest, 0.0))
    return Recovered(share, (middle - root) / square, (middle + root) / square)


def _critical(level: float, degrees_of_freedom: float) -> float:
    """The square of Student's t that an estimate must exceed to differ from 0."""
    return float(special.stdtrit(degrees_of_freedom, (1 + level) / 2)) ** 2
