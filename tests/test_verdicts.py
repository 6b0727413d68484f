"""Verdicts: what must be true of the numbers for each of them, and their sentences."""

import math
from pathlib import Path

import pandas as pd
import pytest

from pipeline.reporting import score_rows
from pipeline.settings.params import Statistics, load_params
from pipeline.statistics.comparison import ONE_TRAINING
from pipeline.statistics.verdicts import WITHHELD, cautions, unequal_steps, verdict_table

ROOT = Path(__file__).parents[1]
SETTINGS = Statistics(resamples=2000, level=0.95, margin=0.005)


def _tables(
    *rows: tuple[str, str, float, float, float, float], trainings: int = 10, groups: int = 100, reason: str = ""
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """results and gains with (variant, versus, gain, low, high, p) each."""
    counts = {"n_groups": groups, "n_trainings": trainings}
    gains = pd.DataFrame(
        [
            ("detection", "fog", v, versus, "mAP50-95", g, low, high, p, 0.5, 0.417, 0.6, *counts.values(), reason)
            for v, versus, g, low, high, p in rows
        ],
        columns=score_rows.GAINS,
    )
    row = {"task": "detection", "degradation": "fog", "variant": "degraded", "metric": "mAP50-95", "n_images": 100}
    return pd.DataFrame([row | counts], columns=score_rows.RESULTS), gains


@pytest.mark.parametrize(
    ("gain", "low", "high", "p", "verdict"),
    [
        (0.15, 0.1, 0.2, 0.002, "helps"),
        (-0.15, -0.2, -0.1, 0.002, "hurts"),
        (0.001, -0.002, 0.004, 0.6, "doesn't help"),
        (0.02, -0.02, 0.06, 0.3, "can't tell"),
        (0.0, 0.0, 0.0, 1.0, "doesn't help"),
    ],
)
def test_verdicts_follow_the_numbers(gain: float, low: float, high: float, p: float, verdict: str) -> None:
    table = verdict_table(*_tables(("pixel", "degraded", gain, low, high, p)), SETTINGS)
    assert list(table.verdict) == [verdict]


def test_p_values_are_corrected_for_the_whole_family() -> None:
    rows = [(f"o{n}", "degraded", 0.1, 0.01, 0.2, p) for n, p in enumerate((0.01, 0.02, 0.03, 0.04))]
    table = verdict_table(*_tables(*rows, ("clean", "degraded", 0.5, 0.4, 0.6, 0.001)), SETTINGS)
    assert table.p_holm.tolist() == pytest.approx([0.04, 0.06, 0.06, 0.06])  # by hand; clean is no claim
    assert table.verdict.tolist() == ["helps", *["can't tell"] * 3]


def test_one_training_has_verdicts_on_this_training_and_none_between_objectives() -> None:
    results, over_degraded = _tables(("diffloss", "degraded", 0.15, 0.1, 0.2, 0.002), trainings=1)
    undefined = (math.nan,) * 3
    _, between = _tables(("diffloss", "pixel", 0.02, *undefined), trainings=1, reason=ONE_TRAINING)
    table = verdict_table(results, pd.concat([over_degraded, between]), SETTINGS)
    assert table.verdict.tolist() == ["helps", WITHHELD]
    assert table.reason.tolist() == ["", ONE_TRAINING]
    assert table.p_holm.iloc[0] == 0.002 and math.isnan(table.p_holm.iloc[1])


@pytest.mark.parametrize("versus", ["degraded", "pixel"])
@pytest.mark.parametrize(("trainings", "withheld"), [(3, True), (4, True), (5, False)])
def test_verdicts_need_five_trainings(trainings: int, withheld: bool, versus: str) -> None:
    table = verdict_table(*_tables(("diffloss", versus, 0.15, 0.1, 0.2, 0.002), trainings=trainings), SETTINGS)
    assert table.verdict.tolist() == ([WITHHELD] if withheld else ["helps"])
    assert table.reason.tolist() == (
        [f"{trainings} trainings: a verdict needs 5; raise train_restorer.repeats"] if withheld else [""]
    )


def test_cautions() -> None:
    _, gains = _tables(("clean", "degraded", 0.01, -0.01, 0.03, 0.4), ("pixel", "degraded", 0.1, 0.05, 0.2, 0.01))
    gains.loc[gains.variant == "pixel", "recovered"] = 1.4
    texts = cautions(gains)
    assert "nothing to recover" in texts[0]
    assert "detection, fog, pixel: restored images score above clean ones" in texts[1]
    _, gains = _tables(("clean", "degraded", 0.3, 0.2, 0.4, 0.01), ("pixel", "degraded", 0.1, 0.05, 0.2, 0.01))
    assert cautions(gains) == []


def test_an_objective_that_was_trained_for_other_steps_is_pointed_out() -> None:
    params = load_params(ROOT / "params.tiny.yaml")
    assert unequal_steps(params) == []
    restorer = params.train_restorer.model_copy(update={"steps_of": {"pixel": 9, "diffloss": 4, "task": 7}})
    (text,) = unequal_steps(params.model_copy(update={"train_restorer": restorer}))
    assert text.startswith("Steps of training differ (pixel 9, diffloss 4)")
    alike = params.train_restorer.model_copy(update={"steps_of": {"pixel": 9, "diffloss": 9}})
    assert unequal_steps(params.model_copy(update={"train_restorer": alike})) == []
