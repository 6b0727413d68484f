"""Intervals and p-values for metrics of a whole data set, by resampling its images.

One matrix of weights (`resample_weights`) serves every system of a comparison. Variant and baseline are always
computed on the same resamples: hard images are hard for both and cancel in the gain.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from pipeline.metrics import Scores

LEVEL = 0.95
MOST_RESAMPLES = 10**6  # more would take too long
MOST_UNDEFINED = 0.05  # share of resamples in which a metric may be undefined before its interval is


@dataclass(frozen=True)
class Estimate:
    """A metric on the images themselves, with its confidence interval; NaN where undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Gain:
    """Variant minus baseline on the images themselves, its interval and two-sided p-value; NaN where undefined."""

    gain: float
    low: float
    high: float
    p_value: float


def resample_weights(images: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """How often each image is taken in each bootstrap resample: (resamples, images), rows sum to `images`.

    Raises:
        ValueError: fewer than one image or resample.
    """
    if images < 1 or resamples < 1:
        raise ValueError(f"expected at least one image and one resample, got {images} and {resamples}")
    generator = np.random.default_rng(seed)
    return generator.multinomial(images, np.full(images, 1 / images), size=resamples)


def interval(records: Scores, weights: NDArray[np.int64], level: float = LEVEL) -> dict[str, Estimate]:
    """Each metric with its bootstrap interval (`percentile_interval`).

    A metric may be undefined (NaN, infinite) in some resamples: mAP if no image of the resample has an object.
    Those resamples are left out. If they are more than 5 %, the interval is NaN.

    Args:
        records: per-image scores of N images.
        weights: (R, N) from `resample_weights`.
        level: of confidence, between 0 and 1.
    """
    resampled = records.metrics(weights)
    images = len(records.image_ids)
    return {
        name: Estimate(float(value[0]), *percentile_interval(resampled[name], images, level))
        for name, value in records.metrics().items()
    }


def paired_gain(variant: Scores, baseline: Scores, weights: NDArray[np.int64], level: float = LEVEL) -> dict[str, Gain]:
    """Gain of a variant over a baseline in each metric, on the same resamples, with interval and p-value.

    Undefined resamples (of either) are treated as in `interval`.

    Args:
        variant: per-image scores of N images.
        baseline: scores of the same images in the same order, with the same metrics.
        weights: (R, N) from `resample_weights`.
        level: of confidence, between 0 and 1.

    Raises:
        ValueError: the two are not of the same images or have other metrics.
    """
    _check_pair(variant, baseline)
    variant_scores, baseline_scores = variant.metrics(), baseline.metrics()
    if variant_scores.keys() != baseline_scores.keys():
        raise ValueError(f"cannot pair metrics {', '.join(variant_scores)} with {', '.join(baseline_scores)}")
    variant_resampled, baseline_resampled = variant.metrics(weights), baseline.metrics(weights)
    images = len(variant.image_ids)
    gains = {}
    for name in variant_scores:
        resampled = _difference(variant_resampled[name], baseline_resampled[name])
        low, high = percentile_interval(resampled, images, level)
        gain = float(_difference(variant_scores[name], baseline_scores[name])[0])
        gains[name] = Gain(gain, low, high, bootstrap_p_value(resampled, images))
    return gains


def percentile_interval(resampled: NDArray[np.float64], images: int, level: float = LEVEL) -> tuple[float, float]:
    """Expanded percentile interval from a bootstrap distribution (R,) over N images.

    The plain interval, between the quantiles alpha/2 and 1 - alpha/2, is too narrow for few images. Here
    alpha/2 gives way to Phi(sqrt(N / (N - 1)) * t(alpha/2; N - 1)), which makes the interval of a mean as
    wide as Student's. Its coverage was closer to 95 % than that of the plain percentile and the BCa interval
    when two systems of equal skill were compared over and over (benchmarks/intervals.py).
    Source: Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69 (2015).

    Returns:
        (low, high); NaN, NaN for a single image, or where over 5 % of the resamples are not finite.
    """
    defined = _defined(resampled)
    if not defined.size or images < 2:
        return float("nan"), float("nan")
    tail = special.ndtr(_inflation(images) * special.stdtrit(images - 1, (1 - level) / 2))
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap_p_value(resampled: NDArray[np.float64], images: int) -> float:
    """Two-sided p-value of 'no gain' from the bootstrap distribution (R,) of a gain over N images.

    q = (1 + min(#{g <= 0}, #{g >= 0})) / (R + 1), at most 1/2, is the smaller tail; the added 1 keeps it
    above 0 (Davison and Hinkley, "Bootstrap methods and their application", 1997, chapter 4). The p-value is
    the alpha whose interval (`percentile_interval`) ends at 0, with Student's distribution function T:
    p = 2 * T(Phi^-1(q) / sqrt(N / (N - 1)); N - 1). So the table's p-values and intervals do not contradict each
    other, as those of a permutation test could, whose null (the two systems' results are exchangeable image
    by image) is also narrower than 'no gain'.

    R limits how small p can be: about 2 / (R + 1), more for few images (0.005 for R = 1000, N = 30). A Holm
    correction of m comparisons needs that times m to be below 0.05: `resamples_for` says which R lets it.

    Returns:
        NaN for a single image, or where over 5 % of the resamples are not finite.
    """
    defined = _defined(resampled)
    if not defined.size or images < 2:
        return float("nan")
    beyond = min(np.count_nonzero(defined <= 0), np.count_nonzero(defined >= 0))
    return _p_value(min(0.5, (1 + beyond) / (defined.size + 1)), images)


def one_sided_p_value(resamples: int, images: int) -> float:
    """The p-value of a gain with a single resample on the other side of 0.

    Below it all resamples lie on one side, and only their number bounds the p-value.
    """
    return _p_value(min(0.5, 2 / (resamples + 1)), images)


def resamples_for(p_value: float, images: int) -> int | None:
    """The fewest resamples over N images with which `bootstrap_p_value` can be below this value, between 0 and 1.

    The inverse of its formula at q = 1 / (R + 1).

    Returns:
        None for a single image, and if it takes over a million resamples: only more images help then.
    """
    if images < 2:
        return None
    tail = special.ndtr(_inflation(images) * special.stdtrit(images - 1, p_value / 2))
    return math.ceil(1 / tail) if tail * MOST_RESAMPLES > 1 else None


def _p_value(tail: float, images: int) -> float:
    return float(2 * special.stdtr(images - 1, special.ndtri(tail) / _inflation(images)))


def _inflation(images: int) -> float:
    """The factor by which a bootstrap's spread is too small: it follows the population formula."""
    return float(np.sqrt(images / (images - 1)))


def recovered(variant: float, degraded: float, clean: float) -> float:
    """The share of the lost score that was recovered: 0 = as degraded, 1 = as clean; no bounds.

    (variant - degraded) / (clean - degraded), NaN where clean equals degraded: nothing was lost.
    """
    lost = clean - degraded
    return (variant - degraded) / lost if lost else float("nan")


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for the family of all comparisons shown, in the order given.

    The k-th smallest of m is multiplied by m - k + 1 and never falls below a smaller one's. NaN (no test was
    possible) stays NaN and does not count as a comparison.
    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    values = np.asarray(p_values, dtype=np.float64)
    tested = np.flatnonzero(~np.isnan(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    scaled = values[order] * np.arange(len(order), 0, -1)
    adjusted = np.full(len(values), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return adjusted.tolist()


def _defined(resampled: NDArray[np.float64]) -> NDArray[np.float64]:
    """The finite resamples, or none of them where more than 5 % are not finite."""
    defined = resampled[np.isfinite(resampled)]
    return defined if defined.size >= (1 - MOST_UNDEFINED) * resampled.size else defined[:0]


def _difference(variant: NDArray[np.float64], baseline: NDArray[np.float64]) -> NDArray[np.float64]:
    """Variant minus baseline; NaN where either is undefined or infinite."""
    defined = np.isfinite(variant) & np.isfinite(baseline)
    return np.subtract(variant, baseline, out=np.full(variant.shape, np.nan), where=defined)


def _check_pair(variant: Scores, baseline: Scores) -> None:
    if variant.image_ids == baseline.image_ids:
        return
    only = sorted(set(variant.image_ids) ^ set(baseline.image_ids))
    reason = f"image {only[0]!r} is in one of them only" if only else "their order differs"
    raise ValueError(f"variant and baseline must be scored on the same images, but {reason}")
