"""Intervals, p-values and corrections, against SciPy and worked examples."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from benchmarks.intervals import Simulation, coverage, detection_pair, segmentation_pair
from pipeline.metrics import MeanRecords
from pipeline.metrics.detection_records import DetectionRecords
from pipeline.statistics.comparison import UNDEFINED, compare, estimate
from pipeline.statistics.resampling import Resamples, bootstrap_p_value, group_weights, holm, percentile_interval
from pipeline.statistics.systems import System

MANY = 10**9  # images, so many that Student's distribution is the normal one


def scores(values: NDArray[np.float64], metric: str = "SSIM") -> MeanRecords:
    return MeanRecords.from_values({f"{n:04d}": {metric: value} for n, value in enumerate(values.tolist())})


def test_weights_are_multinomial_and_come_from_the_seed() -> None:
    weights = group_weights(np.arange(20), 4000, seed=1)
    assert weights.shape == (4000, 20)
    assert (weights.sum(axis=1) == 20).all()
    assert weights.mean(axis=0) == pytest.approx(1, abs=0.08)
    assert weights.var() == pytest.approx(1 - 1 / 20, abs=0.03)
    np.testing.assert_array_equal(weights, group_weights(np.arange(20), 4000, seed=1))
    assert (weights != group_weights(np.arange(20), 4000, seed=2)).any()


@pytest.mark.parametrize(("images", "resamples"), [(0, 10), (10, 0)])
def test_nothing_to_resample_is_refused(images: int, resamples: int) -> None:
    with pytest.raises(ValueError, match="at least one image"):
        group_weights(np.arange(images), resamples, seed=0)


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_interval_of_a_mean_is_scipys(level: float) -> None:
    values = np.random.default_rng(0).exponential(size=60)
    system = System.from_tables([scores(values)], Resamples.draw(np.arange(60), 20_000, seed=0))
    ours = estimate(system, level)["SSIM"]
    theirs = stats.ttest_1samp(values, 0).confidence_interval(level)
    assert ours.gain == pytest.approx(values.mean())
    assert [ours.low, ours.high] == pytest.approx([theirs.low, theirs.high], abs=0.01)
    assert ours.high - ours.low > 0.3


def test_gain_of_a_mean_is_scipys_paired_test() -> None:
    generator = np.random.default_rng(0)
    baseline = generator.normal(size=50)
    variant = baseline + generator.normal(0.1, 0.3, size=50)
    ours = compare(scores(variant), scores(baseline), resamples=20_000)["SSIM"]
    theirs = stats.ttest_rel(variant, baseline)
    low, high = theirs.confidence_interval(0.95)
    assert ours.gain == pytest.approx((variant - baseline).mean())
    assert [ours.low, ours.high] == pytest.approx([low, high], abs=0.005)
    assert ours.p_value == pytest.approx(theirs.pvalue, abs=0.005)


def test_variant_and_baseline_share_their_resamples() -> None:
    """A constant gain has no spread, unless the two were computed on different resamples."""
    images = np.random.default_rng(0).uniform(0, 1, 40)
    gain = compare(scores(images + 0.01), scores(images))["SSIM"]
    assert [gain.gain, gain.low, gain.high] == pytest.approx([0.01] * 3, abs=1e-12)
    assert gain.p_value < 0.01


@pytest.mark.parametrize("simulate", [detection_pair, segmentation_pair])
def test_identical_systems_gain_nothing(simulate: Simulation) -> None:
    system, _ = simulate(np.random.default_rng(0), 20)
    for gain in compare(system, system, resamples=200).values():
        assert (gain.gain, gain.low, gain.high, gain.p_value) == (0, 0, 0, 1)


def test_different_systems_are_told_apart() -> None:
    generator = np.random.default_rng(0)
    good, _ = detection_pair(generator, 60)
    assert isinstance(good, DetectionRecords)
    seeing = generator.random((len(good.image), 1)) < 0.5
    blind = replace(good, correct=good.correct & seeing)
    for gain in compare(good, blind, resamples=500).values():
        assert 0 < gain.low < gain.gain < gain.high
        assert gain.p_value < 0.01


def test_order_of_the_pair_only_changes_the_sign() -> None:
    variant, baseline = segmentation_pair(np.random.default_rng(0), 30)
    there, back = compare(variant, baseline)["mIoU"], compare(baseline, variant)["mIoU"]
    assert [back.gain, back.low, back.high, back.p_value] == pytest.approx(
        [-there.gain, -there.high, -there.low, there.p_value]
    )


def test_only_equal_images_and_metrics_pair() -> None:
    a, b = MeanRecords.from_values({"a": {"PSNR": 1.0}}), MeanRecords.from_values({"b": {"PSNR": 1.0}})
    one_way, other_way = (MeanRecords(ids, {"PSNR": np.ones(2)}) for ids in (("a", "b"), ("b", "a")))
    for pair in ((a, b), (one_way, other_way)):
        with pytest.raises(ValueError, match="same images in the same order"):
            compare(*pair)
    with pytest.raises(ValueError, match="same metrics of both, got PSNR and SSIM"):
        compare(a, MeanRecords.from_values({"a": {"SSIM": 1.0}}))


def test_few_undefined_resamples_are_left_out_many_are_not() -> None:
    resampled = np.linspace(1, 2, 100)
    resampled[:5] = np.nan
    expected = tuple(np.quantile(resampled[5:], [0.025, 0.975]))
    assert percentile_interval(resampled, MANY) == pytest.approx(expected)
    assert bootstrap_p_value(resampled, MANY) == pytest.approx(2 / 96)
    resampled[5] = np.inf
    assert np.isnan(percentile_interval(resampled, MANY)).all()
    assert np.isnan(bootstrap_p_value(resampled, MANY))


def test_one_image_tells_nothing() -> None:
    gain = compare(scores(np.ones(1)), scores(np.zeros(1)))["SSIM"]
    assert gain.gain == 1
    assert np.isnan([gain.low, gain.high, gain.p_value]).all()


def test_gain_over_an_infinite_value_is_undefined() -> None:
    perfect, usual = scores(np.full(5, np.inf), "PSNR"), scores(np.full(5, 30.0), "PSNR")
    for pair in ((perfect, perfect), (perfect, usual)):
        gain = compare(*pair)["PSNR"]
        assert np.isnan([gain.gain, gain.low, gain.high, gain.p_value]).all() and gain.reason == UNDEFINED


@pytest.mark.parametrize(
    ("resampled", "expected"),
    [
        ([1] * 99, 2 / 100),
        ([-1] * 3 + [1] * 96, 2 * 4 / 100),
        ([-1, 1], 1),
        ([0] * 50, 1),
        ([0] + [1] * 98, 0.04),
    ],
)
def test_p_value_by_hand(resampled: ArrayLike, expected: float) -> None:
    assert bootstrap_p_value(np.asarray(resampled, float), MANY) == pytest.approx(expected)
    assert bootstrap_p_value(-np.asarray(resampled, float), MANY) == pytest.approx(expected)


@pytest.mark.parametrize("images", [5, 30, 300])
@pytest.mark.parametrize("shift", np.linspace(0, 0.4, 14))
def test_p_value_and_interval_agree(shift: float, images: int) -> None:
    resampled = np.random.default_rng(0).normal(shift, 0.1, 9999)
    low, high = percentile_interval(resampled, images)
    assert (bootstrap_p_value(resampled, images) <= 0.05) == (not low <= 0 <= high)


@pytest.mark.parametrize("images", [5, 30])
def test_interval_of_normal_data_is_students(images: int) -> None:
    values = stats.norm.ppf((np.arange(images) + 0.5) / images)
    spread = values.std() / np.sqrt(images)  # what a bootstrap of the mean sees
    resampled = stats.norm.ppf((np.arange(99_999) + 1) / 100_000, values.mean(), spread)
    student = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert percentile_interval(resampled, images) == pytest.approx(tuple(student), abs=5e-3)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1, 1]
    assert holm([0.02, float("nan"), 0.03]) == pytest.approx([0.04, float("nan"), 0.04], nan_ok=True)
    assert holm([]) == []


@pytest.mark.slow
@pytest.mark.parametrize("simulate", [detection_pair, segmentation_pair])
def test_intervals_cover_no_gain_as_often_as_they_promise(simulate: Simulation) -> None:
    shares = coverage(simulate, repeats=500, images=100, resamples=400, seed=7, other_methods=False)
    for (metric, _), (covered, undefined) in shares.items():
        assert covered == pytest.approx(0.95, abs=0.02), metric
        assert undefined == 0
