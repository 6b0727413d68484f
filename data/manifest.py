"""The canonical dataset on disk: one folder that every stage reads and every source is turned into.

dataset.json          name, classes, ignore_index, splits (counts), source
<split>/images/<id>.png
<split>/labels/<id>.txt     YOLO lines; an absent folder means: no detection labels
<split>/ignored/<id>.txt    YOLO lines of crowds: detections in them count neither as right nor as wrong; optional
<split>/instances/<id>.json every object's mask as COCO's compressed run lengths; optional
<split>/categories/<id>.txt the class index of the whole image; optional
<split>/masks/<id>.png      class indices; an absent folder means: no segmentation labels
<split>/depth/<id>.png      16-bit depth, metres x 256; optional
"""

import glob
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data import images
from data.description import IGNORE_INDEX as IGNORE_INDEX
from data.description import INFO_FILE, DatasetError, DatasetInfo, read_info

UNPAIRED = "unpaired"  # in dataset.json's source: real degraded images, which have no clean counterpart
LABELS = ("detection", "segmentation", "instance-segmentation", "classification")  # keys of a dataset's classes
LONGEST_INDEX = 9  # digits of a class index
LABEL_FOLDERS = ("labels", "ignored", "instances", "categories", "masks")


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
class Instance:
    """One object, or a crowd of them, with its mask in COCO's compressed run-length form (size: the image's)."""

    category: int
    counts: str
    crowd: bool = False


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


@dataclass(frozen=True)
class Split:
    """One split of a dataset: where its files lie and which ids it has."""

    folder: Path
    ids: tuple[str, ...] = field(repr=False)

    def image(self, name: str) -> NDArray[np.uint8]:
        """uint8 RGB (H, W, 3)."""
        return images.read_image(self.folder / "images" / f"{name}.png")

    def mask(self, name: str) -> NDArray[np.uint8]:
        """uint8 (H, W) class indices."""
        return images.read_mask(self.folder / "masks" / f"{name}.png")

    def depth(self, name: str) -> NDArray[np.float32] | None:
        """float32 (H, W) metres, or None where the dataset has no depth."""
        path = self.folder / "depth" / f"{name}.png"
        return images.read_depth(path) if path.exists() else None

    def boxes(self, name: str) -> NDArray[np.float64]:
        """(K, 5): class index, centre x, centre y, width, height, normalised to [0, 1]."""
        return read_boxes(self.folder / "labels" / f"{name}.txt")

    def ignored(self, name: str) -> NDArray[np.float64]:
        """(K, 5) as `boxes`: crowds; none where the dataset does not know any."""
        path = self.folder / "ignored" / f"{name}.txt"
        return read_boxes(path) if path.exists() else np.empty((0, 5))

    def instances(self, name: str) -> tuple[Instance, ...]:
        """The masks of all objects and crowds."""
        return read_instances(self.folder / "instances" / f"{name}.json")

    def category(self, name: str) -> int:
        """The class index of the whole image."""
        return read_category(self.folder / "categories" / f"{name}.txt")


@dataclass(frozen=True)
class Dataset:
    """A canonical dataset folder, opened for reading."""

    folder: Path
    info: DatasetInfo

    @classmethod
    def open(cls, folder: Path) -> "Dataset":
        """Open a folder.

        Raises:
            DatasetError: there is no valid dataset.json.
        """
        return cls(folder, read_info(folder / INFO_FILE))

    @cached_property
    def evaluation_split(self) -> str:
        """The split that results are reported on: test, or val where there is no test."""
        return "test" if any(_base(name) == "test" for name in self.info.splits) else "val"

    @cached_property
    def evaluation_splits(self) -> tuple[str, ...]:
        """That split, or in a degraded dataset of several severities one copy for each: `test@1`, `test@3`, ..."""
        return tuple(name for name in self.info.splits if _base(name) == self.evaluation_split)

    @property
    def has_clean_images(self) -> bool:
        """Whether the images of the evaluation split exist without degradation, too."""
        return not self.info.source.get(UNPAIRED, False)

    def split(self, name: str) -> Split:
        """Open one split.

        Raises:
            DatasetError: no such split, or its files do not match the recorded count.
        """
        if name not in self.info.splits:
            raise DatasetError(f"{self.folder}: no split {name!r}; there are {', '.join(self.info.splits)}")
        ids = tuple(sorted(path.stem for path in (self.folder / name / "images").glob("*.png")))
        if len(ids) != self.info.splits[name]:
            raise DatasetError(
                f"{self.folder / name / 'images'}: {len(ids)} images, but {INFO_FILE} says {self.info.splits[name]}"
            )
        return Split(self.folder / name, ids)


def write_sample(folder: Path, sample: Sample) -> None:
    """Write one sample's files below `folder`, in the layout above."""
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


def remove_sample(folder: Path, split: str, name: str) -> None:
    """Remove whatever `write_sample` wrote for one sample."""
    for kind in ("images", "depth", *LABEL_FOLDERS):
        for path in (folder / split / kind).glob(f"{glob.escape(name)}.*"):
            if path.stem == name:
                path.unlink()


def write_info(folder: Path, info: DatasetInfo) -> None:
    """Write dataset.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INFO_FILE).write_text(json.dumps(asdict(info), indent=1) + "\n")


def read_boxes(path: Path) -> NDArray[np.float64]:
    """Read YOLO lines as (K, 5).

    Raises:
        DatasetError: the file cannot be read, or a line is not a class index and four numbers; the text names
            file and line.
    """
    rows = []
    for number, line in enumerate(_text(path, "YOLO lines").splitlines(), start=1):
        try:
            row = [float(word) for word in line.split()]
        except ValueError:
            row = []
        if len(row) != 5 or not np.isfinite(row).all() or row[0] < 0 or row[0] != int(row[0]):
            raise DatasetError(f"{path}:{number}: expected 'class cx cy w h', got {line[:60]!r}")
        rows.append(row)
    return np.array(rows, dtype=np.float64).reshape(-1, 5)


def write_boxes(path: Path, boxes: Iterable[Iterable[float]]) -> None:
    """Write (K, 5) boxes as YOLO lines."""
    lines = [f"{int(c)} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for c, x, y, w, h in boxes]
    path.write_text("".join(lines))


def read_instances(path: Path) -> tuple[Instance, ...]:
    """Read the masks of one image's objects.

    Raises:
        DatasetError: the file is missing or does not hold them.
    """
    try:
        found = tuple(Instance(**entry) for entry in json.loads(_text(path, "a list of instances")))
    except (TypeError, json.JSONDecodeError, RecursionError) as error:
        raise DatasetError(f"{path}: expected a list of instances ({' '.join(str(error).split())})") from error
    for one in found:
        if type(one.category) is not int or one.category < 0 or not isinstance(one.counts, str):
            raise DatasetError(f"{path}: expected instances of a class index and run lengths, got {str(one)[:80]}")
    return found


def write_instances(path: Path, instances: Iterable[Instance]) -> None:
    """Write the masks of one image's objects."""
    path.write_text(json.dumps([asdict(instance) for instance in instances]) + "\n")


def read_category(path: Path) -> int:
    """Read the class index of one image.

    Raises:
        DatasetError: the file is missing or is not a whole number from 0 on.
    """
    text = _text(path, "one class index").strip()
    if not (text.isascii() and text.isdigit() and len(text) <= LONGEST_INDEX):
        raise DatasetError(f"{path}: expected one class index, got {text[:60]!r}")
    return int(text)


def _text(path: Path, expected: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: expected {expected} ({error})") from error


def _base(split: str) -> str:
    return split.partition("@")[0]


def _file(split: Path, kind: str, name: str) -> Path:
    folder = split / kind
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name
