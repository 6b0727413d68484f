"""Verdicts on the gains: helps, hurts, doesn't help, can't tell, and how many images it would take to tell."""

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from pipeline.metrics import QUALITY, main_metric
from pipeline.settings.grammar import CLEAN, DEGRADED, FROZEN, parse_arm
from pipeline.settings.params import Params, Statistics
from pipeline.statistics.resampling import holm, one_sided_p_value, resamples_for

HELPS, HURTS, NO_HELP, UNKNOWN = "helps", "hurts", "doesn't help", "can't tell"
TOO_FEW = "too few resamples"
POWER = 0.8
COLUMNS = [
    *("task", "degradation", "variant", "versus", "metric", "gain", "ci_low", "ci_high", "p_value"),
    *("p_holm", "verdict", "n_images", "images_needed", "resamples_needed"),
]


def verdict_table(results: pd.DataFrame, gains: pd.DataFrame, settings: Statistics) -> pd.DataFrame:
    """verdicts.csv: every comparison of the tasks, with its p-value corrected for all of them (Holm) and a verdict.

    - helps, hurts: the corrected p-value is below 1 - level.
    - doesn't help: the interval ends below the margin. A gain worth having is ruled out.
    - too few resamples: none lies on the other side of 0, but they are too few for a small corrected p-value.
    - can't tell: none of these.

    Args:
        results: results.csv, for the numbers of images.
        gains: gains.csv.
        settings: level of confidence, number of resamples, and the margin: the smallest gain worth having.
    """
    image_counts = results.drop_duplicates(["task", "degradation"]).set_index(["task", "degradation"]).n_images
    comparisons = gains[(gains.variant != CLEAN) & (gains.task != QUALITY)].copy()
    comparisons["p_holm"] = holm(comparisons.p_value.tolist())
    rows: list[dict[str, Any]] = []
    for comparison in comparisons.to_dict("records"):
        images = int(image_counts[comparison["task"], comparison["degradation"]])
        resamples = resamples_for((1 - settings.level) / len(comparisons), images)
        verdict = _verdict(comparison, images, resamples, settings)
        row = {**comparison, "verdict": verdict, "n_images": images}
        if verdict == UNKNOWN:
            gain = comparison["gain"], comparison["ci_low"], comparison["ci_high"]
            row["images_needed"] = images_needed(*gain, images, settings.level, len(comparisons))
        if verdict == TOO_FEW:
            row["resamples_needed"] = resamples
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def images_needed(
    gain: float, low: float, high: float, images: int, level: float = 0.95, comparisons: int = 1
) -> int | None:
    """How many test images would show a gain of this size with a chance of 80 %; None if it is 0 or undefined.

    The half width of the interval at n images is z_level s / sqrt(n). A test among m comparisons must exceed z_m, the
    quantile for (1 - level) / m: the first step of Holm's correction. A gain g exceeds it with that chance from
    ((z_m + z_power) s / g)^2 images on.
    """
    half = (high - low) / 2
    if not (math.isfinite(half) and math.isfinite(gain)) or gain == 0:
        return None
    at_level, at_power = special.ndtri((1 + level) / 2), special.ndtri(POWER)
    threshold = special.ndtri(1 - (1 - level) / (2 * comparisons))
    return math.ceil(images * (half / gain) ** 2 * ((threshold + at_power) / at_level) ** 2)


def main_verdicts(verdicts: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of verdicts.csv that answer the question: gains over the degraded images in each task's main metric."""
    over_degraded = verdicts[verdicts.versus == DEGRADED]
    main = {task: main_metric(task).name for task in over_degraded.task.unique()}
    return over_degraded[over_degraded.metric == over_degraded.task.map(main)].to_dict("records")


def sentence(row: dict[str, Any]) -> str:
    """A row of verdicts.csv as a sentence."""
    arm = parse_arm(row["variant"])
    action = "retraining" if arm and arm.retrained else "restoring"
    text = {
        HELPS: f"{action} helps",
        HURTS: f"{action} hurts",
        NO_HELP: f"{action} doesn't help",
        UNKNOWN: f"can't tell at {row['n_images']} images whether {action} helps",
        TOO_FEW: f"{TOO_FEW} to tell whether {action} helps; set statistics.resamples to {row['resamples_needed']:.0f}",
    }[row["verdict"]]
    if row["verdict"] == UNKNOWN and row["images_needed"] is not None and np.isfinite(row["images_needed"]):
        text += f"; a gain of this size takes about {int(row['images_needed'])} images"
    numbers = f"{row['metric']} {row['gain']:+.3f}, {row['ci_low']:+.3f} to {row['ci_high']:+.3f}"
    return f"{row['task']}, {row['degradation']}, {row['variant']}: {text} ({numbers})"


def cautions(results: pd.DataFrame, gains: pd.DataFrame, comparisons: int, settings: Statistics) -> list[str]:
    """What limits the conclusions: too few resamples or images, nothing to recover, a weak ceiling."""
    over_degraded = gains[gains.versus == DEGRADED]
    ceilings = over_degraded[(over_degraded.variant == CLEAN) & (over_degraded.task != QUALITY)]
    nothing_lost = ceilings[~(ceilings.ci_low > 0)]
    arms = {variant: parse_arm(variant) for variant in over_degraded.variant.unique()}
    excluded = [variant for variant, arm in arms.items() if variant == CLEAN or (arm and arm.retrained)]
    above_clean = over_degraded[(over_degraded.recovered > 1) & ~over_degraded.variant.isin(excluded)]
    return [
        *_too_few_resamples(int(results.n_images.min()), comparisons, settings),
        *(
            f"{row.task}, {row.degradation}: the degraded images are not shown to score below the clean ones in "
            f"{row.metric}, so that there is nothing to recover."
            for row in nothing_lost.itertuples()
        ),
        *(
            f"{row.task}, {row.degradation}, {row.variant}: restored images score above clean ones in {row.metric}. "
            "The task network is a weak ceiling; training it for longer may change the result."
            for row in above_clean.itertuples()
        ),
    ]


def _too_few_resamples(images: int, comparisons: int, settings: Statistics) -> list[str]:
    """A caution if no comparison can have a small corrected p-value with this number of resamples."""
    level = 1 - settings.level
    needed = resamples_for(level / comparisons, images) if comparisons else 0
    if needed is not None and settings.resamples >= needed:
        return []
    advice = f"set statistics.resamples to {needed} or more." if needed else "take more images, or compare less."
    return [
        f"{settings.resamples} resamples cannot give a corrected p-value below {level:.2g} for {comparisons} "
        f"comparisons of {images} images: {advice}"
    ]


def unequal_steps(params: Params) -> list[str]:
    """A caution if objectives were trained for different numbers of steps."""
    steps = {name: params.train_restorer.of(name).steps for name in params.objectives if name != FROZEN}
    if len(set(steps.values())) < 2:
        return []
    each = ", ".join(f"{name} {number}" for name, number in steps.items())
    return [f"Steps of training differ ({each}): gains between these objectives are not those of their losses alone."]


def _verdict(row: dict[str, Any], images: int, resamples: int | None, settings: Statistics) -> str:
    if row["p_holm"] < 1 - settings.level and row["gain"] != 0:
        return HELPS if row["gain"] > 0 else HURTS
    if row["ci_high"] < settings.margin:
        return NO_HELP
    one_sided = resamples is not None and row["p_value"] < one_sided_p_value(settings.resamples, images)
    return TOO_FEW if one_sided else UNKNOWN
