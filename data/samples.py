"""One labelled image on its way into a dataset: what a source yields, what can be wrong with it, its files."""

import glob
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import images
from .labels import LABEL_FOLDERS, DatasetError, Instance, write_boxes, write_instances


@dataclass(frozen=True)
class Fault:
    """Something wrong with a file from outside.

    Attributes:
        file: the file, with a line or an entry where there is one.
        fault: "kind: details"; faults are counted by kind.
        converted: it has been put right, so that the image can be used.
    """

    file: str
    fault: str
    converted: bool = False


class FaultError(DatasetError):
    """A sample that cannot be used, with everything that is wrong with it."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{fault.file}: {fault.fault}" for fault in faults))
        self.faults = tuple(faults)


@dataclass(frozen=True)
class Sample:
    """One labelled image, as a source yields it."""

    id: str
    split: str
    image: NDArray[np.uint8]  # (H, W, 3) RGB
    boxes: NDArray[np.float64] | None = None  # (K, 5): class index, centre x, centre y, width, height in [0, 1]
    mask: NDArray[np.uint8] | None = None  # (H, W) class indices, 255 = ignored
    depth: NDArray[np.float32] | None = None  # (H, W) metres
    ignored: NDArray[np.float64] | None = None  # as boxes: crowds, which are neither objects nor background
    instances: tuple[Instance, ...] | None = None
    category: int | None = None  # class index of the whole image
    file: Path | None = None  # an 8-bit RGB PNG that holds `image` already: it is copied, not encoded again
    conversions: tuple[Fault, ...] = ()  # what was changed to make `image` 8-bit RGB


def write_sample(folder: Path, sample: Sample) -> None:
    """Write one sample's files below `folder`, in the layout of a canonical dataset."""
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
    """Remove whatever `write_sample` wrote for one sample."""
    for kind in ("images", "depth", *LABEL_FOLDERS):
        for path in (folder / split / kind).glob(f"{glob.escape(image_id)}.*"):
            if path.stem == image_id:
                path.unlink()


def copy_labels(source: Path, target: Path) -> None:
    """Copy everything but images and depth from one split's folder to another's; a second time changes nothing."""
    (target / "images").mkdir(parents=True, exist_ok=True)
    for kind in LABEL_FOLDERS:
        if (source / kind).is_dir():
            shutil.copytree(source / kind, target / kind, dirs_exist_ok=True)


def _file(split: Path, kind: str, name: str) -> Path:
    folder = split / kind
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name
