"""Verdicts on the gains: helps, hurts, doesn't help, can't tell; or no verdict, with the reason."""

import math
from typing import Any

import pandas as pd

from pipeline.metrics import QUALITY
from pipeline.settings.grammar import CLEAN, DEGRADED, FROZEN, parse_arm
from pipeline.settings.params import Params, Statistics
from pipeline.statistics.comparison import FEWEST_FOR_VERDICTS
from pipeline.statistics.resampling import holm

HELPS, HURTS, NO_HELP, UNKNOWN = "helps", "hurts", "doesn't help", "can't tell"
WITHHELD = "no verdict"
FIXED = (CLEAN, DEGRADED)  # baselines that were not trained
COLUMNS = [
    *("task", "degradation", "variant", "versus", "metric", "gain", "ci_low", "ci_high", "p_value"),
    *("p_holm", "verdict", "n_images", "n_groups", "n_trainings"),
    *("recovered", "recovered_low", "recovered_high", "reason"),
]


def verdict_table(results: pd.DataFrame, gains: pd.DataFrame, settings: Statistics) -> pd.DataFrame:
    """verdicts.csv: every comparison of the tasks, with its p-value corrected for all of them (Holm) and a verdict.

    - no verdict: there is no interval, or there are 2 to 4 trainings, too few for corrected p-values. `reason` says so.
    - helps, hurts: the corrected p-value is below 1 - level.
    - doesn't help: the interval ends below the margin. A gain worth having is ruled out. This is not corrected for the
      number of comparisons. If no score changes at all, it says nothing about rare changes.
    - can't tell: none of these.

    With one training, a verdict holds for this training. Comparisons without a verdict are no part of the correction.

    Args:
        results: results.csv, for the numbers of images.
        gains: gains.csv.
        settings: level of confidence, and the margin: the smallest gain worth having.
    """
    image_counts = results.drop_duplicates(["task", "degradation"]).set_index(["task", "degradation"]).n_images
    rows = gains[(gains.variant != CLEAN) & (gains.task != QUALITY)].to_dict("records")
    for row in rows:
        row["n_images"] = int(image_counts[row["task"], row["degradation"]])
        row["reason"] = _objection(row)
    corrected = holm([math.nan if row["reason"] else row["p_value"] for row in rows])
    for row, p_value in zip(rows, corrected, strict=True):
        row["p_holm"] = p_value
        row["verdict"] = WITHHELD if row["reason"] else _verdict(row, settings)
    return pd.DataFrame(rows, columns=COLUMNS)


def _objection(row: dict[str, Any]) -> str:
    """Why a row of gains.csv can have no verdict; "" if it can."""
    if math.isnan(row["ci_low"]) or math.isnan(row["p_value"]):
        return str(row["reason"])
    if 1 < row["n_trainings"] < FEWEST_FOR_VERDICTS:
        return (
            f"{row['n_trainings']:.0f} trainings: a verdict needs {FEWEST_FOR_VERDICTS}; raise train_restorer.repeats"
        )
    return ""


def _verdict(row: dict[str, Any], settings: Statistics) -> str:
    if row["p_holm"] < 1 - settings.level and row["gain"] != 0:
        return HELPS if row["gain"] > 0 else HURTS
    return NO_HELP if row["ci_high"] < settings.margin else UNKNOWN


def cautions(gains: pd.DataFrame) -> list[str]:
    """What limits the conclusions: nothing to recover, or a weak ceiling.

    A loss without an interval is no sign of either: its row of gains.csv has the reason.

    Args:
        gains: gains.csv.
    """
    over_degraded = gains[gains.versus == DEGRADED]
    ceilings = over_degraded[(over_degraded.variant == CLEAN) & (over_degraded.task != QUALITY)]
    nothing_lost = ceilings[ceilings.ci_low <= 0]
    arms = {variant: parse_arm(variant) for variant in over_degraded.variant.unique()}
    excluded = [variant for variant, arm in arms.items() if variant == CLEAN or (arm and arm.retrained)]
    above_clean = over_degraded[(over_degraded.recovered > 1) & ~over_degraded.variant.isin(excluded)]
    return [
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


def unequal_steps(params: Params) -> list[str]:
    """A caution if objectives were trained for different numbers of steps."""
    steps = {name: params.train_restorer.of(name).steps for name in params.objectives if name != FROZEN}
    if len(set(steps.values())) < 2:
        return []
    each = ", ".join(f"{name} {number}" for name, number in steps.items())
    return [f"Steps of training differ ({each}): gains between these objectives are not those of their losses alone."]
