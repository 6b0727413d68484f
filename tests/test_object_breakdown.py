"""Objects by size against faster-coco-eval's own summary; invented and lost ones against a hand-made example."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_detection_records import CLASSES, SIDE, coco_evaluator, random_split, replicate

from data.dataset import Dataset
from models.tasks.predictions import DetectionPrediction, InstancePrediction, encode_masks
from pipeline.metrics import MeanRecords, RecordsError
from pipeline.metrics.classification import ClassificationRecords
from pipeline.metrics.detection import Boxes, coco_predictions, coco_truth, match_detections
from pipeline.metrics.detection_records import RecordsBySize
from pipeline.metrics.instance_segmentation import InstanceScoring
from pipeline.metrics.object_changes import Detected, count_changes, match_sure_detections
from pipeline.metrics.segmentation import PixelCounts, SegmentationRecords


@pytest.mark.parametrize("seed", range(4))
def test_precision_by_size_is_cocos(seed: int) -> None:
    found, truth = random_split(seed, ties=False)
    rng = np.random.default_rng(seed)
    found = {n: _grown(p, rng.choice([0.4, 1, 2.2])) for n, p in found.items()}  # so that many cross a border
    ids = tuple(sorted(truth))
    sizes = dict.fromkeys(ids, (SIDE, SIDE))
    records = RecordsBySize(match_detections(found, truth, CLASSES, sizes).sizes)
    metrics = records.metrics()
    evaluator = coco_evaluator(found, truth)
    for place, size in enumerate(("small", "medium"), start=3):
        assert metrics[f"{size} mAP50-95"] == pytest.approx([evaluator.stats[place]], abs=1e-9)
        assert 0.01 < evaluator.stats[place] < 0.95
    assert np.isnan(metrics["large mAP50"]).all()  # no box is that large; the library says -1
    counts = rng.integers(0, 3, len(ids))
    copied = coco_evaluator(replicate(found, counts), replicate(truth, counts)).stats
    assert records.metrics(counts[None])["small mAP50-95"] == pytest.approx([copied[3]], abs=1e-9)


def test_records_without_sizes_are_named(tmp_path: Path) -> None:
    found, truth = random_split(0, ties=False)
    whole = match_detections(found, truth, CLASSES, dict.fromkeys(truth, (SIDE, SIDE)))
    replace(whole, sizes={}).save(tmp_path / "records.npz")
    with pytest.raises(RecordsError, match=r"records\.npz: records of an earlier version, without the sizes"):
        RecordsBySize.load(tmp_path / "records.npz")


def _grown(found: DetectionPrediction, factor: float) -> DetectionPrediction:
    keep = np.random.default_rng(0).random(len(found.scores)) < 0.5
    middle = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    half = factor * (found.boxes[:, 2:] - found.boxes[:, :2]) / 2
    boxes = np.where(keep[:, None], found.boxes, np.hstack([middle - half, middle + half]))
    return DetectionPrediction(boxes, found.scores, found.classes)


def _box(left: float, top: float = 0, side: float = 10) -> list[float]:
    return [left, top, left + side, top + side]


def _seen(*boxes: tuple[list[float], float, int]) -> DetectionPrediction:
    table = [np.array(column) for column in zip(*boxes, strict=True)] or [np.zeros((0, 4)), np.zeros(0), np.zeros(0)]
    return DetectionPrediction(table[0].astype(float), table[1], table[2].astype(int))


# Two images, three objects and a crowd; class 0 but for the object at 40.
TRUTH = {
    "a": Boxes(np.array([_box(0), _box(20), _box(40), _box(60, side=40)]), np.array([0, 0, 1, 0]), np.arange(4) == 3),
    "b": Boxes(np.array([_box(0)]), np.array([0])),
}
BEFORE = {
    "a": _seen((_box(0), 0.9, 0), (_box(20), 0.2, 0), (_box(100), 0.8, 0), (_box(120), 0.8, 0)),
    "b": _seen((_box(0), 0.9, 0)),
}
AFTER = {
    "a": _seen(
        (_box(21), 0.9, 0),  # the object at 20, too unsure before: found again
        (_box(40), 0.9, 0),  # the place of class 1, but the wrong class: invented
        (_box(101), 0.5, 0),  # was there before: not invented
        (_box(70, 10), 0.9, 0),  # within the crowd: neither right nor wrong
        (_box(140), 0.9, 0),  # seen on the clean image, too: not invented where that is known
        (_box(160), 0.9, 0),  # invented
        (_box(180), 0.2, 0),  # too unsure to count
    ),
    "b": _seen(),
}
CLEAN = {"a": _seen((_box(140), 0.3, 0)), "b": _seen((_box(160), 0.9, 0))}


def _run(found: dict[str, DetectionPrediction]) -> tuple[dict, Detected]:
    labels = coco_truth(TRUTH, ("a", "b"), 2, {"a": (200, 200), "b": (200, 200)})
    return labels, match_sure_detections(labels, coco_predictions(found, ("a", "b")), "bbox")


def test_changes_worked_out_by_hand() -> None:
    labels, before = _run(BEFORE)
    _, after = _run(AFTER)
    _, clean = _run(CLEAN)
    changes = count_changes(labels, after, before, [clean], "bbox")
    assert {name: counts.tolist() for name, counts in changes.items()} == {
        "invented": [2, 0],
        "cleared": [1, 0],  # the box at 120
        "lost": [1, 1],  # the objects at 0
        "found_again": [1, 0],
    }
    assert count_changes(labels, after, before, [], "bbox")["invented"].tolist() == [3, 0]


def test_a_run_changes_nothing_against_itself() -> None:
    labels, run = _run(AFTER)
    assert not any(counts.any() for counts in count_changes(labels, run, run, [], "bbox").values())


def test_score_of_each_image_by_hand() -> None:
    sizes = dict.fromkeys(TRUTH, (200, 200))
    records = match_detections(AFTER, TRUTH, ("x", "y"), sizes)
    # Image a: 1 right, 4 wrong, 2 missed (the crowd asks for nothing); b: 1 missed.
    np.testing.assert_allclose(records.image_scores()["F1"], [2 / (2 + 4 + 2), 0])
    nothing = {"a": Boxes(np.zeros((0, 4)), np.zeros(0, int))}
    assert match_detections({"a": _seen()}, nothing, ("x",), {"a": (9, 9)}).image_scores()["F1"] == [1]


def test_score_of_each_image_is_the_metric_of_that_image_alone() -> None:
    rng = np.random.default_rng(0)
    counts = [PixelCounts(*rng.integers(0, 9, (3, 4)) * (rng.random(4) < 0.6)) for _ in range(6)]
    masks = SegmentationRecords.stack([f"{n}" for n in range(6)], counts, list("abcd"))
    np.testing.assert_array_equal(masks.image_scores()["mIoU"], masks.metrics(np.eye(6))["mIoU"])
    classes = ClassificationRecords.gather({"a": 0, "b": 1}, {"a": 0, "b": 0}, ["x", "y"])
    np.testing.assert_array_equal(classes.image_scores()["accuracy"], [1, 0])
    means = MeanRecords.from_values({"a": {"PSNR": 3.0}, "b": {"PSNR": 5.0}})
    np.testing.assert_array_equal(means.image_scores()["PSNR"], [3, 5])


def _masks(*corners: tuple[int, int]) -> InstancePrediction:
    masks = np.zeros((len(corners), 48, 64), np.uint8)
    for mask, (top, left) in zip(masks, corners, strict=True):
        mask[top : top + 20, left : left + 20] = 1
    return InstancePrediction((48, 64), encode_masks(masks), np.full(len(corners), 0.9), np.zeros(len(corners), int))


def test_objects_by_their_masks(make_dataset: Callable[..., Dataset]) -> None:
    """The fixture's images have one object of 20 x 20 pixels at (10, 8)."""
    split = make_dataset(test=2).split("test")
    labels = InstanceScoring.coco_labels(split, 2)
    found = {"before": [(10, 8)], "after": [(25, 40)], "clean": [(10, 8), (26, 41)]}
    predictions = {name: {"test0": _masks(*corners), "test1": _masks((10, 8))} for name, corners in found.items()}
    results = {name: list(InstanceScoring.coco_results(of_run)) for name, of_run in predictions.items()}
    before, after, clean = (match_sure_detections(labels, results[name], "segm") for name in found)
    changes = count_changes(labels, after, before, [], "segm")
    assert {name: counts.tolist() for name, counts in changes.items()} == {
        "invented": [1, 0],
        "cleared": [0, 0],
        "lost": [1, 0],
        "found_again": [0, 0],
    }
    assert count_changes(labels, after, before, [clean], "segm")["invented"].tolist() == [0, 0]
    metrics = RecordsBySize(InstanceScoring.score(predictions["clean"], split, ["square", "bar"]).sizes).metrics()
    # Among three equally sure masks the second of image 0 is wrong: found 1 of 2, then 2 of 3 right.
    assert metrics["small mAP50"] == pytest.approx([(51 * 1 + 50 * 2 / 3) / 101])
    assert np.isnan(metrics["medium mAP50"]).all()
