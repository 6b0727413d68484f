"""How many groups of images and how many trainings find a gain of a given size."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy import special

from pipeline.statistics.comparison import (
    FEWEST_FOR_VERDICTS,
    FEWEST_GROUPS,
    VarianceComponents,
    too_little,
    trained_once,
    undefined,
    variance_components,
)
from pipeline.statistics.resampling import LEVEL
from pipeline.statistics.systems import System

MOST_PLANNED = 10**6  # groups or trainings


@dataclass(frozen=True)
class Plan:
    """What it takes to show a gain of a given size.

    Attributes:
        se_groups: standard error of the gain from the choice of groups.
        se_trainings: standard error from the seeds of trainings; None for a single training.
        n_groups: present number of groups.
        n_trainings: present number of trainings.
        groups_needed: the fewest groups at the present number of trainings; None if not even a million are enough.
        trainings_needed: the fewest trainings at the present number of groups; None if not even a million are enough,
            or for a single training.
    """

    se_groups: float
    se_trainings: float | None
    n_groups: int
    n_trainings: int
    groups_needed: int | None
    trainings_needed: int | None


def plan(variant: System, baseline: System, metric: str, gain: float, level: float = LEVEL) -> Plan | None:
    """How many groups and how many trainings show a true gain with 80 % power, by the observed variance components.

    A single training says nothing about other seeds: then the numbers hold for this training.

    Args:
        variant: scored in the same resamples as the baseline.
        baseline: what the gain is over.
        metric: its name.
        gain: the true gain to be found.
        level: of confidence.

    Returns:
        None if the gain is 0, if there are too few groups, or if the metric is undefined or the same in all resamples;
        also for one training of each of two trained systems, whose seeds decide.
    """
    difference = variant.minus(baseline)
    if trained_once(variant, baseline):
        return None
    values, resampled = difference.values[metric], difference.resampled[metric]
    if gain <= 0 or too_little(1, difference.effective_groups) or undefined(values, resampled):
        return None
    parts = variance_components(values, resampled, difference.effective_groups)
    if not parts.standard_error:
        return None
    several = difference.trainings > 1
    return Plan(
        math.sqrt(parts.between_groups),
        math.sqrt(parts.between_trainings) if several else None,
        difference.groups,
        parts.trainings,
        _groups_needed(difference, parts, gain, level),
        trainings_needed(parts, gain, level=level) if several else None,
    )


def groups_needed(parts: VarianceComponents, gain: float, power: float = 0.8, level: float = LEVEL) -> int | None:
    """The fewest equal groups with which a true gain is found with this power, at the present number of trainings.

    Args:
        parts: the observed variance components.
        gain: the true gain to be found, above 0.
        power: the wanted probability that the interval excludes 0.
        level: of confidence.

    Returns:
        None if not even a million groups are enough, because the variance between trainings is too large.
    """
    return _fewest(lambda count: _scaled(parts, count, parts.trainings), gain, power, level, FEWEST_GROUPS)


def _groups_needed(difference: System, parts: VarianceComponents, gain: float, level: float) -> int | None:
    """The fewest groups of such sizes as the present ones; None also with two trainings, which give no interval."""
    needed = None if too_little(parts.trainings, FEWEST_GROUPS) else groups_needed(parts, gain, level=level)
    return None if needed is None else math.ceil(needed * difference.groups / difference.effective_groups)


def trainings_needed(parts: VarianceComponents, gain: float, power: float = 0.8, level: float = LEVEL) -> int | None:
    """As `groups_needed`: the fewest trainings, at the present number of groups."""
    return _fewest(lambda count: _scaled(parts, parts.groups, count), gain, power, level, FEWEST_FOR_VERDICTS)


def _scaled(parts: VarianceComponents, groups: float, trainings: int) -> VarianceComponents:
    """The components that as many groups and trainings would have."""
    return VarianceComponents(
        parts.gain,
        parts.between_groups * parts.groups / groups,
        parts.between_trainings * parts.trainings / trainings,
        groups,
        trainings,
    )


def _fewest(
    plan: Callable[[int], VarianceComponents], gain: float, power: float, level: float, fewest: int
) -> int | None:
    """The smallest number, from `fewest` to a million, whose plan has the power; power rises with the number."""

    def enough(count: int) -> bool:
        parts = plan(count)
        if not parts.standard_error:
            return True
        freedom = parts.degrees_of_freedom
        critical = special.stdtrit(freedom, (1 + level) / 2)
        missed = special.nctdtr(freedom, gain / parts.standard_error, critical)
        return not missed > 1 - power  # NaN if it is too small for a float

    if not enough(MOST_PLANNED):
        return None
    low, high = fewest - 1, MOST_PLANNED
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
