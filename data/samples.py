"""One labelled image as a source yields it: its fields, its faults, smaller copies, and its files in a dataset."""

import glob
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from . import images
from .labels import LABEL_FOLDERS, DatasetError, Instance, decode_mask, encode_mask, write_boxes, write_instances


@dataclass(frozen=True)
class Fault:
    """A fault in a file of the source data.

    Attributes:
        file: the path, with the line or entry if the fault is in one.
        fault: "kind: details"; faults are counted by kind.
        effect: "image" or "label": the whole image or one of its labels cannot be used; "converted": it was repaired,
            and the image is used; "note": no image is concerned.
    """

    file: str
    fault: str
    effect: Literal["image", "label", "converted", "note"] = "image"

    @property
    def is_bad(self) -> bool:
        """Whether something cannot be used."""
        return self.effect in ("image", "label")


class FaultError(DatasetError):
    """A sample that cannot be used.

    Attributes:
        faults: all of its faults.
        sample: the sample without its bad labels, if nothing else is wrong with it.
    """

    def __init__(self, faults: Sequence[Fault], sample: "Sample | None" = None) -> None:
        super().__init__("; ".join(f"{fault.file}: {fault.fault}" for fault in faults))
        self.faults = tuple(faults)
        self.sample = sample


@dataclass(frozen=True)
class Sample:
    """One labelled image, as a source yields it."""

    id: str
    split: str
    image: NDArray[np.uint8]  # (H, W, 3) RGB
    boxes: NDArray[np.float64] | None = None  # (K, 5): class index, centre x, centre y, width, height in [0, 1]
    mask: NDArray[np.uint8] | None = None  # (H, W) class indices, 255 = ignored
    depth: NDArray[np.float32] | None = None  # (H, W) metres
    ignored: NDArray[np.float64] | None = (
        None  # (K, 5) as `boxes`: crowds, which count neither as objects nor as background
    )
    instances: tuple[Instance, ...] | None = None
    category: int | None = None  # class index of the whole image
    file: Path | None = None  # an 8-bit RGB PNG with the same pixels: it is copied instead of encoding `image` again
    conversions: tuple[Fault, ...] = ()  # repairs that made `image` 8-bit RGB
    origin: Path | None = None  # the image file of the source data


def shrink(sample: Sample, longest: int) -> Sample:
    """The sample at a smaller size, so that its longer side has at most `longest` pixels.

    A sample that is small enough is returned unchanged. Images are averaged over areas. Masks and depth use the nearest
    pixel, so that no value is mixed across an edge. Boxes are normalised and stay the same. An instance mask that would
    become empty keeps the pixel at its centre.

    Args:
        sample: the sample at its original size.
        longest: the largest length of the longer side, in pixels.
    """
    height, width = sample.image.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return sample
    size = max(1, round(width * scale)), max(1, round(height * scale))
    instances = sample.instances
    if instances is not None:
        instances = tuple(_shrink_instance(instance, (height, width), size) for instance in instances)
    return replace(
        sample,
        image=np.asarray(cv2.resize(sample.image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8),
        mask=None if sample.mask is None else _nearest(sample.mask, size),
        depth=None if sample.depth is None else _nearest(sample.depth, size),
        instances=instances,
        file=None,
    )


def write_sample(folder: Path, sample: Sample) -> None:
    """Write the files of one sample below `folder`, in the layout of a canonical dataset."""
    split = folder / sample.split
    image = _file(split, "images", f"{sample.id}.png")
    if sample.file is None:
        images.write_image(image, sample.image)
    else:
        images.copy_image(sample.file, image)
    if sample.boxes is not None:
        write_boxes(_file(split, "labels", f"{sample.id}.txt"), sample.boxes)
    if sample.ignored is not None and len(sample.ignored):
        write_boxes(_file(split, "ignored", f"{sample.id}.txt"), sample.ignored)
    if sample.instances is not None:
        write_instances(_file(split, "instances", f"{sample.id}.json"), sample.instances)
    if sample.category is not None:
        _file(split, "categories", f"{sample.id}.txt").write_text(f"{sample.category}\n")
    if sample.mask is not None:
        images.write_mask(_file(split, "masks", f"{sample.id}.png"), sample.mask)
    if sample.depth is not None:
        images.write_depth(_file(split, "depth", f"{sample.id}.png"), sample.depth)


def remove_sample(folder: Path, split: str, image_id: str) -> None:
    """Remove all files that `write_sample` wrote for one sample."""
    for kind in ("images", "depth", *LABEL_FOLDERS):
        for path in (folder / split / kind).glob(f"{glob.escape(image_id)}.*"):
            if path.stem == image_id:
                path.unlink()


def copy_labels(source: Path, target: Path) -> None:
    """Copy all labels of one split's folder to another split's folder. Images and depth are not copied."""
    (target / "images").mkdir(parents=True, exist_ok=True)
    for kind in LABEL_FOLDERS:
        if (source / kind).is_dir():
            shutil.copytree(source / kind, target / kind, dirs_exist_ok=True)


def _file(split: Path, kind: str, name: str) -> Path:
    folder = split / kind
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def _nearest(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    return cv2.resize(values, size, interpolation=cv2.INTER_NEAREST_EXACT)


def _shrink_instance(instance: Instance, shape: tuple[int, int], size: tuple[int, int]) -> Instance:
    full = np.ascontiguousarray(decode_mask(instance.counts, shape))
    mask = _nearest(full, size)
    if full.any() and not mask.any():
        rows, columns = full.nonzero()
        mask[int(rows.mean() * size[1] / shape[0]), int(columns.mean() * size[0] / shape[1])] = 1
    return replace(instance, counts=encode_mask(mask))
