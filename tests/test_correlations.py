"""Rank correlations against SciPy's, also of resamples written out; the table on made gains."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from pipeline.settings.params import load_params
from pipeline.statistics import correlations
from pipeline.statistics.correlations import over_variants, resampled_spearman, spearman
from pipeline.statistics.resampling import group_weights, percentile_interval

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("ties", [False, True])
def test_resampled_is_scipys_on_the_copied_points(ties: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=40)
    second = first + rng.normal(size=40)
    if ties:
        first, second = first.round(0), second.round(0)
    weights = group_weights(np.arange(40), 30, seed=1)
    found = resampled_spearman(first, second, weights)
    expected = [spearmanr(np.repeat(first, row), np.repeat(second, row)).statistic for row in weights]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert spearman(first, second) == pytest.approx(spearmanr(first, second).statistic)
    monkeypatch.setattr(correlations, "CHUNK_ELEMENTS", 100)
    np.testing.assert_array_equal(resampled_spearman(first, second, weights), found)


def test_undefined_without_spread_or_points() -> None:
    assert np.isnan(spearman(np.ones(5), np.arange(5.0)))
    assert np.isnan(spearman(np.zeros(0), np.zeros(0)))
    assert np.isnan(over_variants(np.ones(1), np.ones(1), 0).p_value)


def test_p_value_over_few_variants_counts_all_orders() -> None:
    quality, task = np.array([1.0, 2, 3, 4, 5]), np.array([2.0, 1, 3, 4, 5])
    found = over_variants(quality, task, seed=0)
    every = [spearmanr(quality, order).statistic for order in permutations(task)]
    as_far = np.mean([abs(one) >= found.value - 1e-9 for one in every])
    assert found.p_value == pytest.approx(as_far)
    assert found.value == pytest.approx(0.9)


def test_intervals_cover_no_correlation_where_images_are_shared_by_variants() -> None:
    """Each image's gains are alike in three variants: counting points instead of images would cover too rarely."""
    weights = group_weights(np.arange(40), 300, seed=0)[:, np.repeat(np.arange(40), 3)]
    covered = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        first, second = ((2 * rng.normal(size=(40, 1)) + rng.normal(size=(40, 3))).ravel() for _ in range(2))
        low, high = percentile_interval(resampled_spearman(first, second, weights), groups=40)
        covered.append(low <= 0 <= high)
    assert 0.91 <= np.mean(covered) <= 0.99


def _tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two degradations, two objectives, 30 images: the task's gain follows PSNR's in the order of the images."""
    rng = np.random.default_rng(1)
    images, gains = [], []
    for degradation in ("lowlight", "fog"):
        for variant, shift in (("degraded", 0.0), ("pixel", 1.0), ("diffloss", 2.0)):
            for n in range(30):
                quality = 20 + shift * (1 + n)
                for task, metric, score in (
                    ("quality", "PSNR", quality),
                    ("quality", "noise", rng.random()),
                    ("segmentation", "mIoU", 0.1 + (quality - 20) ** 3),
                ):
                    images.append((task, degradation, variant, f"i{n:02d}", metric, score))
            if shift:
                gains.append(("segmentation", degradation, variant, "degraded", "mIoU", shift))
    names = ["task", "degradation", "variant", "id", "metric", "score"]
    return pd.DataFrame(images, columns=names), pd.DataFrame(
        gains, columns=["task", "degradation", "variant", "versus", "metric", "gain"]
    )


def test_the_table_finds_the_metric_that_predicts_and_the_one_that_does_not() -> None:
    params = load_params(ROOT / "params.yaml")
    table = pd.DataFrame(correlations.correlation_rows(params, *_tables(), {}), columns=correlations.COLUMNS)
    assert set(table.task) == {"segmentation"}  # detection has no scores here
    assert set(table.degradation) == {"lowlight", "fog", "all"}
    images = table[table.level == "images"].set_index(["degradation", "quality_metric"])
    assert images.loc[("all", "PSNR")].spearman == pytest.approx(1)
    assert images.loc[("all", "PSNR")].n == 120 and images.loc[("all", "PSNR")].n_images == 30
    assert images.loc[("all", "PSNR")].p_value < 0.01
    chance = images.loc[("fog", "noise")]
    assert chance.ci_low < 0 < chance.ci_high and chance.p_value > 0.05
    variants = table[table.level == "variants"].set_index(["degradation", "quality_metric"])
    assert variants.loc[("fog", "PSNR")].spearman == pytest.approx(1)
    assert variants.loc[("fog", "PSNR")].p_value == 1  # two variants prove nothing
    assert variants.loc[("all", "PSNR")].n == 4


def test_few_images_give_no_interval() -> None:
    params = load_params(ROOT / "params.yaml")
    images, gains = _tables()
    few = images[images.id.isin([f"i{n:02d}" for n in range(9)])]
    table = pd.DataFrame(correlations.correlation_rows(params, few, gains, {}), columns=correlations.COLUMNS)
    own = table[table.level == "images"]
    assert own.spearman.notna().all() and own[["ci_low", "ci_high", "p_value"]].isna().all(axis=None)


def test_few_groups_give_no_interval_however_many_images_they_have() -> None:
    params = load_params(ROOT / "params.yaml")
    groups = {f"i{n:02d}": f"g{n // 5}" for n in range(30)}
    rows = correlations.correlation_rows(params, *_tables(), dict.fromkeys(("lowlight", "fog"), groups))
    images = pd.DataFrame([row for row in rows if row["level"] == "images"])
    assert set(images.n_groups) == {6} and set(images.n_images) == {30} and images.p_value.isna().all()
