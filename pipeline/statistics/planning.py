"""How many groups of images and how many trainings find a gain of a given size."""

from collections.abc import Callable

from scipy import stats

from pipeline.statistics.comparison import FEWEST_FOR_VERDICTS, FEWEST_GROUPS, LEVEL, VarianceComponents

MOST_PLANNED = 10**6  # groups or trainings


def groups_needed(parts: VarianceComponents, gain: float, power: float = 0.8, level: float = LEVEL) -> int | None:
    """The fewest groups with which a true gain is found with this power, at the present number of trainings.

    Args:
        parts: the observed variance components.
        gain: the true gain to be found, above 0.
        power: the wanted probability that the interval excludes 0.
        level: of confidence.

    Returns:
        None if not even a million groups are enough, because the variance between trainings is too large.
    """
    return _fewest(lambda count: _scaled(parts, count, parts.trainings), gain, power, level, FEWEST_GROUPS)


def trainings_needed(parts: VarianceComponents, gain: float, power: float = 0.8, level: float = LEVEL) -> int | None:
    """As `groups_needed`: the fewest trainings, at the present number of groups."""
    return _fewest(lambda count: _scaled(parts, parts.groups, count), gain, power, level, FEWEST_FOR_VERDICTS)


def _scaled(parts: VarianceComponents, groups: int, trainings: int) -> VarianceComponents:
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
        critical = stats.t.ppf((1 + level) / 2, freedom)
        return float(stats.nct.sf(critical, freedom, gain / parts.standard_error)) >= power

    if not enough(MOST_PLANNED):
        return None
    low, high = fewest - 1, MOST_PLANNED
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
