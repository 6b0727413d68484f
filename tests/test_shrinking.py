from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from data.dataset import Dataset
from data.labels import Instance, decode_mask, encode_mask
from data.samples import Sample, shrink
from pipeline.datasets.importing import import_dataset
from pipeline.settings.data import Data


def _sample() -> Sample:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    mask = np.zeros((60, 80), dtype=np.uint8)
    mask[20:40, 8:28] = 1
    dot = np.zeros_like(mask)
    dot[50, 71] = 1
    depth = np.where(mask, 5, 50).astype(np.float32)
    objects = (Instance(0, encode_mask((mask == 1).astype(np.uint8))), Instance(1, encode_mask(dot), crowd=True))
    boxes = np.array([[0, 18 / 80, 30 / 60, 20 / 80, 20 / 60]])
    return Sample("a", "train", image, boxes, mask, depth, instances=objects, category=1, file=Path("a.png"))


def test_everything_shrinks_together() -> None:
    sample = _sample()
    small = shrink(sample, 40)
    blocks = sample.image.reshape(30, 2, 40, 2, 3).mean((1, 3))
    assert np.abs(small.image - blocks).max() <= 0.5 and small.file is None
    assert small.mask is not None and small.depth is not None and small.instances is not None
    expected = np.zeros((30, 40), dtype=np.uint8)
    expected[10:20, 4:14] = 1
    np.testing.assert_array_equal(small.mask, expected)
    np.testing.assert_array_equal(small.depth, np.where(expected, 5, 50))
    np.testing.assert_array_equal(decode_mask(small.instances[0].counts, (30, 40)), expected)
    np.testing.assert_array_equal(np.argwhere(decode_mask(small.instances[1].counts, (30, 40))), [[25, 35]])
    assert small.instances[1].crowd and small.boxes is sample.boxes and small.category == 1


def test_a_sample_that_fits_stays() -> None:
    sample = _sample()
    assert shrink(sample, 80) is sample


def test_odd_shapes_keep_a_pixel() -> None:
    thin = replace(_sample(), image=np.zeros((2, 300, 3), np.uint8), mask=None, depth=None, instances=None)
    assert shrink(thin, 64).image.shape == (1, 64, 3)


def test_prepare_shrinks_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for split in ("train", "test"):
        for folder in (split, f"{split}annot"):
            (tmp_path / "in" / folder).mkdir(parents=True)
        photo = np.full((120, 160, 3), 40 if split == "train" else 90, np.uint8)
        mask = np.zeros((120, 160), np.uint8)
        mask[20:60, 40:80] = 1
        cv2.imwrite(f"in/{split}/0.png", photo)
        cv2.imwrite(f"in/{split}annot/0.png", mask)
    masks = {"name": "toy", "classes": ["road", "car"], "things": ["car"], "min_pixels": 100}
    data = Data.model_validate({"source": "masks", "root": "in", "longest_side": 80, "masks": masks})
    import_dataset(data, 0, Path("out"), ["detection", "segmentation"])
    made = Dataset.open(Path("out"))
    split = made.split("train")
    assert split.image("0").shape == (60, 80, 3) and made.info.source["longest_side"] == 80
    assert split.mask("0")[10:30, 20:40].all() and split.mask("0").sum() == 20 * 20
    np.testing.assert_allclose(split.boxes("0"), [[0, 60 / 160, 40 / 120, 40 / 160, 40 / 120]], atol=1e-6)
