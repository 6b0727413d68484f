"""Gains over groups and trainings, against scipy's tests and against analytical cases."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from benchmarks.intervals import detection_pair
from pipeline.metrics.detection_records import DetectionRecords
from pipeline.statistics.comparison import (
    NO_SPREAD,
    ONE_TRAINING,
    TWO_TRAININGS,
    UNDEFINED,
    VarianceComponents,
    compare,
    compare_systems,
    score_intervals,
    variance_components,
)
from pipeline.statistics.planning import groups_needed, plan, trainings_needed
from pipeline.statistics.recovered import NO_LOSS, NOTHING_LOST, UNBOUNDED, recovered_share, recovered_shares
from pipeline.statistics.resampling import Resamples, effective_groups, group_weights
from pipeline.statistics.systems import System

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    image_ids: tuple[str, ...]
    scores: Floats

    def metrics(self, weights: ArrayLike | None = None) -> dict[str, Floats]:
        taken = np.ones((1, len(self.scores))) if weights is None else np.asarray(weights, dtype=float)
        return {"score": taken @ self.scores / taken.sum(axis=1)}


def _table(scores: Floats) -> Table:
    return Table(tuple(f"{index:04d}" for index in range(len(scores))), scores)


def _draws(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).normal(size=shape)


def test_two_systems_are_compared_as_by_the_paired_t_test() -> None:
    ours, theirs = _draws(0, 40) + 0.2, _draws(1, 40)
    result = compare(_table(ours), _table(theirs), resamples=20000)["score"]
    expected = stats.ttest_rel(ours, theirs)
    low, high = expected.confidence_interval(0.95)
    assert result.gain == pytest.approx(np.mean(ours - theirs))
    assert (result.low, result.high) == pytest.approx((low, high), abs=0.02)
    assert result.p_value == pytest.approx(expected.pvalue, abs=0.02)
    assert (result.n_images, result.n_groups, result.n_trainings, result.reason) == (40, 40, 1, "")


def test_repeated_images_of_a_group_add_no_information() -> None:
    ours, theirs = _draws(0, 30), _draws(1, 30)
    once = compare(_table(ours), _table(theirs))["score"]
    labels = np.repeat(np.arange(30), 5)
    repeated = compare(_table(np.repeat(ours, 5)), _table(np.repeat(theirs, 5)), groups=labels)["score"]
    assert (repeated.gain, repeated.low, repeated.high) == pytest.approx((once.gain, once.low, once.high))
    assert (repeated.n_images, repeated.n_groups) == (150, 30)
    ignored = compare(_table(np.repeat(ours, 5)), _table(np.repeat(theirs, 5)))["score"]
    assert ignored.high - ignored.low < 0.6 * (once.high - once.low)


def test_groups_may_be_any_labels() -> None:
    tables = _table(_draws(0, 12)), _table(_draws(1, 12))
    numbers = compare(*tables, groups=np.arange(12) // 2)["score"]
    names = compare(*tables, groups=[f"drive {index // 2}" for index in range(12)])["score"]
    assert names == numbers and names.n_groups == 6


def test_where_only_trainings_differ_it_is_their_t_test() -> None:
    luck = _draws(2, 6)
    image = _draws(3, 2000) * 1e-6
    variants, baseline = [_table(image + value) for value in luck], _table(image)
    result = compare(variants, baseline)["score"]
    standard_error = luck.std(ddof=1) / np.sqrt(6)
    assert result.gain == pytest.approx(luck.mean())
    assert result.high - result.gain == pytest.approx(stats.t.ppf(0.975, 5) * standard_error, rel=1e-3)
    assert result.n_trainings == 6


def test_trainings_are_paired_by_position() -> None:
    luck = _draws(2, 5)
    image = _draws(3, 50)
    ours = [_table(image + 10 * value + 0.1 * _draws(index, 50)) for index, value in enumerate(luck)]
    theirs = [_table(image + 10 * value + 0.1 * _draws(9 + index, 50)) for index, value in enumerate(luck)]
    paired = compare(ours, theirs)["score"]
    shuffled = compare(ours, theirs[1:] + theirs[:1])["score"]
    assert paired.gain == pytest.approx(shuffled.gain)
    assert paired.high - paired.low < 0.1 * (shuffled.high - shuffled.low)


@pytest.mark.parametrize(("count", "reason"), [(1, ONE_TRAINING), (2, TWO_TRAININGS), (3, ""), (5, "")])
def test_few_trainings_of_both_give_no_interval(count: int, reason: str) -> None:
    ours = [_table(_draws(index, 20)) for index in range(count)]
    theirs = [_table(_draws(100 + index, 20)) for index in range(count)]
    result = compare(ours, theirs)["score"]
    assert result.reason == reason and math.isfinite(result.gain)
    assert math.isnan(result.low) == math.isnan(result.high) == math.isnan(result.p_value) == bool(reason)


def test_one_training_against_a_fixed_baseline_has_the_interval_of_that_training() -> None:
    trained, fixed = _table(_draws(0, 20)), _table(_draws(1, 20))
    assert compare([trained], fixed) == compare(trained, fixed)


def test_a_single_training_on_either_side_gives_no_interval() -> None:
    drawn = Resamples.draw(np.arange(20), 200, 0)
    five = System.from_tables([_table(_draws(index, 20)) for index in range(5)], drawn, trained=True)
    one = System.from_tables([_table(_draws(100, 20))], drawn, trained=True)
    for pair in ((five, one), (one, five)):
        result = compare_systems(*pair)["score"]
        assert result.reason == ONE_TRAINING and math.isnan(result.p_value)
    fixed = System.from_tables([_table(_draws(100, 20))], drawn)
    assert math.isfinite(compare_systems(five, fixed)["score"].p_value)


def test_groups_of_very_different_sizes_are_worth_fewer() -> None:
    equal = np.repeat(np.arange(20), 5)
    drawn = Resamples.draw(equal, 10, 0)
    assert drawn.groups == drawn.effective_groups == 20
    one_video = np.r_[np.zeros(80, int), np.arange(1, 21)]  # and 20 single images
    assert Resamples.draw(one_video, 10, 0).effective_groups == pytest.approx(100**2 / (80**2 + 20))
    result = compare(_table(_draws(0, 100)), _table(_draws(1, 100)), groups=one_video)["score"]
    assert result.n_groups == 21 and math.isnan(result.low) and "tell as much as 1.6 equal ones" in result.reason


@pytest.mark.parametrize(("trainings", "spread"), [(1, 0.0), (5, 0.0), (5, 1.0), (5, 2.0)])
@pytest.mark.parametrize("sizes", [[4] * 20, [40, 30, 20, 20, 10, 10, 10, 10, 5, 5, 5, 5, 5, 5]])
def test_intervals_hold_the_truth_as_often_as_they_say(trainings: int, spread: float, sizes: list[int]) -> None:
    """Studies with a true gain of 0: images alike within a group (0.5), trainings with luck of their own."""
    generator, counts, studies = np.random.default_rng(trainings), np.array(sizes), 1500
    weights = group_weights(np.arange(len(sizes)), 400, 0)
    resampled_images = weights @ counts
    excluded = 0
    for _ in range(studies):
        of_groups = np.sqrt(0.5) * generator.normal(size=len(sizes))
        of_images = np.sqrt(0.5 / counts) * generator.normal(size=len(sizes))  # their mean in each group
        sums = counts * (of_groups + of_images)
        luck = spread * np.sqrt((counts**2).sum() * 0.5) / counts.sum() * generator.normal(size=trainings)
        resampled = (weights @ sums / resampled_images)[None] + luck[:, None]
        parts = variance_components(
            sums.sum() / counts.sum() + luck, resampled, effective_groups(np.repeat(np.arange(len(sizes)), counts))
        )
        low, high = parts.interval()
        excluded += not low < 0 < high
    assert 0.02 < excluded / studies < 0.075


def test_equal_gains_are_significant_as_in_a_sign_test() -> None:
    """Without any spread, only the number of groups says how sure a gain is."""
    few = compare(_table(np.ones(5)), _table(np.zeros(5)))["score"]
    assert few.gain == 1 and math.isnan(few.low) and few.reason == NO_SPREAD
    more = compare(_table(np.ones(6)), _table(np.zeros(6)))["score"]
    assert (more.low, more.high) == (1, 1)
    assert more.p_value == pytest.approx(stats.binomtest(6, 6).pvalue)


def test_few_groups_give_no_interval() -> None:
    result = compare(_table(_draws(0, 20)), _table(_draws(1, 20)), groups=np.arange(20) // 5)["score"]
    assert math.isnan(result.p_value) and "4 independent" in result.reason and result.n_groups == 4


def test_an_undefined_metric_gives_no_interval() -> None:
    scores = _draws(0, 20)
    scores[0] = np.nan
    assert compare(_table(scores), _table(_draws(1, 20)))["score"].reason == UNDEFINED


def test_equal_systems_gain_nothing() -> None:
    table = _table(_draws(0, 20))
    result = compare(table, table)["score"]
    assert (result.gain, result.low, result.high, result.p_value) == (0, 0, 0, 1)


def test_tables_that_do_not_fit_are_refused() -> None:
    table = _table(_draws(0, 6))
    for arguments, message in (
        (([table, table], [table]), "as many trainings"),
        (([], table), "at least one table"),
        ((table, _table(_draws(0, 7))), "same images"),
    ):
        with pytest.raises(ValueError, match=message):
            compare(*arguments)
    with pytest.raises(ValueError, match="6 labels"):
        compare(table, table, groups=[1, 2])


@pytest.mark.parametrize(("images", "interval"), [(20, False), (150, True)])
def test_average_precision_of_few_objects_has_no_interval_but_its_gain_has(images: int, interval: bool) -> None:
    variant, baseline = detection_pair(np.random.default_rng(0), images)
    assert isinstance(variant, DetectionRecords)
    name, objects = variant.rarest_class(np.ones(images, int))
    assert (name, objects) == ("sign", variant.truth[:, 2].sum()) and (objects >= 25) == interval
    systems = [
        System.from_tables([records], Resamples.draw(np.arange(images), 200, 0)) for records in (variant, baseline)
    ]
    score = score_intervals(systems[0])["mAP50-95"]
    assert math.isfinite(score.low) == interval
    assert score.reason == (
        "" if interval else f"class 'sign' has {objects} object(s): an interval of a score needs at least 25"
    )
    assert math.isfinite(compare_systems(*systems)["mAP50-95"].low)
    first = System.from_tables([variant], Resamples.draw(np.arange(images), 200, 0), ids=variant.image_ids[:20])
    assert first.rarest_class == ("sign", variant.truth[:20, 2].sum())  # counted in the chosen images only
    assert math.isnan(score_intervals(first)["mAP50-95"].low)


def test_the_same_seed_gives_the_same_numbers() -> None:
    tables = _table(_draws(0, 20)), _table(_draws(1, 20))
    assert compare(*tables, seed=1) == compare(*tables, seed=1) != compare(*tables, seed=2)


def test_weights_count_whole_groups() -> None:
    labels = np.array([0, 0, 1, 2, 2, 2])
    weights = group_weights(labels, 50, seed=0)
    assert weights.shape == (50, 6)
    assert (weights[:, 0] == weights[:, 1]).all() and (weights[:, 3] == weights[:, 5]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()


def test_the_recovered_share_has_fiellers_interval() -> None:
    images = 400
    clean, degraded = 1 + 0.1 * _draws(0, images), 0.1 * _draws(1, images)
    restored = 0.6 + 0.1 * _draws(2, images)
    weights = group_weights(np.arange(images), 4000, seed=0)

    def resampled(scores: Floats) -> Floats:
        return weights @ scores / weights.sum(axis=1)

    won, lost = restored - degraded, clean - degraded
    result = recovered_share(np.array([won.mean()]), resampled(won)[None], lost.mean(), resampled(lost), images)
    residual = won - result.share * lost
    half = stats.t.ppf(0.975, images - 1) * residual.std(ddof=1) / np.sqrt(images) / lost.mean()
    assert result.share == pytest.approx(won.mean() / lost.mean()) and not result.reason
    assert (result.low, result.high) == pytest.approx((result.share - half, result.share + half), abs=1e-3)


def test_fiellers_interval_covers_where_the_loss_is_small() -> None:
    """The true share is 0.5 of a loss of 4 standard errors; an interval of quotients is far off there."""
    covered = printed = 0
    for repeat in range(400):
        generator = np.random.default_rng(repeat)
        won, lost = 0.5 + generator.normal(size=50) * 1.75, 1 + generator.normal(size=50) * 1.75
        weights = group_weights(np.arange(50), 300, seed=repeat)
        parts = [(weights @ values / 50) for values in (won, lost)]
        result = recovered_share(np.array([won.mean()]), parts[0][None], lost.mean(), parts[1], 50)
        if not result.reason:
            printed += 1
            covered += result.low <= 0.5 <= result.high
    assert printed > 300
    assert covered / printed > 0.92


@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_the_recovered_share_of_several_trainings_covers_their_seeds(spread: float) -> None:
    """At both ends of the interval, won - share * lost is as many standard errors from 0 as Student's t allows."""
    images, trainings = 60, 5
    lost = 1 + 0.2 * _draws(0, images)
    won = 0.6 * lost + 0.1 * _draws(2, trainings, images) + spread * _draws(3, trainings)[:, None]
    weights = group_weights(np.arange(images), 4000, seed=0)
    resampled = [np.asarray(weights @ scores.T / images).T for scores in (won, lost)]
    result = recovered_share(won.mean(axis=1), resampled[0], lost.mean(), resampled[1], images)
    at_share = variance_components(
        won.mean(axis=1) - result.share * lost.mean(), resampled[0] - result.share * resampled[1], images
    )
    critical = stats.t.ppf(0.975, at_share.degrees_of_freedom)
    for share in (result.low, result.high):
        residual = won.mean(axis=0) - share * lost
        error = np.sqrt(residual.var(ddof=1) / images + won.mean(axis=1).var(ddof=1) / trainings)
        assert abs(residual.mean()) / error == pytest.approx(critical, rel=0.03)
    assert result.low < result.share < result.high and (result.high - result.low > 0.15) == bool(spread)


def test_a_loss_that_is_real_but_small_has_a_share_without_an_end() -> None:
    """With fewer degrees of freedom than the test of the loss, that of the share can be unbounded."""
    lost = 0.13 + 0.25 * _draws(2, 20)
    weights = group_weights(np.arange(20), 2000, seed=0)
    won = lost.mean() / 2 + np.array([-0.5, 0.0, 0.5])
    result = recovered_share(won, np.repeat(won[:, None], 2000, axis=1), lost.mean(), weights @ lost / 20, 20)
    assert result.share == pytest.approx(0.5) and math.isnan(result.low) and result.reason == UNBOUNDED


def test_without_a_loss_there_is_nothing_to_recover() -> None:
    noise = _draws(0, 1, 500)
    won = np.array([0.1])
    assert recovered_share(won, 0.1 + 0.01 * noise, -0.2, -0.2 + 0.01 * noise[0], 50).reason == NOTHING_LOST
    assert recovered_share(won, 0.1 + 0.01 * noise, 0.2, 0.2 + 1.0 * noise[0], 50).reason == NO_LOSS


def test_components_add_up() -> None:
    gains = np.array([1.0, 2.0, 3.0])
    resampled = gains[:, None] + 0.3 * _draws(0, 1, 50000)
    parts = variance_components(gains, resampled, groups=10)
    assert parts.between_groups == pytest.approx(0.09 * 10 / 9, rel=0.02)
    assert parts.between_trainings == pytest.approx(1 / 3)
    assert parts.standard_error == pytest.approx(np.sqrt(0.1 + 1 / 3), rel=0.01)
    share = (1 / 3) / (0.1 + 1 / 3)
    of_trainings = (1 + share**10) / 2 * 2
    total = (0.1 + 1 / 3) ** 2
    assert parts.degrees_of_freedom == pytest.approx(total / (0.1**2 / 9 + (1 / 3) ** 2 / of_trainings), rel=0.02)


def test_the_planned_number_of_groups_has_the_power() -> None:
    parts = VarianceComponents(gain=0.3, between_groups=0.04, between_trainings=0.0, groups=25, trainings=1)
    groups = groups_needed(parts, 0.5)
    assert groups is not None
    generator = np.random.default_rng(0)
    p_values = [stats.ttest_1samp(0.5 + generator.normal(size=groups), 0).pvalue for _ in range(2000)]
    assert 0.77 < np.mean(np.array(p_values) < 0.05) < 0.85
    assert groups == pytest.approx(34, abs=2)  # 33.4 for a t test of a gain of half a standard deviation


def test_more_groups_do_not_help_where_trainings_decide() -> None:
    parts = VarianceComponents(gain=0.3, between_groups=0.0001, between_trainings=0.04, groups=25, trainings=5)
    assert groups_needed(parts, 0.1) is None
    trainings = trainings_needed(parts, 0.1)
    assert trainings is not None and trainings > 100


def _system(*scores: Floats, trained: bool = False) -> System:
    resamples = Resamples.draw(np.arange(len(scores[0])), 2000, seed=0)
    return System.from_tables([_table(values) for values in scores], resamples, trained)


def test_plans_use_the_trainings_only_if_there_are_several() -> None:
    image = _draws(0, 40)
    variants = [image + 0.1 * value + 0.3 * _draws(index, 40) for index, value in enumerate(_draws(9, 4), start=1)]
    baseline = _system(image)
    several = plan(_system(*variants, trained=True), baseline, "score", 0.05)
    once = plan(_system(variants[0], trained=True), baseline, "score", 0.05)
    assert several is not None and once is not None
    assert several.se_trainings is not None and once.se_trainings is once.trainings_needed is None
    assert (several.n_groups, several.n_trainings, once.n_trainings) == (40, 4, 1)
    assert once.groups_needed is not None and once.groups_needed > 40
    assert plan(_system(variants[0]), baseline, "score", 0.0) is None  # no gain to be found
    assert plan(baseline, baseline, "score", 0.05) is None  # no variance was observed
    trained = [_system(values, trained=True) for values in variants[:2]]
    assert plan(trained[0], trained[1], "score", 0.05) is None  # one training each


@pytest.mark.parametrize(
    ("groups", "error", "trainings", "between"),
    [(293, 0.00192, 1, 0.0), (9, 0.00067, 1, 0.0), (46, 0.01337, 1, 0.0), (40, 0.004, 5, 0.0005)],
)
def test_a_plan_has_the_power_by_the_noncentral_t_distribution(
    groups: int, error: float, trainings: int, between: float
) -> None:
    parts = VarianceComponents(0.01, error**2, between**2, groups, trainings)
    needed = groups_needed(parts, 0.005)
    assert needed is not None

    def power(count: int) -> float:
        planned = VarianceComponents(0.01, error**2 * groups / count, between**2, count, trainings)
        critical = stats.t.ppf(0.975, planned.degrees_of_freedom)
        return float(stats.nct.sf(critical, planned.degrees_of_freedom, 0.005 / planned.standard_error))

    assert power(needed) >= 0.8
    assert needed == 5 or power(needed - 1) < 0.8


def test_the_recovered_share_of_systems_is_a_ratio_of_gains() -> None:
    degraded = _draws(0, 60) * 0.1
    clean, restored = degraded + 0.6 + 0.05 * _draws(1, 60), degraded + 0.3 + 0.05 * _draws(2, 60)
    shares = recovered_shares(_system(restored, trained=True), _system(degraded), _system(clean))
    found = shares["score"]
    assert found.share == pytest.approx((restored - degraded).mean() / (clean - degraded).mean())
    assert 0.45 < found.low < found.share < found.high < 0.55
    worst = recovered_shares(_system(degraded), _system(degraded), _system(clean))["score"]
    assert (worst.share, worst.low, worst.high) == pytest.approx((0, 0, 0), abs=1e-9)
    all_of_it = recovered_shares(_system(clean), _system(degraded), _system(clean))["score"]
    assert (all_of_it.share, all_of_it.low, all_of_it.high) == pytest.approx((1, 1, 1))
