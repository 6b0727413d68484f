"""What the gains say in words: helps, doesn't help, can't tell, with how many images it would take. Not a stage."""

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from pipeline.settings.grammar import CLEAN
from pipeline.settings.grammar import DEGRADED, FROZEN, is_retrained
from pipeline.settings.params import Params, Statistics
from pipeline.statistics.resampling import holm, one_sided_p_value, resamples_for

HELPS, HURTS, NO_HELP, UNKNOWN = "helps", "hurts", "doesn't help", "can't tell"
TOO_FEW = "too few resamples"
POWER = 0.8
COLUMNS = [
    *("task", "degradation", "variant", "versus", "metric", "gain", "ci_low", "ci_high", "p_value"),
    *("p_holm", "verdict", "n_images", "images_needed", "resamples_needed"),
]


def verdict_table(results: pd.DataFrame, gains: pd.DataFrame, own: Statistics) -> pd.DataFrame:
    """verdicts.csv: every comparison of the tasks, with its p-value corrected for all of them (Holm) and a verdict.

    helps, hurts: the corrected p-value is below 1 - level. doesn't help: the interval ends below the margin, so that
    a gain worth having is ruled out. too few resamples: not one of them lies on the other side of 0, and still their
    number keeps the corrected p-value from being small enough. can't tell: none of these.

    Args:
        results: results.csv, for the numbers of images.
        gains: gains.csv.
        own: level of confidence, number of resamples, and the margin: the smallest gain worth having.
    """
    sizes = results.drop_duplicates(["task", "degradation"]).set_index(["task", "degradation"]).n_images
    shown = gains[(gains.variant != CLEAN) & (gains.task != "quality")].copy()
    shown["p_holm"] = holm(shown.p_value.tolist())
    rows: list[dict[str, Any]] = []
    for row in shown.to_dict("records"):
        images = int(sizes[row["task"], row["degradation"]])
        resamples = resamples_for((1 - own.level) / len(shown), images)
        verdict = _verdict(row, images, resamples, own)
        rows.append({**row, "verdict": verdict, "n_images": images})
        if verdict == UNKNOWN:
            bounds = row["gain"], row["ci_low"], row["ci_high"]
            rows[-1]["images_needed"] = images_needed(*bounds, images, own.level, len(shown))
        if verdict == TOO_FEW:
            rows[-1]["resamples_needed"] = resamples
    return pd.DataFrame(rows, columns=COLUMNS)


def images_needed(
    gain: float, low: float, high: float, images: int, level: float = 0.95, comparisons: int = 1
) -> int | None:
    """How many test images would show a gain of this size with a chance of 80 %; None where it is 0 or undefined.

    The interval shrinks with the square root of the number of images: its half width at n images is z_level s /
    sqrt(n). A test among m comparisons must clear z_m, the quantile for (1 - level) / m (the hardest step of Holm's
    correction); a gain g clears it with that chance from ((z_m + z_power) s / g)^2 images on.
    """
    half = (high - low) / 2
    if not (math.isfinite(half) and math.isfinite(gain)) or gain == 0:
        return None
    at_level, at_power = special.ndtri((1 + level) / 2), special.ndtri(POWER)
    threshold = special.ndtri(1 - (1 - level) / (2 * comparisons))
    return math.ceil(images * (half / gain) ** 2 * ((threshold + at_power) / at_level) ** 2)


def sentences(verdicts: pd.DataFrame) -> list[str]:
    """One sentence for each objective and rival against the degraded images, in its task's first metric."""
    first = verdicts.drop_duplicates("task").set_index("task").metric
    rows = verdicts[(verdicts.versus == DEGRADED) & (verdicts.metric == verdicts.task.map(first))]
    return [_sentence(row) for row in rows.to_dict("records")]


def cautions(results: pd.DataFrame, gains: pd.DataFrame, comparisons: int, own: Statistics) -> list[str]:
    """What a reader must know before believing the table: judges that are too weak, tests that cannot succeed."""
    found = []
    fewest = int(results.n_images.min())
    least = resamples_for((1 - own.level) / comparisons, fewest) if comparisons else 0
    if least is None or own.resamples < least:
        found.append(
            f"{own.resamples} resamples cannot give a corrected p-value below {1 - own.level:.2g} for {comparisons} "
            f"comparisons of {fewest} images: "
            + (f"set statistics.resamples to {least} or more." if least else "take more images, or compare less.")
        )
    lost = gains[(gains.variant == CLEAN) & (gains.versus == DEGRADED) & (gains.task != "quality")]
    for row in lost[~(lost.ci_low > 0)].itertuples():
        found.append(
            f"{row.task}, {row.degradation}: the degraded images are not shown to score below the clean ones in "
            f"{row.metric}, so that there is nothing to recover."
        )
    above = gains[(gains.recovered > 1) & (gains.versus == DEGRADED) & (gains.variant != CLEAN)]
    above = above[~above.variant.map(is_retrained).astype(bool)]
    for row in above.itertuples():
        found.append(
            f"{row.task}, {row.degradation}, {row.variant}: restored images score above clean ones in {row.metric}: "
            "the network that judges is a weak ceiling, and longer training of it would change the picture."
        )
    return found


def unequal_steps(params: Params) -> list[str]:
    """A caution where objectives were trained for different numbers of steps."""
    steps = {name: params.train_restorer.of(name).steps for name in params.objectives if name != FROZEN}
    if len(set(steps.values())) < 2:
        return []
    each = ", ".join(f"{name} {number}" for name, number in steps.items())
    return [f"Steps of training differ ({each}): gains between these objectives are not those of their losses alone."]


def _verdict(row: dict[str, Any], images: int, resamples: int | None, own: Statistics) -> str:
    if row["p_holm"] < 1 - own.level and row["gain"] != 0:
        return HELPS if row["gain"] > 0 else HURTS
    if row["ci_high"] < own.margin:
        return NO_HELP
    agreed = resamples is not None and row["p_value"] < one_sided_p_value(own.resamples, images)
    return TOO_FEW if agreed else UNKNOWN


def _sentence(row: dict[str, Any]) -> str:
    what = "retraining" if is_retrained(row["variant"]) else "restoring"
    text = {
        HELPS: f"{what} helps",
        HURTS: f"{what} hurts",
        NO_HELP: f"{what} doesn't help",
        UNKNOWN: f"can't tell at {row['n_images']} images whether {what} helps",
        TOO_FEW: f"{TOO_FEW} to tell whether {what} helps; set statistics.resamples to {row['resamples_needed']:.0f}",
    }[row["verdict"]]
    if row["verdict"] == UNKNOWN and row["images_needed"] is not None and np.isfinite(row["images_needed"]):
        text += f"; a gain of this size takes about {int(row['images_needed'])} images"
    numbers = f"{row['metric']} {row['gain']:+.3f}, {row['ci_low']:+.3f} to {row['ci_high']:+.3f}"
    return f"{row['task']}, {row['degradation']}, {row['variant']}: {text} ({numbers})"
