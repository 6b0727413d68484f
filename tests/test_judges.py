"""A verdict needs a judge: labels, a task network that recognises something, and a loss that is one."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipeline.metrics import MeanRecords
from pipeline.metrics.classification import ClassificationRecords
from pipeline.metrics.detection_records import DetectionRecords
from pipeline.metrics.segmentation import PixelCounts, SegmentationRecords
from pipeline.reporting import score_rows
from pipeline.settings.params import Statistics
from pipeline.statistics.recovered import NO_LOSS, recovered_share
from pipeline.statistics.resampling import Resamples
from pipeline.statistics.systems import System
from pipeline.statistics.verdicts import cautions, verdict_table

IDS = tuple(f"image{number:02}" for number in range(20))
SETTINGS = Statistics(resamples=200, level=0.95, margin=0.005)


def _cell(**means: float) -> dict[str, System]:
    """Systems of 20 images with these mean scores; 0 means that every image scores 0."""
    resamples = Resamples.draw(np.arange(20), 200, 0)
    noise = np.random.default_rng(0).normal(0, 0.02, 20)
    return {
        name: System.from_tables(
            [MeanRecords(IDS, {"mAP50-95": mean + noise if mean else np.zeros(20)})], resamples, name == "pixel"
        )
        for name, mean in means.items()
    }


def _verdict(cell: dict[str, System], missing: str = "") -> tuple[str, str, pd.DataFrame]:
    """The verdict on the pixel loss, its reason, and gains.csv."""
    results = pd.DataFrame(score_rows.result_rows("detection", "fog", cell, 0.95), columns=score_rows.RESULTS)
    rows = score_rows.gain_rows("detection", "fog", cell, 0.95, missing=missing)
    gains = pd.DataFrame(rows, columns=score_rows.GAINS)
    table = verdict_table(results, gains, SETTINGS)
    row = table[(table.variant == "pixel") & (table.versus == "degraded")].iloc[0]
    return row.verdict, row.reason, gains


def test_a_judge_that_can_judge_gives_a_verdict() -> None:
    assert _verdict(_cell(clean=0.6, degraded=0.3, pixel=0.3))[0] == "doesn't help"
    assert _verdict(_cell(clean=0.6, degraded=0.3, pixel=0.5))[0] == "helps"


@pytest.mark.parametrize("cell", [_cell(clean=0, degraded=0, pixel=0), _cell(clean=0, degraded=0.1, pixel=0.2)])
def test_a_network_that_scores_0_on_clean_images_is_no_judge(cell: dict[str, System]) -> None:
    verdict, text, gains = _verdict(cell)
    assert verdict == "no verdict" and "the task network scores 0 on the clean images: train it for longer" in text
    assert gains[["ci_low", "ci_high", "p_value", "recovered"]].isna().all(axis=None)
    assert cautions(gains) == []  # that nothing is lost would be a judgement


def test_without_clean_images_all_others_count() -> None:
    verdict, text, _ = _verdict(_cell(degraded=0, pixel=0))
    assert verdict == "no verdict" and "scores 0 on the degraded and restored images" in text
    assert _verdict(_cell(degraded=0, pixel=0.4))[0] == "helps"


def test_what_the_labels_lack_is_said() -> None:
    verdict, text, gains = _verdict(_cell(clean=0.6, degraded=0.3, pixel=0.5), "split test: no object is labelled")
    assert verdict == "no verdict" and text == "split test: no object is labelled"
    assert gains.recovered.isna().all()


def test_what_the_labels_lack_is_the_reason_for_scores_without_an_interval() -> None:
    few = {name: replace(system, rarest_class=("", 0)) for name, system in _cell(clean=0.6, degraded=0.3).items()}
    rows = score_rows.result_rows("detection", "fog", few, 0.95, "split test: no object is labelled")
    assert {row["reason"] for row in rows} == {"split test: no object is labelled"}
    with_intervals = score_rows.result_rows("detection", "fog", _cell(clean=0.6, degraded=0.3), 0.95, "one class")
    assert {row["reason"] for row in with_intervals} == {""}


def test_an_undefined_gain_is_no_caution() -> None:
    nothing = {
        name: replace(
            system,
            values={"mAP50-95": np.full(1, math.nan)},
            resampled={"mAP50-95": np.full_like(system.resampled["mAP50-95"], math.nan)},
        )
        for name, system in _cell(clean=0.6, degraded=0.3, pixel=0.5).items()
    }
    _, _, gains = _verdict(nothing, "split test: no object is labelled")
    assert cautions(gains) == []


def _detections(objects: int) -> DetectionRecords:
    none = np.zeros(0, np.int64)
    table = np.full((2, 3), objects, np.int64)
    flags = np.zeros((0, 10), bool)
    return DetectionRecords(IDS[:2], ("a", "b", "c"), table, none, none, np.zeros(0), flags, flags)


def _pixels(labelled: int, classes: int) -> SegmentationRecords:
    counts = PixelCounts(*(np.full(classes, number, np.int64) for number in (labelled, 3, 0)))
    return SegmentationRecords.stack(IDS[:2], [counts, counts], [f"class{index}" for index in range(classes)])


def test_records_know_what_their_labels_lack() -> None:
    assert _detections(0).missing_truth() == "no object is labelled" and _detections(1).missing_truth() == ""
    assert _pixels(0, 2).missing_truth() == "all pixels are ignored" and _pixels(5, 2).missing_truth() == ""
    assert _pixels(5, 1).missing_truth() == "there is one class, so that every prediction is right"
    for names, missing in ((["a"], "there is one class, so that every prediction is right"), (["a", "b"], "")):
        assert ClassificationRecords.gather({"i": 0}, {"i": 0}, names).missing_truth() == missing
    assert MeanRecords(IDS, {"PSNR": np.ones(20)}).missing_truth() == ""


def test_no_share_is_recovered_of_a_loss_that_may_be_none() -> None:
    noise = np.random.default_rng(0).normal(0, 1, 400)
    won, won_resampled = np.array([0.1]), (0.1 + 0.01 * noise)[None]
    unsure = recovered_share(won, won_resampled, 0.2, 0.2 + 0.2 * noise, 50)
    assert math.isnan(unsure.share) and unsure.reason == NO_LOSS
    sure = recovered_share(won, won_resampled, 0.2, 0.2 + 0.01 * noise, 50)
    assert sure.share == pytest.approx(0.5) and sure.low < 0.5 < sure.high
    few = recovered_share(won, won_resampled, 0.2, 0.2 + 0.01 * noise, 3)
    assert math.isnan(few.share) and "an interval needs at least 5" in few.reason
    two = recovered_share(np.array([0.1, 0.12]), np.stack([won_resampled[0]] * 2), 0.2, 0.2 + 0.01 * noise, 50)
    assert two.share == pytest.approx(0.55) and math.isnan(two.low) and two.reason
