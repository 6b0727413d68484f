"""Verdicts: what must be true of the numbers for each of them, and their sentences."""

import math
from pathlib import Path

import pandas as pd
import pytest

from pipeline.reporting import score_rows
from pipeline.settings.params import Statistics, load_params
from pipeline.statistics.comparison import ONE_TRAINING, TWO_TRAININGS
from pipeline.statistics.verdicts import WITHHELD, cautions, main_verdicts, sentence, unequal_steps, verdict_table

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


def _first_sentence(verdicts: pd.DataFrame) -> str:
    return sentence(main_verdicts(verdicts)[0])


@pytest.mark.parametrize(
    ("gain", "low", "high", "p", "verdict", "words"),
    [
        (0.15, 0.1, 0.2, 0.002, "helps", "restoring helps"),
        (-0.15, -0.2, -0.1, 0.002, "hurts", "restoring hurts"),
        (0.001, -0.002, 0.004, 0.6, "doesn't help", "restoring doesn't help"),
        (0.02, -0.02, 0.06, 0.3, "can't tell", "can't tell at 100 images whether restoring helps ("),
        (0.0, 0.0, 0.0, 1.0, "doesn't help", "restoring doesn't help"),
    ],
)
def test_verdicts_follow_the_numbers(gain: float, low: float, high: float, p: float, verdict: str, words: str) -> None:
    table = verdict_table(*_tables(("pixel", "degraded", gain, low, high, p)), SETTINGS)
    assert list(table.verdict) == [verdict]
    assert words in _first_sentence(table)


def test_sentences_are_about_the_main_metric_and_the_degraded_images() -> None:
    results, gains = _tables(("pixel", "degraded", 0.1, 0.05, 0.2, 0.01), ("diffloss", "pixel", 0.1, 0.05, 0.2, 0.01))
    gains = pd.concat([gains.assign(metric="mAP50"), gains])  # not the first metric of the table
    rows = main_verdicts(verdict_table(results, gains, SETTINGS))
    assert [(row["variant"], row["metric"]) for row in rows] == [("pixel", "mAP50-95")]


def test_p_values_are_corrected_for_the_whole_family() -> None:
    rows = [(f"o{n}", "degraded", 0.1, 0.01, 0.2, p) for n, p in enumerate((0.01, 0.02, 0.03, 0.04))]
    table = verdict_table(*_tables(*rows, ("clean", "degraded", 0.5, 0.4, 0.6, 0.001)), SETTINGS)
    assert table.p_holm.tolist() == pytest.approx([0.04, 0.06, 0.06, 0.06])  # by hand; clean is no claim
    assert table.verdict.tolist() == ["helps", *["can't tell"] * 3]


def test_claims_of_recovery_are_made_from_the_lower_end() -> None:
    text = _first_sentence(verdict_table(*_tables(("pixel", "degraded", 0.15, 0.1, 0.2, 0.002)), SETTINGS))
    assert "restoring helps and recovers at least 0.41 of the loss" in text


def test_one_training_has_verdicts_on_this_training_and_none_between_objectives() -> None:
    results, over_degraded = _tables(("diffloss", "degraded", 0.15, 0.1, 0.2, 0.002), trainings=1)
    undefined = (math.nan,) * 3
    _, between = _tables(("diffloss", "pixel", 0.02, *undefined), trainings=1, reason=ONE_TRAINING)
    table = verdict_table(results, pd.concat([over_degraded, between]), SETTINGS)
    assert table.verdict.tolist() == ["helps", WITHHELD]
    assert table.reason.tolist() == ["", ONE_TRAINING]
    assert table.p_holm.iloc[0] == 0.002 and math.isnan(table.p_holm.iloc[1])
    assert "restoring (this training) helps" in _first_sentence(table)


@pytest.mark.parametrize("versus", ["degraded", "pixel"])
@pytest.mark.parametrize(("trainings", "withheld"), [(3, True), (4, True), (5, False)])
def test_verdicts_need_five_trainings(trainings: int, withheld: bool, versus: str) -> None:
    table = verdict_table(*_tables(("diffloss", versus, 0.15, 0.1, 0.2, 0.002), trainings=trainings), SETTINGS)
    assert table.verdict.tolist() == ([WITHHELD] if withheld else ["helps"])
    assert table.reason.tolist() == (
        [f"{trainings} trainings: a verdict needs 5; raise train_restorer.repeats"] if withheld else [""]
    )


def test_a_withheld_verdict_says_why() -> None:
    tables = _tables(("pixel", "degraded", 0.15, *(math.nan,) * 3), trainings=2, reason=TWO_TRAININGS)
    text = _first_sentence(verdict_table(*tables, SETTINGS))
    assert text == f"detection, fog, pixel: no verdict on restoring: {TWO_TRAININGS} (mAP50-95 +0.150)"


def test_groups_are_named_where_they_are_fewer_than_images() -> None:
    text = _first_sentence(verdict_table(*_tables(("pixel", "degraded", 0.02, -0.1, 0.1, 0.5), groups=20), SETTINGS))
    assert "can't tell at 100 images in 20 groups whether restoring helps" in text


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
