"""Training batches. A batch is a pure function of seed and step.

A training can therefore resume at any step, and two objectives with the same seed see the same crops in the same order.
The batch of the next step is read while a step runs.
"""

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from .dataset import Split
from .images import to_tensor
from .labels import IGNORE_INDEX
from .prefetching import Prefetcher

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

Array = NDArray[np.uint8]
SINGLE_RANK = (0, 1)  # index of this rank and number of ranks: one process gets the whole batch
CLEAN_DRAW, MIXTURE_DRAW = 1, 2  # separate these draws from the other random draws of a pair
CROP_LABELS = ("detection", "segmentation")  # kinds of labels that can be cut out together with an image
SMALLEST_BOX = 2.0  # pixels; smaller remnants of boxes in a crop are dropped
SMALLEST_SHARE = 0.1  # of a box's area in a crop; smaller remnants are dropped

KEPT_BYTES = 2**27  # of the decoded images of a split: a small one is read once, and not in every epoch

Labels = torch.Tensor | list[torch.Tensor]  # masks (B, crop, crop) int64; or the boxes (K, 5) of each crop


class PairBatches:
    """Batches of degraded and clean crops of the same place: step -> two tensors (B, 3, crop, crop) in [0, 1].

    Pairs are matched by id and transformed together: random crop, horizontal flip.

    Args:
        degraded: the split of degraded images, or the splits of several degradations: one of them is drawn for each
            pair, with equal chances. The pairs do not depend on it otherwise.
        clean: the split of clean images, with the same ids.
        crop: side of the square crops in pixels.
        batch: pairs per step, over all ranks.
        seed: seed of order, crops and flips.
        rank: index of this rank in a data-parallel training, and number of ranks; each gets its slice of a batch.
        clean_share: share of pairs, drawn at random, whose degraded crop is the clean one. The other pairs do not
            depend on it.
        labels: what `labelled` reads: "segmentation" (masks), "detection" (boxes), or None: it cannot be called.

    Raises:
        ValueError: the splits do not have the same ids, or crops cannot have these labels.
    """

    def __init__(
        self,
        degraded: Split | Sequence[Split],
        clean: Split,
        crop: int,
        batch: int,
        seed: int,
        rank: tuple[int, int] = SINGLE_RANK,
        clean_share: float = 0.0,
        labels: str | None = None,
    ) -> None:
        splits = [degraded] if isinstance(degraded, Split) else list(degraded)
        for split in splits:
            if split.ids != clean.ids:
                raise ValueError(f"{split.folder}: its ids differ from those of {clean.folder}. Run degrade again")
        import albumentations

        self._draw = _Draw(clean.ids, batch, seed, rank)
        self._clean, self._clean_share = clean, clean_share
        self._clean_image, self._clean_mask = _kept(clean.image), _kept(clean.mask)
        self._degraded_images = [_kept(split.image) for split in splits]
        if labels not in (None, *CROP_LABELS):
            raise ValueError(f"crops have no labels for {labels}, only for {', '.join(CROP_LABELS)}")
        self._labels = labels
        boxes = albumentations.BboxParams(
            format="yolo",
            label_fields=["classes"],
            min_width=SMALLEST_BOX,
            min_height=SMALLEST_BOX,
            min_visibility=SMALLEST_SHARE,
            clip=True,
            filter_invalid_bboxes=True,
        )
        self._transform = albumentations.Compose(
            [_random_crop(crop), albumentations.HorizontalFlip()],
            additional_targets={"clean": "image"},
            bbox_params=boxes if labels == "detection" else None,
        )
        self._views = Prefetcher(self._read)

    def __call__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        views = self._views(step)
        return _stack(view["image"] for view in views), _stack(view["clean"] for view in views)

    def labelled(self, step: int) -> tuple[torch.Tensor, torch.Tensor, Labels]:
        """The pairs of a step, as a call gives them, and the labels of their crops.

        Masks are 255 outside the image. Boxes (K, 5) have the class index, centre, width and height, normalised to the
        crop. They are clipped at its border; remnants under 2 pixels or a tenth of the box are dropped.
        """
        views = self._views(step)
        pairs = _stack(view["image"] for view in views), _stack(view["clean"] for view in views)
        if self._labels == "segmentation":
            return *pairs, torch.from_numpy(np.stack([view["mask"] for view in views]).astype(np.int64))
        return *pairs, [torch.from_numpy(np.column_stack([view["classes"], view["bboxes"]])).float() for view in views]

    def _read(self, step: int) -> list[dict[str, Any]]:
        """The transformed images of each pair of a step, with labels if there are any."""
        return [
            _transformed(
                self._transform,
                seed,
                image=self._input(image_id, seed),
                clean=self._clean_image(image_id),
                **self._labels_of(image_id),
            )
            for image_id, seed in self._draw(step)
        ]

    def _labels_of(self, image_id: str) -> dict[str, NDArray[Any]]:
        if self._labels == "segmentation":
            return {"mask": self._clean_mask(image_id)}
        if self._labels == "detection":
            boxes = self._clean.boxes(image_id)
            return {"bboxes": boxes[:, 1:], "classes": boxes[:, 0]}
        return {}

    def ids(self, step: int) -> list[str]:
        """The ids of the images that the pairs of a step are cut from."""
        return [image_id for image_id, _ in self._draw(step)]

    def _input(self, image_id: str, seed: int) -> Array:
        """The degraded image, or the clean image for `clean_share` of the pairs."""
        is_clean = np.random.default_rng([seed, CLEAN_DRAW]).random() < self._clean_share
        return self._clean_image(image_id) if is_clean else self._drawn_images(seed)(image_id)

    def _drawn_images(self, seed: int) -> Callable[[str], Array]:
        if len(self._degraded_images) == 1:
            return self._degraded_images[0]
        return self._degraded_images[np.random.default_rng([seed, MIXTURE_DRAW]).integers(len(self._degraded_images))]


class MaskBatches:
    """Batches of augmented images and masks: step -> ((B, 3, crop, crop) in [0, 1], (B, crop, crop) int64).

    Random scale (x0.75 to x1.33), crop (padded with 255 in the mask), flip, brightness and contrast.
    """

    def __init__(self, split: Split, seed: int, crop: int, batch: int) -> None:
        import albumentations

        self._draw = _Draw(split.ids, batch, seed)
        self._image, self._mask = _kept(split.image), _kept(split.mask)
        self._transform = albumentations.Compose(
            [
                albumentations.RandomScale((-0.25, 0.33), p=0.8),
                _random_crop(crop),
                albumentations.HorizontalFlip(),
                albumentations.RandomBrightnessContrast(0.2, 0.2),
            ]
        )
        self._batches = Prefetcher(self._read)

    def __call__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self._batches(step)

    def _read(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        views = [
            _transformed(self._transform, seed, image=self._image(image_id), mask=self._mask(image_id))
            for image_id, seed in self._draw(step)
        ]
        masks = torch.from_numpy(np.stack([view["mask"] for view in views]).astype(np.int64))
        return _stack(view["image"] for view in views), masks


class CropBatches:
    """Batches of square crops resized to `size` pixels: step -> (B, 3, size, size) in [0, 1].

    `rank` is that of `PairBatches`.
    """

    def __init__(
        self, split: Split, crop: int, size: int, batch: int, seed: int, rank: tuple[int, int] = SINGLE_RANK
    ) -> None:
        import albumentations

        self._draw = _Draw(split.ids, batch, seed, rank)
        self._image = _kept(split.image)
        self._transform = albumentations.Compose(
            [
                _random_crop(crop),
                albumentations.Resize(size, size, interpolation=cv2.INTER_AREA),
                albumentations.HorizontalFlip(),
            ]
        )
        self._batches = Prefetcher(self._read)

    def __call__(self, step: int) -> torch.Tensor:
        return self._batches(step)

    def _read(self, step: int) -> torch.Tensor:
        views = [
            _transformed(self._transform, seed, image=self._image(image_id)) for image_id, seed in self._draw(step)
        ]
        return _stack(view["image"] for view in views)


class _Draw:
    """Draws the (id, seed) pairs of a step, or this rank's slice of them. Each epoch is a permutation of the ids."""

    def __init__(self, ids: tuple[str, ...], batch: int, seed: int, rank: tuple[int, int] = SINGLE_RANK) -> None:
        self._ids, self._batch, self._seed = ids, batch, seed
        self._order = lru_cache(maxsize=2)(self._permutation)  # a batch may span two epochs
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


def _kept(read: Callable[[str], Array]) -> Callable[[str], Array]:
    """`read` of images or masks by id, which keeps the first KEPT_BYTES of them, read-only.

    An epoch visits each image once: whatever the last ones replaced would be read again before it is used.
    """
    kept: dict[str, Array] = {}
    free = KEPT_BYTES

    def read_or_kept(image_id: str) -> Array:
        nonlocal free
        if image_id in kept:
            return kept[image_id]
        array = read(image_id)
        array.setflags(write=False)
        if array.nbytes <= free:
            kept[image_id] = array
            free -= array.nbytes
        return array

    return read_or_kept


def _random_crop(size: int) -> Any:
    import albumentations

    return albumentations.RandomCrop(
        size, size, pad_if_needed=True, border_mode=cv2.BORDER_CONSTANT, fill=0, fill_mask=IGNORE_INDEX
    )


def _transformed(transform: Any, seed: int, **arrays: NDArray[Any]) -> dict[str, Any]:
    transform.set_random_seed(seed)
    result: dict[str, Any] = transform(**arrays)
    return result


def _stack(images: Any) -> torch.Tensor:
    return torch.stack([to_tensor(image) for image in images])
