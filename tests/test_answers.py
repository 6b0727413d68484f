"""The answer of a run in sentences: what they say for each verdict."""

import math
from typing import Any

import pandas as pd
import pytest

from pipeline.reporting.answers import caveats, cell_answers, chosen_here, overall_answer, overall_tone, which_loss
from pipeline.statistics.comparison import ONE_TRAINING, UNDEFINED
from pipeline.statistics.verdicts import COLUMNS

TWO = ["pixel", "diffloss"]
ROW = {"task": "detection", "degradation": "fog", "versus": "degraded", "metric": "mAP50-95", "p_value": 0.01}
ROW |= {"p_holm": 0.01, "n_images": 100, "n_groups": 100, "n_trainings": 5, "reason": ""}


def verdict(variant: str, gain: float, low: float, high: float, verdict: str, **changed: Any) -> dict[str, Any]:
    """A row of verdicts.csv; 80 % (75 to 85 %) of the loss is recovered."""
    row = {**ROW, "variant": variant, "gain": gain, "ci_low": low, "ci_high": high, "verdict": verdict}
    shares = {"recovered": 0.8, "recovered_low": 0.75, "recovered_high": 0.85}
    return {**row, **(shares if changed.get("versus", "degraded") == "degraded" else {}), **changed}


def withheld(variant: str, gain: float, reason: str = ONE_TRAINING, **changed: Any) -> dict[str, Any]:
    """A row without interval and verdict."""
    return verdict(variant, gain, math.nan, math.nan, "no verdict", reason=reason, p_holm=math.nan, **changed)


def table(*rows: dict[str, Any]) -> pd.DataFrame:
    """verdicts.csv."""
    return pd.DataFrame(rows, columns=COLUMNS)


HELPS = verdict("pixel", 0.1, 0.05, 0.15, "helps")


@pytest.mark.parametrize(
    ("row", "sentence", "tone"),
    [
        (
            HELPS,
            "detection, fog: restoring helps: mAP50-95 +0.100 (+0.050 to +0.150) with pixel, "
            "80 % (75 to 85 %) of the loss recovered.",
            "good",
        ),
        (
            verdict("pixel", -0.1, -0.15, -0.05, "hurts"),
            "detection, fog: restoring hurts: mAP50-95 -0.100 (-0.150 to -0.050) with pixel.",
            "bad",
        ),
        (
            verdict("pixel", 0.001, -0.002, 0.004, "doesn't help"),
            "detection, fog: restoring does not help: mAP50-95 +0.001 (-0.002 to +0.004) with pixel.",
            "idle",
        ),
        (
            verdict("pixel", 0.02, -0.02, 0.06, "can't tell", n_groups=20),
            "detection, fog: cannot be told whether restoring helps at 100 images in 20 groups: "
            "mAP50-95 +0.020 (-0.020 to +0.060) with pixel.",
            "open",
        ),
        (withheld("pixel", 0.1), "detection, fog: no verdict on restoring: mAP50-95 +0.100 with pixel.", "open"),
        (withheld("pixel", math.nan, UNDEFINED), "detection, fog: no verdict on restoring.", "open"),
    ],
    ids=["helps", "hurts", "no help", "unknown", "no verdict", "undefined"],
)
def test_each_verdict_has_its_sentence(row: dict[str, Any], sentence: str, tone: str) -> None:
    (cell,) = cell_answers(table(row), ["pixel"])
    assert (cell.sentence, cell.tone) == (sentence, tone)


def test_the_answer_is_about_an_objective_that_helps_rather_than_the_largest_gain() -> None:
    unsure = verdict("diffloss", 0.2, -0.1, 0.5, "can't tell")
    (cell,) = cell_answers(table(unsure, HELPS), TWO)
    assert cell.best["variant"] == "pixel" and "helps" in cell.sentence


def test_harm_beside_help_is_said() -> None:
    (cell,) = cell_answers(table(HELPS, verdict("diffloss", -0.1, -0.2, -0.05, "hurts")), TWO)
    assert "with pixel" in cell.sentence and "; diffloss hurts." in cell.sentence


@pytest.mark.parametrize(
    ("comparison", "words"),
    [
        (
            verdict("diffloss", 0.02, 0.01, 0.03, "helps", versus="pixel"),
            "diffloss beats pixel by 0.020 (0.010 to 0.030)",
        ),
        (verdict("diffloss", -0.02, -0.03, -0.01, "hurts", versus="pixel"), "pixel beats diffloss by 0.020 (0.010 to"),
        (
            verdict("diffloss", 0.02, -0.01, 0.05, "can't tell", versus="pixel"),
            "diffloss is 0.020 ahead of pixel (may be",
        ),
        (withheld("diffloss", -0.02, versus="pixel"), "pixel is 0.020 ahead of diffloss (no verdict)"),
        (withheld("diffloss", 0.0, versus="pixel"), "diffloss and pixel are equal (no verdict)"),
    ],
    ids=["wins", "loses", "unknown", "one training", "equal"],
)
def test_which_of_two_losses_is_ahead(comparison: dict[str, Any], words: str) -> None:
    (cell,) = cell_answers(table(HELPS, comparison), TWO)
    assert f"; {words}" in cell.sentence


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (verdict("pixel", -0.05, -0.08, -0.02, "hurts"), "; degraded-retrained beats pixel by 0.050 (0.020 to 0.080)."),
        (withheld("pixel", 0.05), "; pixel is 0.050 ahead of degraded-retrained (no verdict)."),
    ],
)
def test_restoring_is_compared_with_retraining(row: dict[str, Any], words: str) -> None:
    rows = table(HELPS, {**row, "versus": "degraded-retrained"})
    (cell,) = cell_answers(rows, ["pixel"])
    assert cell.sentence.endswith(words)
    assert which_loss(rows, ["pixel"]) == "" and caveats(rows, ["pixel"]) == []


def test_other_metrics_and_gains_of_arms_are_no_part_of_the_answer() -> None:
    rows = [{**HELPS, "metric": "mAP50"}, {**HELPS, "variant": "degraded-retrained"}]
    assert cell_answers(table(*rows), ["pixel"]) == []
    assert overall_answer([]) == "No objective was compared with the degraded images."


def test_one_training_each_cannot_tell_which_loss_is_better() -> None:
    verdicts = table({**HELPS, "n_trainings": 1}, withheld("diffloss", 0.02, versus="pixel", n_trainings=1))
    assert which_loss(verdicts, TWO) == "One training each cannot tell which loss is better."
    (text,) = caveats(verdicts, TWO)
    assert text.startswith("Each restorer was trained once") and "cannot compare losses" in text


def test_choosing_the_best_of_several_losses_is_owned_up_to() -> None:
    two = table(HELPS, {**HELPS, "variant": "diffloss"})
    (text,) = chosen_here(cell_answers(two, TWO))
    assert text.startswith("The gain of the best loss is shown. It was chosen on these images")
    assert chosen_here(cell_answers(table(HELPS), TWO)) == []


def test_verdicts_that_are_all_withheld_hold_for_nothing() -> None:
    reason = {"n_trainings": 1, "reason": "no object is labelled"}
    without = [withheld("pixel", 0.0) | reason, withheld("diffloss", 0.0) | reason]
    assert caveats(table(*without), TWO) == ["No verdict (no object is labelled)."]
    between = withheld("diffloss", 0.02, versus="pixel", n_trainings=1)
    assert caveats(table(*without, between), TWO)[0].startswith("Each restorer was trained once: losses cannot be")


def test_losses_are_counted_over_tasks_and_degradations() -> None:
    wins = verdict("diffloss", 0.02, 0.01, 0.03, "helps", versus="pixel")
    rows = [wins, {**wins, "degradation": "rain"}, {**wins, "degradation": "snow", "verdict": "hurts"}]
    assert which_loss(table(*rows), TWO) == "Of the losses, diffloss beats pixel in 2 of 3 cases, is beaten in 1."
    loss = {**wins, "gain": -0.02, "ci_low": -0.03, "ci_high": -0.01, "verdict": "hurts"}
    assert which_loss(table(loss), TWO) == "Of the losses, pixel beats diffloss in 1 of 1 case."
    unsure = {**wins, "verdict": "can't tell", "degradation": "dusk"}
    assert which_loss(table(wins, unsure), TWO).endswith("beats pixel in 1 of 2 cases, and 1 cannot be told.")
    assert which_loss(table(unsure), TWO) == "Of the losses, diffloss and pixel cannot be told apart."
    frozen = {**unsure, "versus": "frozen"}
    assert (
        which_loss(table(frozen), ["diffloss", "frozen"])
        == "Of the restorers, diffloss and frozen cannot be told apart."
    )
    assert which_loss(table(HELPS), ["pixel"]) == ""


def test_pairs_of_losses_with_a_winner_come_first() -> None:
    names = ["frequency", "task", "natural", "semantic"]
    pairs = [verdict(name, 0.02, -0.01, 0.03, "can't tell", versus="pixel") for name in names]
    pairs[3]["verdict"] = "helps"
    assert which_loss(table(*pairs), ["pixel", *names]) == (
        "Of the losses, semantic beats pixel in 1 of 1 case; frequency and pixel cannot be told apart; "
        "task and pixel cannot be told apart, and 1 more comparison."
    )


def test_a_limit_is_said_once_however_many_rows_have_it() -> None:
    reason = "3 trainings: a verdict needs 5; raise train_restorer.repeats"
    rows = [withheld("pixel", 0.1, reason, degradation=name, n_trainings=3) for name in ("fog", "rain", "snow")]
    assert caveats(table(*rows), ["pixel"]) == [f"No verdict ({reason})."]


def test_the_whole_answer() -> None:
    fog_and_rain = [{**HELPS, "degradation": "rain"}, HELPS]
    both = [{**row, "task": task} for task in ("detection", "instance-segmentation") for row in fog_and_rain]
    cells = cell_answers(table(*both), ["pixel"])
    assert overall_answer(cells) == (
        "Yes: restoring helps detection and instance-segmentation on rain and fog and recovers 80 % of the loss."
    )
    assert overall_tone(cells) == "good"
    hurts = verdict("pixel", -0.1, -0.2, -0.05, "hurts", degradation="snow")
    cells = cell_answers(table(HELPS, hurts), ["pixel"])
    assert overall_answer(cells).startswith("In part: restoring helps detection on fog and recovers")
    assert overall_answer(cells).endswith("; it hurts detection on snow.") and overall_tone(cells) == "open"
    assert overall_answer(cell_answers(table(hurts), ["pixel"])) == "No: restoring hurts detection on snow."
    unsure = verdict("pixel", 0.1, -0.2, 0.4, "can't tell")
    assert overall_answer(cell_answers(table(unsure), ["pixel"])) == (
        "It cannot be told whether restoring helps detection on fog."
    )
    many = [{**HELPS, "degradation": f"d{number}"} for number in range(9)]
    assert "helps in all 9 pairs of task and degradation" in overall_answer(cell_answers(table(*many), ["pixel"]))
