import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from data.batches import CropBatches, MaskBatches, PairBatches
from data.dataset import Dataset, group_labels, write_info
from data.labels import IGNORE_INDEX
from data.samples import Sample, write_sample


def _inverted_copy(clean: Dataset, make_dataset: Callable[..., Dataset]) -> Dataset:
    """A 'degraded' twin whose pixels are 255 - clean: any misalignment of a pair shows."""
    twin = make_dataset("twin")
    for name in clean.split("train").ids:
        write_sample(twin.folder, Sample(name, "train", 255 - clean.split("train").image(name)))
    return twin


def test_pairs_are_transformed_together(make_dataset: Callable[..., Dataset]) -> None:
    clean = make_dataset()
    twin = _inverted_copy(clean, make_dataset)
    batches = PairBatches(twin.split("train"), clean.split("train"), crop=16, batch=4, seed=1)
    for step in range(5):
        degraded, target = batches(step)
        assert degraded.shape == target.shape == (4, 3, 16, 16)
        assert torch.allclose(degraded, 1 - target, atol=1e-6)


@pytest.fixture
def located(make_dataset: Callable[..., Dataset]) -> Dataset:
    """A dataset whose images say where each pixel is: red is x + 1, green is y + 1, and blue is the mask."""
    dataset = make_dataset("located", (48, 64), train=3)
    y, x = np.mgrid[:48, :64].astype(np.uint8)
    boxes = [[0, 0.5, 0.5, 0.5, 0.5], [1, 10.5 / 64, 40 / 48, 1 / 64, 16 / 48], [1, 0.25, 0.25, 0.25, 0.25]]
    for name in dataset.split("train").ids:
        mask = dataset.split("train").mask(name)
        write_sample(
            dataset.folder, Sample(name, "train", np.dstack([x + 1, y + 1, mask]), np.array(boxes, dtype=float), mask)
        )
    return dataset


@pytest.mark.parametrize("crop", [16, 56])
def test_masks_are_those_of_the_crop(located: Dataset, crop: int) -> None:
    split = located.split("train")
    plain, batches = (PairBatches(split, split, crop, 4, 0, labels=kind) for kind in (None, "segmentation"))
    for step in range(5):
        _, clean, masks = batches.labelled(step)
        assert torch.equal(clean, plain(step)[1]) and torch.equal(clean, batches(step)[1])
        assert isinstance(masks, torch.Tensor) and masks.dtype == torch.int64
        inside = clean[:, 0] > 0
        assert inside.all() == (crop <= 48)
        assert torch.equal(masks[inside], (clean[:, 2][inside] * 255).round().long())
        assert (masks[~inside] == IGNORE_INDEX).all()


@pytest.mark.parametrize("crop", [24, 56])
def test_boxes_are_those_of_the_crop(located: Dataset, crop: int) -> None:
    split = located.split("train")
    plain, batches = (PairBatches(split, split, crop, 4, 0, labels=kind) for kind in (None, "detection"))
    kept = flipped = 0
    for step in range(20):
        _, clean, boxes = batches.labelled(step)
        assert torch.equal(clean, plain(step)[1])
        for image, rows in zip(clean, boxes, strict=True):
            places = (image[:2] * 255).round().long() - 1  # x and y in the whole image; -1 outside
            row = int((places[0, :, 0] >= 0).nonzero()[0])
            is_flipped = bool(places[0, row, 0] > places[0, row, 1])
            left, top = int(places[0, row, -1 if is_flipped else 0]), int(places[1, row, 0]) - row
            expected = _cropped(split.boxes(split.ids[0]), left, top, crop, is_flipped)
            np.testing.assert_allclose(rows.numpy(), expected, atol=1e-5)
            kept, flipped = kept + len(rows), flipped + is_flipped
    assert kept > 20 and 10 < flipped < 70


def _cropped(boxes: np.ndarray, left: int, top: int, crop: int, is_flipped: bool) -> np.ndarray:
    """Boxes of an image of 64 x 48 in a crop of it, box by box."""
    rows = []
    for category, x, y, width, height in boxes * [1, 64, 48, 64, 48]:
        x1, x2 = (min(max(edge - left, 0), crop) for edge in (x - width / 2, x + width / 2))
        y1, y2 = (min(max(edge - top, 0), crop) for edge in (y - height / 2, y + height / 2))
        if min(x2 - x1, y2 - y1) < 2 or (x2 - x1) * (y2 - y1) < 0.1 * width * height:
            continue
        x1, x2 = (crop - x2, crop - x1) if is_flipped else (x1, x2)
        rows.append([category, (x1 + x2) / 2 / crop, (y1 + y2) / 2 / crop, (x2 - x1) / crop, (y2 - y1) / crop])
    return np.array(rows).reshape(-1, 5)


def test_crops_have_no_other_labels(located: Dataset) -> None:
    split = located.split("train")
    with pytest.raises(ValueError, match="no labels for classification, only for detection, segmentation"):
        PairBatches(split, split, 16, 2, 0, labels="classification")


def test_a_step_is_a_function_of_seed_and_step(make_dataset: Callable[..., Dataset]) -> None:
    split = make_dataset().split("train")
    first, again, other = (PairBatches(split, split, 16, 4, seed) for seed in (1, 1, 2))
    assert torch.equal(first(7)[0], again(7)[0])
    assert not torch.equal(first(7)[0], first(8)[0])
    assert not torch.equal(first(7)[0], other(7)[0])


def test_no_global_random_state(make_dataset: Callable[..., Dataset]) -> None:
    split = make_dataset().split("train")
    state = np.random.get_state()[1].copy()
    before = torch.random.get_rng_state()
    batches = PairBatches(split, split, 16, 4, 1)
    expected = batches(3)[0]
    np.random.seed(99)
    assert torch.equal(batches(3)[0], expected)
    np.random.seed(0)
    MaskBatches(split, 0, 32, 2)(0)
    assert torch.equal(torch.random.get_rng_state(), before)
    del state


def test_an_epoch_sees_every_image_once(make_dataset: Callable[..., Dataset]) -> None:
    split = make_dataset().split("train")
    batches = PairBatches(split, split, 16, 5, seed=3)
    names = [[name for name, _ in batches._draw(epoch)] for epoch in range(2)]
    assert sorted(names[0]) == sorted(names[1]) == sorted(split.ids)


def test_a_share_of_the_pairs_is_clean_and_the_others_do_not_change(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset()
    clean, twin = dataset.split("train"), _inverted_copy(dataset, make_dataset).split("train")
    without, with_some = (PairBatches(twin, clean, 16, 40, 0, clean_share=share) for share in (0.0, 0.25))
    counts = []
    for step in range(5):
        degraded, target = with_some(step)
        is_clean = (degraded == target).flatten(1).all(1)
        assert torch.equal(target, without(step)[1])
        assert torch.equal(degraded[~is_clean], without(step)[0][~is_clean])
        counts.append(int(is_clean.sum()))
    assert 30 <= sum(counts) <= 70 and len(set(counts)) > 1  # of 200: 50 expected, 6 standard deviation


def test_different_ids_are_refused(make_dataset: Callable[..., Dataset]) -> None:
    with pytest.raises(ValueError, match="its ids differ from those of"):
        PairBatches(make_dataset("a", train=2, test=1).split("train"), make_dataset("b").split("train"), 16, 2, 0)


def test_ids_that_nobody_picked_and_sizes_without_decoding(make_dataset: Callable[..., Dataset]) -> None:
    split = make_dataset(test=9).split("test")
    assert split.evenly_spaced(3) == ["test0", "test4", "test8"]
    assert split.evenly_spaced(20) == list(split.ids) and split.evenly_spaced(0) == []
    assert all(split.size(name) == split.image(name).shape[:2] for name in split.ids)


def test_masks_follow_their_images(make_dataset: Callable[..., Dataset]) -> None:
    images, masks = MaskBatches(make_dataset().split("train"), seed=0, crop=64, batch=4)(0)
    assert images.shape == (4, 3, 64, 64) and masks.shape == (4, 64, 64) and masks.dtype == torch.int64
    assert set(masks.unique().tolist()) <= {0, 1, 255}
    # The square is the only reddish region, whatever the crop, flip and brightness.
    red = (images[:, 0] - images[:, 1])[masks == 1]
    assert red.mean() > 0.3


def test_crops_are_resized(make_dataset: Callable[..., Dataset]) -> None:
    views = CropBatches(make_dataset().split("train"), crop=48, size=16, batch=3, seed=0)(0)
    assert views.shape == (3, 3, 16, 16)
    assert views.min() >= 0 and views.max() <= 1


@pytest.mark.parametrize("kept", [0, 2, 5])
def test_images_are_kept_up_to_their_bytes(
    make_dataset: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    split = make_dataset(train=5).split("train")
    read, image = list[str](), type(split).image
    monkeypatch.setattr(type(split), "image", lambda self, name: (read.append(name), image(self, name))[1])
    monkeypatch.setattr("data.batches.KEPT_BYTES", kept * split.image(split.ids[0]).nbytes)
    read.clear()
    batches = CropBatches(split, crop=16, size=16, batch=5, seed=0)
    views = [batches._read(epoch) for epoch in range(3)]
    assert len(read) == 5 + 2 * (5 - kept)
    assert torch.equal(views[0], CropBatches(split, crop=16, size=16, batch=5, seed=0)(0))


def test_groups_of_images_are_kept_where_they_are_known(make_dataset: Callable[..., Dataset]) -> None:
    clean = make_dataset("clean", test=3)
    path = clean.folder / "dataset.json"
    assert "groups" not in json.loads(path.read_text()) and clean.evaluation_groups == {}
    write_info(clean.folder, replace(clean.info, groups={"test": {"test0": "drive", "test2": "drive"}}))
    groups = Dataset.open(clean.folder).evaluation_groups
    assert groups == {"test0": "drive", "test2": "drive"}
    assert group_labels(["test0", "test1", "test2", "drive"], groups).tolist() == [0, 1, 0, 2]
    copies = replace(clean.info, splits={"test@1": 3, "test@3": 3}, groups={"test": groups})
    assert Dataset(clean.folder, copies).evaluation_groups == groups
