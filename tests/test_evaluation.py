"""Predictions on a whole split: stored one by one, and never all in memory."""

import json
import threading
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from models.tasks.predictions import DetectionPrediction
from pipeline.metrics import load_records
from pipeline.metrics.detection import Boxes, DetectionScoring, match_detections
from pipeline.metrics.detection_records import DetectionRecords
from pipeline.metrics.evaluation import evaluate
from pipeline.metrics.matching import BLOCK
from pipeline.metrics.prediction_files import naming_file, read_rows, row_writer
from pipeline.metrics.records import RecordsError

SIDE = 512
MASK_BYTES = SIDE * SIDE


class _Segmenter:
    """Predicts a mask that fills some memory."""

    name = "segmentation"
    classes = ("ground", "sky")

    def predict_batch(self, images: Any) -> Any:
        return [np.full((SIDE, SIDE), int(image[0, 0, 0]) % 2, dtype=np.uint8) for image in images]


def test_masks_are_not_kept(tmp_path: Path) -> None:
    ids = tuple(f"{number:03d}" for number in range(240))
    truth: Any = SimpleNamespace(ids=ids, mask=lambda name: np.zeros((SIDE, SIDE), np.uint8))
    task: Any = _Segmenter()
    tracemalloc.start()
    evaluate(task, truth, lambda name: np.full((1, 1, 3), int(name), np.uint8), tmp_path, "test")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * MASK_BYTES, "a quarter of the masks was in memory at once"
    assert len(list((tmp_path / "predictions").glob("*.png"))) == len(ids)


def _some(generator: np.random.Generator, count: int) -> DetectionPrediction:
    corner = generator.uniform(0, 40, (count, 2)).round(3)
    boxes = np.hstack([corner, corner + generator.uniform(5, 20, (count, 2)).round(3)])
    return DetectionPrediction(boxes, generator.uniform(0, 1, count).round(6), generator.integers(0, 3, count))


def test_images_are_restored_one_by_one_and_not_in_the_threads_that_read(tmp_path: Path) -> None:
    """A restorer in many threads at once would take as many times its memory."""
    truth: Any = SimpleNamespace(ids=tuple("abcd"), mask=lambda name: np.zeros((SIDE, SIDE), np.uint8))
    task: Any = _Segmenter()
    threads = set()

    def restore(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        threads.add(threading.get_ident())
        return image + np.uint8(1)

    evaluate(task, truth, lambda name: np.zeros((1, 1, 3), np.uint8), tmp_path, "test", restore=restore)
    assert threads == {threading.get_ident()}
    assert all(
        (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) == 1).all() for path in (tmp_path / "predictions").glob("*.png")
    )


def test_stored_boxes_come_back(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    made = {f"{number}": _some(generator, number % 4) for number in range(9)}
    with DetectionScoring.writer(tmp_path) as writer:
        for name, prediction in made.items():
            writer.write(name, prediction)
    back = DetectionScoring.read(tmp_path)
    assert set(back) == set(made)
    for name, found in back.items():
        np.testing.assert_allclose(found.boxes, made[name].boxes, atol=2e-3)
        np.testing.assert_array_equal(found.classes, made[name].classes)
    assert len(json.loads((tmp_path / "predictions.json").read_text())["detections"]) == 12


def test_matching_in_blocks_is_matching_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    names = [f"{number:03d}" for number in range(2 * BLOCK // 10 + 3)]
    found = {name: _some(generator, 6) for name in names}
    truth = {name: Boxes(p.boxes[:4] + 1, p.classes[:4], np.arange(4) == 3) for name, p in found.items()}
    sizes = dict.fromkeys(names, (64, 64))
    whole = match_detections(found, truth, ["a", "b", "c"], sizes)
    monkeypatch.setattr("pipeline.metrics.matching.BLOCK", BLOCK // 10)
    parts = match_detections(found, truth, ["a", "b", "c"], sizes)
    for field in ("truth", "image", "category", "score", "correct", "ignored"):
        np.testing.assert_array_equal(getattr(whole, field), getattr(parts, field))
    assert whole.correct.any() and whole.ignored.any()


def test_sizes_are_matched_in_blocks_too_and_stored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    ids = tuple(f"{number:03d}" for number in range(11))
    found = {name: _some(generator, 5 if number not in (0, 5, 6, 7, 10) else 0) for number, name in enumerate(ids)}
    truth = {name: Boxes(p.boxes[:3] + 1, p.classes[:3]) for name, p in found.items()}
    image_sizes = dict.fromkeys(ids, (64, 64))
    whole = match_detections(found, truth, ("a", "b", "c"), image_sizes)
    monkeypatch.setattr("pipeline.metrics.matching.BLOCK", 2)
    parts = match_detections(found, truth, ("a", "b", "c"), image_sizes)
    parts.save(tmp_path / "records.npz")
    stored = load_records(tmp_path / "records.npz")
    assert isinstance(stored, DetectionRecords) and list(stored.sizes) == ["small", "medium", "large"]
    for field in ("truth", "image", "category", "score", "correct", "ignored"):
        for size, records in whole.sizes.items():
            np.testing.assert_array_equal(getattr(records, field), getattr(parts.sizes[size], field))
            np.testing.assert_array_equal(getattr(records, field), getattr(stored.sizes[size], field))
    assert whole.sizes["small"].correct.any()


def _write(path: Path, *rows: dict[str, Any]) -> None:
    with row_writer(path, "things") as writer:
        for row in rows:
            writer.write(row)


def test_rows_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    _write(path, {"a": 1}, {"b": [2]})
    assert list(read_rows(path, "things")) == [{"a": 1}, {"b": [2]}]
    _write(path)
    assert list(read_rows(path, "things")) == [] and json.loads(path.read_text()) == {"things": []}
    for text, words in (
        ('{"others": [\n]}\n', "expected a list of things"),
        ('{"things": [\n{"a": 1},\n', "cut off"),
        ('{"things": [\n{"a": \n]}\n', "rows.json: not readable predictions"),
    ):
        path.write_text(text)
        with pytest.raises(RecordsError, match=words), naming_file(path):
            list(read_rows(path, "things"))
    missing = tmp_path / "none.json"
    with pytest.raises(RecordsError, match=r"none\.json: not readable predictions"), naming_file(missing):
        list(read_rows(missing, "things"))
