"""Accuracies against their definitions, also of data sets with copied images."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.metrics import load_records
from pipeline.metrics.classification import ClassificationRecords
from pipeline.metrics.records import RecordsError

CLASSES = ("fog", "rain", "snow", "never")


def _records(seed: int) -> ClassificationRecords:
    generator = np.random.default_rng(seed)
    ids = [f"{index:02d}" for index in generator.permutation(40)]
    truth = {name: int(generator.choice(3, p=[0.6, 0.3, 0.1])) for name in ids}
    predicted = {name: c if generator.random() < 0.6 else int(generator.integers(3)) for name, c in truth.items()}
    return ClassificationRecords.gather(truth, predicted, CLASSES)


@pytest.mark.parametrize("seed", range(4))
def test_both_accuracies_equal_those_of_copied_images(seed: int) -> None:
    records = _records(seed)
    counts = np.random.default_rng(seed).integers(0, 3, (5, 40))
    metrics = records.metrics(counts)
    for row, count in enumerate(counts):
        truth, predicted = np.repeat(records.truth, count), np.repeat(records.predicted, count)
        assert metrics["accuracy"][row] == pytest.approx(np.mean(truth == predicted))
        expected = np.mean([(predicted[truth == c] == c).mean() for c in np.unique(truth)])
        assert metrics["balanced accuracy"][row] == pytest.approx(expected)


def test_absent_classes_and_empty_resamples_are_undefined(tmp_path: Path) -> None:
    records = _records(0)
    assert np.isnan(records.scores()[1]["never"]["recall"]).all()
    assert np.isnan(records.metrics(np.zeros((1, 40)))["accuracy"]).all()
    records.save(tmp_path / "records.npz")
    loaded = load_records(tmp_path / "records.npz")
    assert isinstance(loaded, ClassificationRecords)
    assert loaded.metrics() == records.metrics() and loaded.image_ids == tuple(sorted(records.image_ids))


@pytest.mark.parametrize(
    ("truth", "predicted", "complaint"),
    [
        ({"a": 0}, {}, "predictions of 1 images with labels, got 0"),
        ({}, {}, "predictions of 0 images"),
        ({"a": 4}, {"a": 0}, r"image 'a': expected a class of 0\.\.3, got 4"),
        ({"a": 0}, {"a": -1}, r"image 'a': expected a prediction of 0\.\.3, got -1"),
    ],
)
def test_mistakes_are_named(truth: dict[str, int], predicted: dict[str, int], complaint: str) -> None:
    with pytest.raises(RecordsError, match=complaint):
        ClassificationRecords.gather(truth, predicted, CLASSES)
