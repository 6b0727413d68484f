"""Matched detections against faster-coco-eval's own summary, also of data sets with copied images."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from models.tasks.predictions import DetectionPrediction
from pipeline.metrics.detection import Boxes, match_detections
from pipeline.metrics.detection_records import DetectionRecords
from pipeline.metrics.matching import AREAS
from pipeline.metrics.records import RecordsError
from tests.coco_reference import THRESHOLDS, average_precision

SIDE = 200
CLASSES = ("car", "person", "sign", "unicorn")  # nothing is ever a unicorn
Predictions = Mapping[str, DetectionPrediction]
Truths = Mapping[str, Boxes]


def random_boxes(generator: np.random.Generator, count: int) -> NDArray[np.float64]:
    corner = generator.uniform(0, 140, (count, 2))
    return np.hstack([corner, corner + generator.uniform(4, 60, (count, 2))])


def random_truth(generator: np.random.Generator) -> Boxes:
    count = generator.choice([0, 1, 3, 8])
    crowd = generator.random(count) < 0.2
    return Boxes(random_boxes(generator, count), generator.integers(0, 3, count), crowd)


def random_prediction(generator: np.random.Generator, truth: Boxes, ties: bool) -> DetectionPrediction:
    seen = generator.random(len(truth.classes)) < 0.8
    close = truth.boxes[seen] + generator.uniform(-1.5, 1.5, (seen.sum(), 4))
    invented = generator.choice([0, 2, 10])
    boxes = np.vstack([close, random_boxes(generator, invented)])
    classes = np.concatenate([truth.classes[seen], generator.integers(0, 4, invented)])
    scores = generator.random(len(classes))
    return DetectionPrediction(boxes, scores.round(1) if ties else scores, classes)


def random_split(seed: int, images: int = 25, ties: bool = True) -> tuple[dict, dict]:
    generator = np.random.default_rng(seed)
    truth = {f"image {index:03d}": random_truth(generator) for index in range(images)}
    found = {name: random_prediction(generator, boxes, ties) for name, boxes in truth.items()}
    return found, truth


def match(found: Predictions, truth: Truths) -> DetectionRecords:
    return match_detections(found, truth, CLASSES, dict.fromkeys(truth, (SIDE, SIDE)))


def coco_box(number: int, box: NDArray[np.float64], category: int) -> dict:
    x0, y0, x1, y1 = box.tolist()
    return {"image_id": number, "category_id": 7 * int(category) + 3, "bbox": [x0, y0, x1 - x0, y1 - y0]}


def coco_evaluator(found: Predictions, truth: Truths) -> COCOeval_faster:
    """The library's full evaluation with its default settings, built here without our code."""
    numbers = {name: 100 + place for place, name in enumerate(sorted(truth))}
    annotations, results = [], []
    for name, number in numbers.items():
        crowd = np.zeros(len(truth[name].classes)) if truth[name].crowd is None else truth[name].crowd
        for box, category, flag in zip(truth[name].boxes, truth[name].classes, crowd, strict=True):
            extra = {"id": len(annotations) + 1, "area": np.prod(box[2:] - box[:2]), "iscrowd": int(flag)}
            annotations.append(coco_box(number, box, category) | extra)
        seen = found[name]
        for box, category, score in zip(seen.boxes, seen.classes, seen.scores, strict=True):
            results.append(coco_box(number, box, category) | {"score": score})
    images = [{"id": number, "height": SIDE, "width": SIDE} for number in numbers.values()]
    categories = [{"id": 7 * index + 3, "name": name} for index, name in enumerate(CLASSES)]
    objects = COCO({"images": images, "categories": categories, "annotations": annotations})
    evaluator = COCOeval_faster(objects, objects.loadRes(results), "bbox")
    evaluator.run()
    return evaluator


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_map_is_cocos(seed: int, ties: bool) -> None:
    found, truth = random_split(seed, ties=ties)
    metrics = match(found, truth).metrics()
    stats = coco_evaluator(found, truth).stats
    assert metrics["mAP50-95"] == pytest.approx([stats[0]], abs=1e-9)
    assert metrics["mAP50"] == pytest.approx([stats[1]], abs=1e-9)
    assert 0.05 < stats[0] < 0.95


@pytest.mark.parametrize("seed", range(6))
def test_every_class_threshold_and_size_is_that_of_the_description(seed: int) -> None:
    """The library above matches objects for us, too: this reference is neither its code nor ours."""
    found, truth = random_split(seed, images=12)
    records = match(found, truth)
    for size, matched in {"all": records, **records.sizes}.items():
        per_class = matched.scores()[1]
        for category, name in enumerate(CLASSES[:3]):
            boxes = {id: _of_class(seen.boxes, seen.scores, seen.classes == category) for id, seen in found.items()}
            objects = {
                id: _of_class(each.boxes, np.asarray(each.crowd), each.classes == category)
                for id, each in truth.items()
            }
            expected = [average_precision(boxes, objects, threshold, AREAS[size]) for threshold in THRESHOLDS]
            ours = per_class[name]["AP50-95"][0], per_class[name]["AP50"][0]
            assert ours == pytest.approx((np.mean(expected), expected[0]), abs=1e-9, nan_ok=True)


def _of_class(boxes: NDArray[Any], values: NDArray[Any], wanted: NDArray[np.bool_]) -> tuple[Any, Any]:
    return boxes[wanted], values[wanted]


def test_per_class_is_cocos_and_absent_classes_are_nan() -> None:
    found, truth = random_split(3)
    precision = coco_evaluator(found, truth).eval["precision"][:, :, :, 0, 2]
    per_class = match(found, truth).scores()[1]
    for index, name in enumerate(CLASSES[:3]):
        assert per_class[name]["AP50-95"] == pytest.approx([precision[:, :, index].mean()], abs=1e-9)
        assert per_class[name]["AP50"] == pytest.approx([precision[0, :, index].mean()], abs=1e-9)
    assert np.isnan(per_class["unicorn"]["AP50"]).all()


def test_only_the_best_100_boxes_of_an_image_and_class_count() -> None:
    generator = np.random.default_rng(0)
    truth = {"a": Boxes(random_boxes(generator, 150), np.zeros(150, int))}
    found = {"a": DetectionPrediction(truth["a"].boxes, generator.random(150), np.zeros(150, int))}
    records = match(found, truth)
    assert len(records.score) == 100
    assert records.metrics()["mAP50"] == pytest.approx([coco_evaluator(found, truth).stats[1]], abs=1e-9)


def replicate(by_image: Mapping[str, object], counts: NDArray[np.int64]) -> dict:
    return {
        f"{name} copy {copy}": by_image[name]
        for name, count in zip(sorted(by_image), counts, strict=True)
        for copy in range(count)
    }


@pytest.mark.parametrize("seed", range(4))
def test_weights_equal_a_data_set_with_copied_images(seed: int) -> None:
    found, truth = random_split(seed, ties=False)
    weights = np.random.default_rng(seed).integers(0, 4, (5, len(truth)))
    metrics = match(found, truth).metrics(weights)
    for row, counts in enumerate(weights):
        stats = coco_evaluator(replicate(found, counts), replicate(truth, counts)).stats
        assert metrics["mAP50-95"][row] == pytest.approx(stats[0], abs=1e-9)
        assert metrics["mAP50"][row] == pytest.approx(stats[1], abs=1e-9)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    records = match(*random_split(1))
    weights = np.random.default_rng(0).integers(0, 3, (50, len(records.image_ids)))
    whole = records.metrics(weights)
    for limit in ("CHUNK_ELEMENTS", "FEWEST_IN_CHUNK"):
        monkeypatch.setattr(f"pipeline.metrics.average_precision.{limit}", 7)
    for name, values in records.metrics(weights).items():
        np.testing.assert_array_equal(values, whole[name])


@pytest.mark.parametrize("objects", [50, 100])
def test_recalls_that_equal_a_recall_point_are_cocos(objects: int) -> None:
    """With 100 objects every recall is a multiple of 0.01, which 0.01 * n is not quite for all n."""
    generator = np.random.default_rng(0)
    truth, found = {}, {}
    for image, name in enumerate("ab"):
        boxes = random_boxes(generator, objects // 2)
        truth[name] = Boxes(boxes, np.zeros(len(boxes), int))
        right = 1 - (2 * np.arange(len(boxes)) + image) / 200
        wrong = right - 0.001  # after each right one, so that precision falls with every object that is found
        found[name] = DetectionPrediction(
            np.concatenate([boxes, boxes + 1000]), np.concatenate([right, wrong]), np.zeros(2 * len(boxes), int)
        )
    stats = coco_evaluator(found, truth).stats
    metrics = match(found, truth).metrics()
    assert metrics["mAP50-95"] == pytest.approx([stats[0]], abs=1e-9)
    assert metrics["mAP50"] == pytest.approx([stats[1]], abs=1e-9)


def test_map_of_images_without_objects_is_undefined() -> None:
    nothing = np.zeros((0, 4))
    truth = {"a": Boxes(nothing, np.zeros(0, int)), "b": Boxes(np.array([[5.0, 5, 50, 50]]), np.array([0]))}
    found = {name: DetectionPrediction(nothing, np.zeros(0), np.zeros(0, int)) for name in truth}
    metrics = match(found, truth).metrics(np.array([[2, 0], [1, 1]]))
    np.testing.assert_array_equal(metrics["mAP50"], [np.nan, 0])


BOX = np.array([[5.0, 5, 50, 50]])
GOOD = DetectionPrediction(BOX, np.array([0.5]), np.array([0]))
TRUE = Boxes(BOX, np.array([0]))


@pytest.mark.parametrize(
    ("found", "truth", "complaint"),
    [
        ({}, {"a": TRUE}, "image 'a' has no prediction"),
        ({"a": GOOD, "b": GOOD}, {"a": TRUE}, "image 'b' has a prediction but no truth"),
        ({}, {}, "no images"),
        ({"a": replace(GOOD, boxes=BOX[:, [2, 1, 0, 3]])}, {"a": TRUE}, "'a', prediction: .* left <= right"),
        ({"a": replace(GOOD, classes=np.array([4]))}, {"a": TRUE}, "class indices 0..3, got 4..4"),
        ({"a": replace(GOOD, scores=np.array([np.nan]))}, {"a": TRUE}, "finite scores"),
        ({"a": GOOD}, {"a": Boxes(BOX + 300, TRUE.classes)}, "'a', truth: box .* outside the image of 200 x"),
        ({"a": GOOD}, {"a": Boxes(BOX, np.zeros(2, int))}, "expected boxes"),
    ],
)
def test_malformed_boxes_are_named(found: dict, truth: dict, complaint: str) -> None:
    with pytest.raises(RecordsError, match=complaint):
        match(found, truth)
