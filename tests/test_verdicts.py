"""Verdicts: what must be true of the numbers for each of them, and their sentences."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline.reporting import tables
from pipeline.settings.params import Statistics, load_params
from pipeline.statistics.resampling import bootstrap_p_value, one_sided_p_value, resamples_for
from pipeline.statistics.verdicts import (
    TOO_FEW,
    cautions,
    images_needed,
    main_verdicts,
    sentence,
    unequal_steps,
    verdict_table,
)

ROOT = Path(__file__).parents[1]
SETTINGS = Statistics(resamples=2000, level=0.95, margin=0.005)


def _tables(*rows: tuple[str, str, float, float, float, float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """results and gains with (variant, versus, gain, low, high, p) each."""
    gains = pd.DataFrame(
        [("detection", "fog", v, versus, "mAP50-95", g, low, high, p, 0.5) for v, versus, g, low, high, p in rows],
        columns=tables.GAINS,
    )
    results = pd.DataFrame([("detection", "fog", "degraded", "mAP50-95", 0.3, 0.2, 0.4, 100)], columns=tables.RESULTS)
    return results, gains


def _first_sentence(verdicts: pd.DataFrame) -> str:
    return sentence(main_verdicts(verdicts)[0])


@pytest.mark.parametrize(
    ("gain", "low", "high", "p", "verdict", "words"),
    [
        (0.15, 0.1, 0.2, 0.002, "helps", "restoring helps"),
        (-0.15, -0.2, -0.1, 0.002, "hurts", "restoring hurts"),
        (0.001, -0.002, 0.004, 0.6, "doesn't help", "restoring doesn't help"),
        (0.02, -0.02, 0.06, 0.3, "can't tell", "can't tell at 100 images whether restoring helps; a gain of this size"),
        (0.0, 0.0, 0.0, 1.0, "doesn't help", "restoring doesn't help"),
        (math.nan, math.nan, math.nan, math.nan, "can't tell", "can't tell at 100 images whether restoring helps ("),
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


def test_images_needed_give_the_promised_power() -> None:
    spread, gain, images = 0.3, 0.05, 40
    half = stats.norm.ppf(0.975) * spread / math.sqrt(images)
    needed = images_needed(gain, gain - half, gain + half, images)
    assert needed is not None and needed > images
    rng = np.random.default_rng(0)
    means = rng.normal(gain, spread / math.sqrt(needed), 20000)
    found = means - stats.norm.ppf(0.975) * spread / math.sqrt(needed) > 0
    assert found.mean() == pytest.approx(0.8, abs=0.01)
    corrected = images_needed(gain, gain - half, gain + half, images, comparisons=20)
    assert corrected is not None and corrected > needed
    assert images_needed(0.0, -0.1, 0.1, 40) is None and images_needed(math.nan, -0.1, 0.1, 40) is None


@pytest.mark.parametrize(("images", "comparisons"), [(12, 4), (30, 60), (101, 60), (100_000, 1)])
def test_the_resamples_that_are_asked_for_are_enough_and_no_more(images: int, comparisons: int) -> None:
    wanted = 0.05 / comparisons
    needed = resamples_for(wanted, images)
    assert needed is not None
    assert bootstrap_p_value(np.ones(needed), images) < wanted <= bootstrap_p_value(np.ones(needed - 2), images)


def test_no_number_of_resamples_makes_up_for_images() -> None:
    assert resamples_for(0.05 / 60, 1) is None and resamples_for(0.05 / 60, 2) is None
    least = bootstrap_p_value(np.ones(SETTINGS.resamples), 3)
    results, gains = _tables(*((f"o{n}", "degraded", 0.1, 0.05, 0.15, least) for n in range(60)))
    results["n_images"] = 3
    assert set(verdict_table(results, gains, SETTINGS).verdict) == {"can't tell"}
    assert cautions(results, gains, 60, SETTINGS)[0].endswith(
        "comparisons of 3 images: take more images, or compare less."
    )


def test_resamples_that_all_agree_but_are_too_few_are_blamed_themselves() -> None:
    resampled, images = np.ones(SETTINGS.resamples), 30
    least = bootstrap_p_value(resampled, images)
    resampled[0] = -1
    assert least < one_sided_p_value(SETTINGS.resamples, images) == bootstrap_p_value(resampled, images)
    rows = [(f"o{n}", "degraded", 0.1, 0.05, 0.15, least) for n in range(40)]
    rows += [("open", "degraded", 0.1, 0.02, 0.15, bootstrap_p_value(resampled, images))]
    results, gains = _tables(*rows)
    results["n_images"] = images
    table = verdict_table(results, gains, SETTINGS)
    assert table.verdict.tolist() == [*[TOO_FEW] * 40, "can't tell"]
    needed = int(table.resamples_needed[0])
    assert (
        f"too few resamples to tell whether restoring helps; set statistics.resamples to {needed} ("
        in _first_sentence(table)
    )
    caution = cautions(results, gains, 41, SETTINGS)[0]
    assert f"for 41 comparisons of 30 images: set statistics.resamples to {needed} or more" in caution
    more = Statistics(resamples=needed, level=0.95, margin=0.005)
    gains["p_value"] = bootstrap_p_value(np.ones(needed), images)
    assert set(verdict_table(results, gains, more).verdict) == {"helps"}
    assert cautions(results, gains, 41, more) == []


def test_cautions() -> None:
    results, gains = _tables(("clean", "degraded", 0.01, -0.01, 0.03, 0.4), ("pixel", "degraded", 0.1, 0.05, 0.2, 0.01))
    gains.loc[gains.variant == "pixel", "recovered"] = 1.4
    texts = cautions(results, gains, 60, SETTINGS)
    assert "2000 resamples cannot give a corrected p-value below 0.05 for 60 comparisons of 100 images" in texts[0]
    assert "nothing to recover" in texts[1]
    assert "detection, fog, pixel: restored images score above clean ones" in texts[2]
    results, gains = _tables(("clean", "degraded", 0.3, 0.2, 0.4, 0.01), ("pixel", "degraded", 0.1, 0.05, 0.2, 0.01))
    assert cautions(results, gains, 2, SETTINGS) == []


def test_an_objective_that_was_trained_for_other_steps_is_pointed_out() -> None:
    params = load_params(ROOT / "params.tiny.yaml")
    assert unequal_steps(params) == []
    restorer = params.train_restorer.model_copy(update={"steps_of": {"pixel": 9, "diffloss": 4, "task": 7}})
    (text,) = unequal_steps(params.model_copy(update={"train_restorer": restorer}))
    assert text.startswith("Steps of training differ (pixel 9, diffloss 4)")
    alike = params.train_restorer.model_copy(update={"steps_of": {"pixel": 9, "diffloss": 9}})
    assert unequal_steps(params.model_copy(update={"train_restorer": alike})) == []
