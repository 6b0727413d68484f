"""Matched masks against faster-coco-eval's own summary, also of data sets with copied images."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from models.tasks.instance_segmentation import outline
from models.tasks.predictions import InstancePrediction, decode_mask, encode_masks
from pipeline.metrics.detection_records import DetectionRecords
from pipeline.metrics.instance_segmentation import Masks, match_instances
from pipeline.metrics.records import RecordsError

SIZE = (60, 80)
CLASSES = ("car", "person", "unicorn")  # nothing is ever a unicorn


def discs(generator: np.random.Generator, count: int) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    centres = generator.uniform(5, 55, (count, 2, 1, 1))
    radii = generator.uniform(4, 14, (count, 1, 1))
    return ((rows - centres[:, 0]) ** 2 + (columns - centres[:, 1]) ** 2 < radii**2).astype(np.uint8)


def random_split(seed: int, images: int = 12) -> tuple[dict[str, InstancePrediction], dict[str, Masks]]:
    generator = np.random.default_rng(seed)
    found, truth = {}, {}
    for index in range(images):
        count = int(generator.choice([0, 1, 4]))
        masks, classes = discs(generator, count), generator.integers(0, 2, count)
        truth[f"{index:02d}"] = Masks(encode_masks(masks), classes, generator.random(count) < 0.2)
        shifted = np.roll(masks, generator.integers(-2, 3), axis=2)
        invented = discs(generator, 3)
        labels = np.concatenate([classes, generator.integers(0, 3, 3)])
        seen = encode_masks(np.concatenate([shifted, invented]))
        found[f"{index:02d}"] = InstancePrediction(SIZE, seen, generator.random(count + 3), labels)
    return found, truth


def coco_stats(found: dict[str, InstancePrediction], truth: dict[str, Masks]) -> NDArray[np.float64]:
    """The library's full evaluation with its default settings, built here without our code."""
    annotations, results = [], []
    for number, name in enumerate(sorted(truth)):
        true, seen = truth[name], found[name]
        for counts, category, crowd in zip(true.masks, true.classes, true.crowd, strict=True):
            area = int(decode_mask(counts, SIZE).sum())
            run = {"size": list(SIZE), "counts": counts}
            entry = {"id": len(annotations) + 1, "image_id": number, "category_id": int(category), "area": area}
            annotations.append(entry | {"segmentation": run, "iscrowd": int(crowd), "bbox": [0, 0, 1, 1]})
        for counts, category, score in zip(seen.masks, seen.classes, seen.scores, strict=True):
            entry = {"image_id": number, "category_id": int(category), "score": float(score)}
            results.append(entry | {"segmentation": {"size": list(SIZE), "counts": counts}})
    images = [{"id": number, "height": SIZE[0], "width": SIZE[1]} for number in range(len(truth))]
    categories = [{"id": index, "name": name} for index, name in enumerate(CLASSES)]
    objects = COCO({"images": images, "categories": categories, "annotations": annotations})
    evaluator = COCOeval_faster(objects, objects.loadRes(results), "segm")
    evaluator.run()
    return evaluator.stats


@pytest.mark.parametrize("seed", range(5))
def test_mask_map_is_cocos_also_of_copied_images(seed: int) -> None:
    found, truth = random_split(seed)
    records = match_instances(found, truth, CLASSES)
    counts = np.random.default_rng(seed).integers(0, 3, len(truth))
    copies = [(name, copy) for name, count in zip(sorted(truth), counts, strict=True) for copy in range(count)]
    repeated = ({f"{n} {c}": table[n] for n, c in copies} for table in (found, truth))
    metrics = records.metrics(np.stack([np.ones(len(truth)), counts]))
    for row, stats in enumerate((coco_stats(found, truth), coco_stats(*repeated))):
        assert metrics["mAP50-95"][row] == pytest.approx(stats[0], abs=1e-9)
        assert metrics["mAP50"][row] == pytest.approx(stats[1], abs=1e-9)
        assert 0.05 < stats[0] < 0.95


def test_masks_that_share_their_box_are_told_apart() -> None:
    """Two triangles of one square: their boxes are equal, their masks hardly meet."""
    lower = np.tril(np.ones((1, 40, 40), np.uint8))
    upper = np.triu(np.ones((1, 40, 40), np.uint8))
    truth = {"a": Masks(encode_masks(lower), np.array([0]), np.array([False]))}
    for mask, expected in ((lower, 1.0), (upper, 0.0)):
        found = {"a": InstancePrediction((40, 40), encode_masks(mask), np.array([0.9]), np.array([0]))}
        assert match_instances(found, truth, CLASSES).metrics()["mAP50"] == pytest.approx([expected])


def test_encoding_is_exact_and_records_survive_storage(tmp_path: object) -> None:
    masks = discs(np.random.default_rng(0), 4)
    for mask, counts in zip(masks, encode_masks(masks), strict=True):
        assert np.array_equal(decode_mask(counts, SIZE), mask)
    records = match_instances(*random_split(1), CLASSES)
    path = tmp_path / "records.npz"  # type: ignore[operator]
    records.save(path)
    assert DetectionRecords.load(path).metrics()["mAP50"] == records.metrics()["mAP50"]


def test_nothing_found_and_mistakes() -> None:
    found, truth = random_split(0)
    nothing = InstancePrediction(SIZE, (), np.zeros(0), np.zeros(0, int))
    empty = match_instances(dict.fromkeys(truth, nothing), truth, CLASSES)
    assert empty.metrics()["mAP50"] == pytest.approx([0.0])
    name = max(truth, key=lambda key: len(truth[key].masks))
    wrong = {**truth, name: replace(truth[name], classes=truth[name].classes + 7)}
    with pytest.raises(RecordsError, match=rf"image '{name}', truth: expected class indices 0\.\.2"):
        match_instances(found, wrong, CLASSES)
    with pytest.raises(RecordsError, match="image '00' has no prediction"):
        match_instances({}, truth, CLASSES)


@pytest.mark.parametrize("seed", range(3))
def test_training_polygons_enclose_the_mask(seed: int) -> None:
    """Also of an object in several parts, which ultralytics wants as one polygon, and of a single pixel."""
    apart = discs(np.random.default_rng(seed), 3).max(axis=0)
    dot = np.zeros(SIZE, np.uint8)
    dot[7, 9] = 1
    for mask in (apart, dot):
        filled = cv2.fillPoly(np.zeros(SIZE, np.uint8), [outline(mask).round().astype(np.int32)], 1)
        assert np.array_equal(filled & mask, mask)
        assert filled.sum() <= 1.15 * mask.sum() + 3
    assert outline(np.zeros(SIZE, np.uint8)).shape == (0, 2)
