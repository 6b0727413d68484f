"""Gains with intervals that cover the choice of images and the randomness of training.

A gain is the mean over K trainings of (variant - baseline) on G groups of images. Its variance has two parts: which
groups were photographed, and which seeds were drawn. Both are estimated and added; Student's t with Satterthwaite's
degrees of freedom gives interval and p-value. docs/explanation/statistics.md has the simulations behind every constant.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from pipeline.metrics import Scores

LEVEL = 0.95
FEWEST_GROUPS = 5  # with fewer, the variance between groups is a guess
FEWEST_TRAININGS = 3  # with two, the interval excludes the truth in up to 12 % of cases instead of 5 %
FEWEST_FOR_VERDICTS = 5  # trainings for a verdict that is corrected for several comparisons
TRAINING_DF = 0.7  # of the K - 1 degrees of freedom: Satterthwaite's formula takes estimates for the truth
MOST_UNDEFINED = 0.05  # share of resamples in which a metric may be undefined

ONE_TRAINING = "one training each: set train_restorer.repeats to 5 or more"
TWO_TRAININGS = "two trainings: an interval needs at least 3, a verdict 5; raise train_restorer.repeats"
UNDEFINED = "the metric is undefined on these images, or in more than 5 % of their resamples"

Floats = NDArray[np.float64]
Tables = Scores | Sequence[Scores]


@dataclass(frozen=True)
class Comparison:
    """The gain of a variant over a baseline in one metric, in the metric's unit.

    Attributes:
        gain: variant - baseline, the mean over trainings, on the images themselves; NaN if undefined.
        low: lower end of the confidence interval; NaN if the data cannot support one.
        high: upper end.
        p_value: two-sided, of "no gain"; NaN with the interval.
        n_images: number of images.
        n_groups: number of groups of images that are independent of each other.
        n_trainings: number of trainings with different seeds; 1 for systems that were not trained repeatedly.
        reason: why there is no interval, in one sentence; "" if there is one.
    """

    gain: float
    low: float
    high: float
    p_value: float
    n_images: int
    n_groups: int
    n_trainings: int
    reason: str = ""


@dataclass(frozen=True)
class VarianceComponents:
    """A gain and the two parts of its variance.

    Attributes:
        gain: the estimate.
        between_groups: variance of the gain from the choice of G groups.
        between_trainings: variance of the gain from the seeds of K trainings; 0 if the seeds are not in question.
        groups: G.
        trainings: K; 1 if the seeds are not in question.
    """

    gain: float
    between_groups: float
    between_trainings: float
    groups: int
    trainings: int

    @property
    def standard_error(self) -> float:
        """Of the gain."""
        return math.sqrt(self.between_groups + self.between_trainings)

    @property
    def degrees_of_freedom(self) -> float:
        """Satterthwaite's, with 70 % of the trainings' degrees of freedom.

        Source: Satterthwaite, "An approximate distribution of estimates of variance components", Biometrics 2 (1946).
        """
        parts = self.between_groups**2 / (self.groups - 1)
        if self.trainings > 1:
            parts += self.between_trainings**2 / (TRAINING_DF * (self.trainings - 1))
        total = self.between_groups + self.between_trainings
        return total**2 / parts if parts else float(self.groups - 1)

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """(low, high) at a level of confidence."""
        half = float(stats.t.ppf((1 + level) / 2, self.degrees_of_freedom)) * self.standard_error
        return self.gain - half, self.gain + half

    @property
    def p_value(self) -> float:
        """Two-sided p-value of "no gain"."""
        if not self.standard_error:
            return 1.0 if not self.gain else 0.0
        return float(2 * stats.t.sf(abs(self.gain) / self.standard_error, self.degrees_of_freedom))


def compare(
    variant: Tables,
    baseline: Tables,
    *,
    groups: ArrayLike | None = None,
    resamples: int = 2000,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, Comparison]:
    """The gain of a variant over a baseline in every metric, with interval and p-value.

    Args:
        variant: one table of per-image scores, or a sequence of them, one for each training. A table has `image_ids`
            (N ids) and `metrics(weights=None) -> {name: (R,)}`, where weights (R, N) says how often each image counts.
        baseline: as `variant`. Two sequences are paired by position: training k of one with training k of the other.
        groups: (N,) labels of images that belong together (a video, a site); None: every image is independent.
        resamples: R, number of bootstrap resamples of the groups.
        level: of confidence, between 0 and 1.
        seed: of the resamples.

    Returns:
        A comparison for each metric. If the data cannot support an interval, low, high and p_value are NaN, and
        `reason` says why.

    Raises:
        ValueError: the tables differ in images, metrics or number, or groups do not fit the images.
    """
    pairs = _pairs(variant, baseline)
    image_ids = pairs[0][0].image_ids
    labels = np.arange(len(image_ids)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if labels.shape != (len(image_ids),):
        raise ValueError(f"groups: expected {len(image_ids)} labels, one for each image, got shape {labels.shape}")
    weights = group_weights(labels, resamples, seed)
    values = [_differences(ours, theirs, None) for ours, theirs in pairs]
    resampled = [_differences(ours, theirs, weights) for ours, theirs in pairs]
    result = {}
    for metric in values[0]:
        gains = np.concatenate([value[metric] for value in values])  # (K,)
        spread = np.array([part[metric] for part in resampled])  # (K, R)
        reason = _objection(variant, baseline, int(labels.max()) + 1, gains, spread)
        count = (len(image_ids), int(labels.max()) + 1, len(pairs))
        if reason:
            result[metric] = Comparison(float(gains.mean()), math.nan, math.nan, math.nan, *count, reason)
        else:
            parts = variance_components(gains, spread, count[1])
            result[metric] = Comparison(parts.gain, *parts.interval(level), parts.p_value, *count)
    return result


def group_weights(labels: NDArray[np.intp], resamples: int, seed: int) -> NDArray[np.int64]:
    """How often each image is taken when its group is drawn with replacement: (R, N).

    Args:
        labels: (N,) index of each image's group, 0 to G - 1.
        resamples: R.
        seed: of the draws.
    """
    groups = int(labels.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), size=resamples)  # (R, G)
    return drawn[:, labels]


def variance_components(gains: Floats, resampled: Floats, groups: int) -> VarianceComponents:
    """A gain with its variance between groups and between trainings.

    The variance between groups is that of the mean gain over resamples of the groups, times G / (G - 1), because a
    bootstrap has the spread of the population formula. The variance between trainings is that of the K gains over K.
    Both contain the interaction of images and trainings, so that their sum is never too small.

    Args:
        gains: (K,) gain of each training on the images themselves.
        resampled: (K, R) the same in each resample of the groups.
        groups: G.
    """
    mean = resampled.mean(axis=0)
    between_groups = float(np.var(mean[np.isfinite(mean)], ddof=1)) * groups / (groups - 1)
    between_trainings = float(np.var(gains, ddof=1)) / len(gains) if len(gains) > 1 else 0.0
    return VarianceComponents(float(gains.mean()), between_groups, between_trainings, groups, len(gains))


def _pairs(variant: Tables, baseline: Tables) -> list[tuple[Scores, Scores]]:
    """One pair of tables for each training; a single table stands against every training."""
    ours, theirs = _as_list(variant), _as_list(baseline)
    if isinstance(variant, Sequence) and isinstance(baseline, Sequence) and len(ours) != len(theirs):
        raise ValueError(f"expected as many trainings of both, got {len(ours)} and {len(theirs)}")
    count = max(len(ours), len(theirs))
    pairs = list(zip(ours * (count // len(ours)), theirs * (count // len(theirs)), strict=True))
    for left, right in pairs:
        if left.image_ids != pairs[0][0].image_ids or right.image_ids != pairs[0][0].image_ids:
            raise ValueError("all tables must be of the same images in the same order")
    return pairs


def _as_list(tables: Tables) -> list[Scores]:
    if not isinstance(tables, Sequence):
        return [tables]
    if not tables:
        raise ValueError("expected at least one table of scores, got none")
    return list(tables)


def _differences(ours: Scores, theirs: Scores, weights: NDArray[np.int64] | None) -> dict[str, Floats]:
    """Variant - baseline in every metric, (R,); NaN where either is not finite."""
    left, right = ours.metrics(weights), theirs.metrics(weights)
    if left.keys() != right.keys():
        raise ValueError(f"expected the same metrics of both, got {', '.join(left)} and {', '.join(right)}")
    with np.errstate(invalid="ignore"):
        gains = {metric: left[metric] - right[metric] for metric in left}
    return {metric: np.where(np.isfinite(gain), gain, np.nan) for metric, gain in gains.items()}


def _objection(variant: Tables, baseline: Tables, groups: int, gains: Floats, resampled: Floats) -> str:
    """Why the data cannot support an interval; "" if they can."""
    if isinstance(variant, Sequence) and isinstance(baseline, Sequence) and len(gains) == 1:
        return ONE_TRAINING
    return too_little(len(gains), groups) or undefined(gains, resampled)


def too_little(trainings: int, groups: int) -> str:
    """Why trainings or groups are too few for an interval; "" if they are not."""
    if 1 < trainings < FEWEST_TRAININGS:
        return TWO_TRAININGS
    if groups < FEWEST_GROUPS:
        return f"{groups} independent group(s) of images: an interval needs at least {FEWEST_GROUPS}"
    return ""


def undefined(values: Floats, resampled: Floats) -> str:
    """Why values, or too many of their resamples, are not defined; "" if they are."""
    defined = np.isfinite(np.atleast_2d(resampled)).all(axis=0)
    return UNDEFINED if not np.isfinite(values).all() or 1 - defined.mean() > MOST_UNDEFINED else ""
