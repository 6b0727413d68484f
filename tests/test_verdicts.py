"""Verdicts in words: what must be true of the numbers for each of them."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline.params import load_params
from pipeline.reporting import tables
from pipeline.reporting.verdicts import cautions, images_needed, sentences, unequal_steps, verdict_table

ROOT = Path(__file__).parents[1]
MARGIN = 0.005


def _tables(*rows: tuple[str, str, float, float, float, float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """results and gains with (variant, versus, gain, low, high, p) each."""
    gains = pd.DataFrame(
        [("detection", "fog", v, versus, "mAP50", g, low, high, p, 0.5) for v, versus, g, low, high, p in rows],
        columns=tables.GAINS,
    )
    results = pd.DataFrame([("detection", "fog", "degraded", "mAP50", 0.3, 0.2, 0.4, 100)], columns=tables.RESULTS)
    return results, gains


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
    table = verdict_table(*_tables(("pixel", "degraded", gain, low, high, p)), 0.95, MARGIN)
    assert list(table.verdict) == [verdict]
    assert words in sentences(table)[0]


def test_p_values_are_corrected_for_the_whole_family() -> None:
    rows = [(f"o{n}", "degraded", 0.1, 0.01, 0.2, p) for n, p in enumerate((0.01, 0.02, 0.03, 0.04))]
    table = verdict_table(*_tables(*rows, ("clean", "degraded", 0.5, 0.4, 0.6, 0.001)), 0.95, MARGIN)
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


def test_cautions() -> None:
    results, gains = _tables(("clean", "degraded", 0.01, -0.01, 0.03, 0.4), ("pixel", "degraded", 0.1, 0.05, 0.2, 0.01))
    gains.loc[gains.variant == "pixel", "recovered"] = 1.4
    texts = cautions(results, gains, comparisons=60, resamples=1000, level=0.95)
    assert "set statistics.resamples to 2400 or more" in texts[0]
    assert "nothing to recover" in texts[1]
    assert "detection, fog, pixel: restored images score above clean ones" in texts[2]
    results, gains = _tables(("clean", "degraded", 0.3, 0.2, 0.4, 0.01), ("pixel", "degraded", 0.1, 0.05, 0.2, 0.01))
    assert cautions(results, gains, comparisons=2, resamples=1000, level=0.95) == []


def test_an_objective_that_was_trained_for_other_steps_is_pointed_out() -> None:
    params = load_params(ROOT / "params.tiny.yaml")
    assert unequal_steps(params) == []
    restorer = params.train_restorer.model_copy(update={"steps_of": {"pixel": 9, "diffloss": 4, "task": 7}})
    (text,) = unequal_steps(params.model_copy(update={"train_restorer": restorer}))
    assert text.startswith("Steps of training differ (pixel 9, diffloss 4)")
    alike = params.train_restorer.model_copy(update={"steps_of": {"pixel": 9, "diffloss": 9}})
    assert unequal_steps(params.model_copy(update={"train_restorer": alike})) == []
