"""Training batches. A batch is a pure function of (seed, step): any training can stop and go on anywhere,
and two objectives with the same seed see the same crops in the same order.
"""

import os
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from .dataset import Split
from .images import to_tensor
from .labels import IGNORE_INDEX

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

Array = NDArray[np.uint8]
SINGLE_RANK = (0, 1)  # index and number of ranks: one process has the whole batch
CLEAN_DRAW = 1  # keeps the choice of clean pairs apart from the other uses of a pair's seed


class PairBatches:
    """Degraded and clean crops of the same place: step -> two tensors (B, 3, crop, crop) in [0, 1].

    Pairs are matched by id and transformed together: random crop, horizontal flip. `rank` is the index of this
    process in a data-parallel training and their number: it gets its slice of each batch. `clean_share` of the
    pairs, drawn at random, are clean twice; the other pairs do not change with it.

    Raises:
        ValueError: the two splits do not have the same ids.
    """

    def __init__(
        self,
        degraded: Split,
        clean: Split,
        crop: int,
        batch: int,
        seed: int,
        rank: tuple[int, int] = SINGLE_RANK,
        clean_share: float = 0.0,
    ) -> None:
        if degraded.ids != clean.ids:
            raise ValueError(f"{degraded.folder} and {clean.folder} do not hold the same image ids")
        import albumentations

        self._draw = _Draw(clean.ids, batch, seed, rank)
        self._degraded, self._clean, self._clean_share = degraded, clean, clean_share
        self._transform = albumentations.Compose(
            [_random_crop(crop), albumentations.HorizontalFlip()], additional_targets={"clean": "image"}
        )

    def __call__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        pairs = [
            _transformed(self._transform, seed, image=self._input(name, seed), clean=self._clean.image(name))
            for name, seed in self._draw(step)
        ]
        return _stack(pair["image"] for pair in pairs), _stack(pair["clean"] for pair in pairs)

    def ids(self, step: int) -> list[str]:
        """Which images the pairs of a step are cut from."""
        return [name for name, _ in self._draw(step)]

    def _input(self, name: str, seed: int) -> Array:
        """The degraded image, or, for some pairs, the clean one."""
        is_clean = np.random.default_rng([seed, CLEAN_DRAW]).random() < self._clean_share
        return (self._clean if is_clean else self._degraded).image(name)


class MaskBatches:
    """Augmented images and masks: step -> ((B, 3, crop, crop) in [0, 1], (B, crop, crop) int64).

    Random scale (x0.75 to x1.33), crop (padded with 255 in the mask), flip, brightness and contrast.
    """

    def __init__(self, split: Split, seed: int, crop: int, batch: int) -> None:
        import albumentations

        self._draw = _Draw(split.ids, batch, seed)
        self._split = split
        self._transform = albumentations.Compose(
            [
                albumentations.RandomScale((-0.25, 0.33), p=0.8),
                _random_crop(crop),
                albumentations.HorizontalFlip(),
                albumentations.RandomBrightnessContrast(0.2, 0.2),
            ]
        )

    def __call__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        views = [
            _transformed(self._transform, seed, image=self._split.image(name), mask=self._split.mask(name))
            for name, seed in self._draw(step)
        ]
        masks = torch.from_numpy(np.stack([view["mask"] for view in views]).astype(np.int64))
        return _stack(view["image"] for view in views), masks


class CropBatches:
    """Square crops resized to a network's own size: step -> (B, 3, size, size) in [0, 1]; `rank` as for pairs."""

    def __init__(
        self, split: Split, crop: int, size: int, batch: int, seed: int, rank: tuple[int, int] = SINGLE_RANK
    ) -> None:
        import albumentations

        self._draw = _Draw(split.ids, batch, seed, rank)
        self._split = split
        self._transform = albumentations.Compose(
            [
                _random_crop(crop),
                albumentations.Resize(size, size, interpolation=cv2.INTER_AREA),
                albumentations.HorizontalFlip(),
            ]
        )

    def __call__(self, step: int) -> torch.Tensor:
        views = [_transformed(self._transform, seed, image=self._split.image(name)) for name, seed in self._draw(step)]
        return _stack(view["image"] for view in views)


class _Draw:
    """The images of a step, or a rank's slice of them: epochs of permutations, with a seed for each image."""

    def __init__(self, ids: tuple[str, ...], batch: int, seed: int, rank: tuple[int, int] = SINGLE_RANK) -> None:
        self._ids, self._batch, self._seed = ids, batch, seed
        self._order = lru_cache(maxsize=2)(self._permutation)  # a batch may reach from one epoch into the next
        index, count = rank
        self._places = range(index * batch // count, (index + 1) * batch // count)

    def __call__(self, step: int) -> list[tuple[str, int]]:
        return [self._item(step * self._batch + place) for place in self._places]

    def _item(self, index: int) -> tuple[str, int]:
        epoch, place = divmod(index, len(self._ids))
        seed = int(np.random.default_rng([self._seed, epoch, place]).integers(2**31))
        return self._ids[int(self._order(epoch)[place])], seed

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([self._seed, epoch]).permutation(len(self._ids))


def _random_crop(size: int) -> Any:
    import albumentations

    return albumentations.RandomCrop(
        size, size, pad_if_needed=True, border_mode=cv2.BORDER_CONSTANT, fill=0, fill_mask=IGNORE_INDEX
    )


def _transformed(transform: Any, seed: int, **arrays: Array) -> dict[str, Array]:
    transform.set_random_seed(seed)
    result: dict[str, Array] = transform(**arrays)
    return result


def _stack(images: Any) -> torch.Tensor:
    return torch.stack([to_tensor(image) for image in images])
