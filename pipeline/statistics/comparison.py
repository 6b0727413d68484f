"""Gains with intervals that cover the choice of images and the randomness of training.

A gain is the mean over K trainings of (variant - baseline) on G groups of images. Its variance has two parts: which
groups were photographed, and which seeds were drawn. Both are estimated and added; Student's t with Satterthwaite's
degrees of freedom gives interval and p-value. docs/explanation/statistics.md has the simulations behind every constant.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from pipeline.metrics import Scores
from pipeline.statistics.resampling import LEVEL, MOST_UNDEFINED, Resamples
from pipeline.statistics.systems import Floats, System

FEWEST_GROUPS = 5  # with fewer, the variance between groups is a guess
FEWEST_TRAININGS = 3  # two give the variance between trainings a single degree of freedom
FEWEST_OBJECTS = 25  # of the rarest class; with 9, intervals of average precision exclude the truth in up to 10 %
FEWEST_FOR_VERDICTS = 5  # trainings for a verdict that is corrected for several comparisons

ONE_TRAINING = "one training each: set train_restorer.repeats to 5 or more"
TWO_TRAININGS = "two trainings: an interval needs at least 3, a verdict 5; raise train_restorer.repeats"
NO_SPREAD = "every resample of the images has the same gain, and they are too few to say how much others would gain"
UNDEFINED = "the metric is undefined on these images, or in more than 5 % of their resamples"

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
        groups: G, as the number of equal groups that tell as much.
        trainings: K; 1 if the seeds are not in question.
    """

    gain: float
    between_groups: float
    between_trainings: float
    groups: float
    trainings: int

    @property
    def standard_error(self) -> float:
        """Of the gain."""
        return math.sqrt(self.between_groups + self.between_trainings)

    @property
    def degrees_of_freedom(self) -> float:
        """Satterthwaite's, with part of the trainings' K - 1 degrees of freedom.

        His formula takes estimated variances for true ones. If the trainings look alike by chance, it promises too many
        degrees of freedom. So only half of the trainings' count, and all of them if no other variance is left.
        Source: Satterthwaite, "An approximate distribution of estimates of variance components", Biometrics 2 (1946).
        """
        total = self.between_groups + self.between_trainings
        if not total:
            return self.groups - 1
        parts = self.between_groups**2 / (self.groups - 1)
        if self.between_trainings:
            counted = (1 + (self.between_trainings / total) ** 10) / 2  # of the trainings' degrees of freedom
            parts += self.between_trainings**2 / (counted * (self.trainings - 1))
        return total**2 / parts

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """(low, high) at a level of confidence."""
        half = float(special.stdtrit(self.degrees_of_freedom, (1 + level) / 2)) * self.standard_error
        return self.gain - half, self.gain + half

    @property
    def p_value(self) -> float:
        """Two-sided p-value of "no gain". Without any spread it is that of the sign test of G equal signs."""
        if not self.standard_error:
            return float(2 ** (1 - self.groups)) if self.gain else 1.0
        return float(2 * special.stdtr(self.degrees_of_freedom, -abs(self.gain) / self.standard_error))


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
        resamples: R, number of bootstrap resamples of the groups, at least 2.
        level: of confidence, between 0 and 1.
        seed: of the resamples.

    Returns:
        A comparison for each metric. If the data cannot support an interval, low, high and p_value are NaN, and
        `reason` says why.

    Raises:
        ValueError: the tables differ in images, metrics or number, or groups or resamples do not fit.
    """
    if resamples < 2:
        raise ValueError(f"resamples: expected at least 2, got {resamples}")
    ours, theirs = _as_list(variant), _as_list(baseline)
    if not ours or not theirs:
        raise ValueError("expected at least one table of scores, got none")
    both_trained = isinstance(variant, Sequence) and isinstance(baseline, Sequence)
    if both_trained and len(ours) != len(theirs):
        raise ValueError(f"expected as many trainings of both, got {len(ours)} and {len(theirs)}")
    images = len(ours[0].image_ids)
    labels = np.arange(images) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if labels.shape != (images,):
        raise ValueError(f"groups: expected {images} labels, one for each image, got shape {labels.shape}")
    drawn = Resamples.draw(labels, resamples, seed)
    systems = [System.from_tables(tables, drawn, trained=both_trained) for tables in (ours, theirs)]
    return compare_systems(systems[0], systems[1], level)


def compare_systems(variant: System, baseline: System, level: float = LEVEL) -> dict[str, Comparison]:
    """As `compare`, for systems that were scored in the same resamples.

    Raises:
        ValueError: the systems differ in images or metrics.
    """
    if variant.image_ids != baseline.image_ids:
        raise ValueError("all tables must be of the same images in the same order")
    if variant.values.keys() != baseline.values.keys():
        metrics = ", ".join(variant.values), ", ".join(baseline.values)
        raise ValueError("expected the same metrics of both, got {} and {}".format(*metrics))
    difference = variant.minus(baseline)
    return estimate(difference, level, ONE_TRAINING if trained_once(variant, baseline) else "")


def trained_once(variant: System, baseline: System) -> bool:
    """Whether two trained systems are compared, and nobody knows what other seeds would give of at least one."""
    return variant.trained and baseline.trained and min(variant.trainings, baseline.trainings) == 1


def estimate(difference: System, level: float = LEVEL, reason: str = "") -> dict[str, Comparison]:
    """Each metric of a difference, or of a system itself, with its interval and the p-value of 0.

    Args:
        difference: K trainings in R resamples.
        level: of confidence.
        reason: why there can be no interval, if that is known.
    """
    result = {}
    count = (len(difference.image_ids), difference.groups, difference.trainings)
    groups = difference.effective_groups
    for metric, values in difference.values.items():
        resampled = difference.resampled[metric]
        gain, objection = float(values.mean()), reason or too_little(count[2], groups) or undefined(values, resampled)
        if not objection:
            parts = variance_components(values, resampled, groups)
            contradicts = not parts.standard_error and gain and parts.p_value > 1 - level
            objection = NO_SPREAD if contradicts else ""
        if objection:
            result[metric] = Comparison(gain, math.nan, math.nan, math.nan, *count, objection)
        else:
            result[metric] = Comparison(gain, *parts.interval(level), parts.p_value, *count)
    return result


def variance_components(gains: Floats, resampled: Floats, groups: float) -> VarianceComponents:
    """A gain with its variance between groups and between trainings.

    The variance between groups is that of the mean gain over resamples of the groups, times G / (G - 1), because a
    bootstrap has the spread of the population formula. The variance between trainings is that of the K gains over K.
    Both contain the interaction of images and trainings, so that their sum is never too small.

    Args:
        gains: (K,) gain of each training on the images themselves.
        resampled: (K, R) the same in each resample of the groups.
        groups: G, as the number of equal groups that tell as much.
    """
    mean = resampled.mean(axis=0)
    between_groups = float(np.var(mean[np.isfinite(mean)], ddof=1)) * groups / (groups - 1)
    between_trainings = float(np.var(gains, ddof=1)) / len(gains) if len(gains) > 1 else 0.0
    return VarianceComponents(float(gains.mean()), between_groups, between_trainings, groups, len(gains))


def _as_list(tables: Tables) -> list[Scores]:
    return list(tables) if isinstance(tables, Sequence) else [tables]


def too_little(trainings: int, groups: float) -> str:
    """Why trainings or groups are too few for an interval; "" if they are not.

    Args:
        trainings: K.
        groups: the number of equal groups that tell as much.
    """
    if 1 < trainings < FEWEST_TRAININGS:
        return TWO_TRAININGS
    if groups >= FEWEST_GROUPS:
        return ""
    if groups == int(groups):
        return f"{groups:.0f} independent group(s) of images: an interval needs at least {FEWEST_GROUPS}"
    return (
        f"groups of very different sizes, which tell as much as {groups:.1f} equal ones: "
        f"an interval needs at least {FEWEST_GROUPS}"
    )


def score_intervals(system: System, level: float = LEVEL) -> dict[str, Comparison]:
    """A system's scores with their intervals, as `estimate`; none for average precision of too few objects."""
    name, objects = system.rarest_class or ("", FEWEST_OBJECTS)
    return estimate(system, level, too_few_objects(f"class {name!r}", objects))


def too_few_objects(of: str, objects: int) -> str:
    """Why the score of a class or size has no interval; "" if it has enough objects."""
    few = f"{of} has {objects} object(s): an interval of a score needs at least {FEWEST_OBJECTS}"
    return few if objects < FEWEST_OBJECTS else ""


def undefined(values: Floats, resampled: Floats) -> str:
    """Why values, or too many of their resamples, are not defined; "" if they are."""
    defined = np.isfinite(np.atleast_2d(resampled)).all(axis=0)
    return UNDEFINED if not np.isfinite(values).all() or 1 - defined.mean() > MOST_UNDEFINED else ""
