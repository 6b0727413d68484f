"""Which variants are compared with which: the rows of gains.csv, in their order."""

from collections.abc import Sequence

from pipeline.settings.grammar import (
    CLEAN,
    DEGRADED,
    DEGRADED_RETRAINED,
    ON,
    RETRAINED,
    is_joint,
    mixture_name,
    parse_arm,
    specialist,
)


def compared_pairs(
    variants: Sequence[str], pixel_objectives: Sequence[str], baselines: Sequence[str]
) -> list[tuple[str, str]]:
    """(variant, baseline) of every comparison, in the order of gains.csv."""
    arms = {name: arm for name in variants if (arm := parse_arm(name))}
    clean_restored = [name for name, arm in arms.items() if not arm.retrained]
    retrained = [name for name, arm in arms.items() if arm.retrained and name != DEGRADED_RETRAINED]
    objectives = [name for name in variants if name not in (CLEAN, DEGRADED, *arms)]

    pairs = [(variant, DEGRADED) for variant in variants if variant not in (DEGRADED, *clean_restored)]
    pairs += _objective_comparisons(objectives, pixel_objectives, baselines)
    if DEGRADED_RETRAINED in variants:
        pairs += [(variant, DEGRADED_RETRAINED) for variant in (*objectives, *retrained)]
    pairs += [
        (name, f"{arm.source}{RETRAINED}")
        for name, arm in arms.items()
        if is_joint(name) and f"{arm.source}{RETRAINED}" in arms
    ]
    if CLEAN in variants:
        pairs += [(variant, CLEAN) for variant in clean_restored]
    return pairs


def _objective_comparisons(
    objectives: Sequence[str], pixel_objectives: Sequence[str], baselines: Sequence[str]
) -> list[tuple[str, str]]:
    """Each objective against the pixel losses, then against each baseline; a baseline only against earlier ones.

    Several pixel losses are compared with the first of them. An objective on a mixture is compared with the same losses
    trained for each degradation, and with the pixel losses on the same mixture.
    """
    pixel = [name for name in pixel_objectives if name in objectives]
    mixed = [name for name in objectives if mixture_name(name) is not None]
    compared = [name for name in objectives if name not in (*pixel, *mixed)]
    pairs = [(variant, baseline) for baseline in pixel for variant in compared]
    pairs += [(variant, pixel[0]) for variant in pixel[1:]]
    for baseline in baselines:
        if baseline in compared:
            compared.remove(baseline)
            pairs += [(variant, baseline) for variant in compared]
    pairs += [(variant, specialist(variant)) for variant in mixed if specialist(variant) in objectives]
    for variant in mixed:
        on_pixel = [f"{name}{ON}{mixture_name(variant)}" for name in pixel_objectives]
        pairs += [(variant, baseline) for baseline in on_pixel if baseline in mixed and baseline != variant]
    return pairs
