from collections.abc import Callable

import numpy as np
import pytest
import torch

from data.batches import CropBatches, MaskBatches, PairBatches
from data.dataset import Dataset
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
    with pytest.raises(ValueError, match="its image ids differ from those of"):
        PairBatches(make_dataset("a", train=2, test=1).split("train"), make_dataset("b").split("train"), 16, 2, 0)


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
