"""Segmentation counts and means against torchmetrics and scikit-learn; every kind of records on disk."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix
from torchmetrics.classification import MulticlassJaccardIndex

from benchmarks.intervals import detection_pair
from pipeline.metrics import MeanRecords, load_records
from pipeline.metrics.detection_records import DetectionRecords
from pipeline.metrics.records import RecordsError
from pipeline.metrics.segmentation import SegmentationRecords, count_segmentation


def random_masks(seed: int, images: int = 6) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    generator = np.random.default_rng(seed)
    # Class 4 never occurs, class 5 is only ever predicted.
    truth = generator.integers(0, 4, (images, 20, 30), dtype=np.uint8)
    wrong = generator.random(truth.shape) < 0.3
    predicted = np.where(wrong, generator.choice([0, 1, 2, 3, 5], truth.shape), truth).astype(np.uint8)
    truth[generator.random(truth.shape) < 0.1] = 255
    return predicted, truth


def segmentation_records(predicted: NDArray[np.uint8], truth: NDArray[np.uint8]) -> SegmentationRecords:
    counts = [count_segmentation(p, t, 6) for p, t in zip(predicted, truth, strict=True)]
    return SegmentationRecords.stack([f"{n}" for n in range(len(truth))], counts, list("uvwxyz"))


def test_counts_are_the_confusion_matrix() -> None:
    predicted, truth = random_masks(0)
    counts = count_segmentation(predicted[0], truth[0], 6)
    kept = truth[0] != 255
    confusion = confusion_matrix(truth[0][kept], predicted[0][kept], labels=range(6))
    np.testing.assert_array_equal(counts.tp, np.diag(confusion))
    np.testing.assert_array_equal(counts.fp, confusion.sum(axis=0) - np.diag(confusion))
    np.testing.assert_array_equal(counts.fn, confusion.sum(axis=1) - np.diag(confusion))


@pytest.mark.parametrize("seed", range(3))
def test_miou_is_that_of_torchmetrics_on_the_images_taken(seed: int) -> None:
    predicted, truth = random_masks(seed)
    weights = np.random.default_rng(seed).integers(0, 3, (4, len(truth)))
    metrics = segmentation_records(predicted, truth).metrics(weights)
    for row, counts in enumerate(weights):
        reference = MulticlassJaccardIndex(6, ignore_index=255)
        copies = [torch.from_numpy(np.repeat(masks, counts, axis=0)) for masks in (predicted, truth)]
        reference.update(*copies)
        assert metrics["mIoU"][row] == pytest.approx(float(reference.compute()), abs=1e-6)


def test_absent_classes_do_not_count_and_invented_ones_do() -> None:
    records = segmentation_records(*random_masks(0))
    iou = records.scores()[1]
    assert np.isnan(iou["y"]["IoU"]).all()
    assert iou["z"]["IoU"] == 0
    expected = np.mean([iou[name]["IoU"] for name in "uvwxz"])
    assert records.metrics()["mIoU"] == pytest.approx([expected])


def test_segmentation_of_ignored_pixels_only_is_undefined() -> None:
    counts = count_segmentation(np.full((4, 4), 9, np.uint8), np.full((4, 4), 255, np.uint8), 2)
    records = SegmentationRecords.stack(["a"], [counts], ["u", "v"])
    assert np.isnan(records.metrics()["mIoU"]).all()


def test_masks_of_wrong_shape_or_class_are_named() -> None:
    mask = np.zeros((4, 4), np.uint8)
    with pytest.raises(RecordsError, match=r"shape \(4, 4\), got \(4, 3\)"):
        count_segmentation(mask[:, :3], mask, 2)
    with pytest.raises(RecordsError, match=r"truth: expected class indices 0\.\.1, got 2\.\.2"):
        count_segmentation(mask, mask + np.uint8(2), 2)
    with pytest.raises(RecordsError, match="2 distinct ids"):
        SegmentationRecords.stack(["a", "a"], [count_segmentation(mask, mask, 2)] * 2, ["u", "v"])


def test_images_are_sorted_by_id() -> None:
    full, empty = np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8)
    counts = [count_segmentation(full, mask, 1) for mask in (full, empty)]
    records = SegmentationRecords.stack(["b", "a"], counts, ["u"])
    assert records.image_ids == ("a", "b")
    assert records.tp[:, 0].tolist() == [0, 16]


def test_weighted_mean() -> None:
    values = {"b": {"PSNR": 30.0, "SSIM": 0.9}, "a": {"PSNR": np.inf, "SSIM": 0.5}}
    records = MeanRecords.from_values(values)
    metrics = records.metrics([[0, 2], [1, 3], [0, 0]])
    assert records.image_ids == ("a", "b")
    np.testing.assert_array_equal(metrics["PSNR"], [30, np.inf, np.nan])
    np.testing.assert_allclose(metrics["SSIM"], [0.9, 0.8, np.nan])


def test_missing_values_are_named() -> None:
    with pytest.raises(RecordsError, match="image 'b': expected a number for SSIM"):
        MeanRecords.from_values({"a": {"SSIM": 1.0}, "b": {}})


ALL_KINDS = {
    "detection": lambda: detection_pair(np.random.default_rng(0), 20)[0],
    "segmentation": lambda: segmentation_records(*random_masks(0)),
    "mean": lambda: MeanRecords.from_values({"a": {"PSNR": 30.0}, "b": {"PSNR": 20.5}}),
}


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_records_survive_the_disk(kind: str, tmp_path: Path) -> None:
    records = ALL_KINDS[kind]()
    records.save(tmp_path / "new folder" / "records.npz")
    for read in (load_records, type(records).load):
        again = read(tmp_path / "new folder" / "records.npz")
        assert type(again) is type(records)
        assert again.image_ids == records.image_ids
        weights = np.random.default_rng(0).integers(0, 3, (7, len(records.image_ids)))
        for name, values in records.metrics(weights).items():
            np.testing.assert_array_equal(again.metrics(weights)[name], values)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_same_records_same_bytes(kind: str, tmp_path: Path) -> None:
    for name in ("first", "second"):
        ALL_KINDS[kind]().save(tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    with zipfile.ZipFile(tmp_path / "first") as archive:  # two quick saves could also share a time stamp
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_bad_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    with pytest.raises(RecordsError, match=r"bad\.npz: not a readable file"):
        load_records(path)
    for content in (b"", b"text", b"PK\x03\x04 cut off"):
        path.write_bytes(content)
        with pytest.raises(RecordsError, match=r"bad\.npz: not a readable file"):
            load_records(path)
    np.savez(path, kind=np.array("mean"), values=np.array([{}], dtype=object))
    with pytest.raises(RecordsError, match=r"bad\.npz: not a readable file"):
        load_records(path)
    np.savez(path, image=np.zeros(3))
    with pytest.raises(RecordsError, match="no entry 'kind'"):
        load_records(path)
    np.savez(path, kind=np.array("depth"))
    with pytest.raises(RecordsError, match="unknown records 'depth', expected detection, segmentation"):
        load_records(path)
    ALL_KINDS["mean"]().save(path)
    with pytest.raises(RecordsError, match="expected detection records, got mean"):
        DetectionRecords.load(path)


@pytest.mark.parametrize("weights", [np.ones((2, 3)), np.ones(2), [[1, -1]], [[1, np.nan]], [[1, np.inf]]])
def test_bad_weights_are_refused(weights: object) -> None:
    with pytest.raises(RecordsError, match="expected weights"):
        ALL_KINDS["mean"]().metrics(weights)
