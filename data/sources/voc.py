"""Pascal VOC: XML annotations, lists of images, and palette masks with an ignored border."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator

from .. import images
from ..labels import IGNORE_INDEX, DatasetError
from ..samples import Fault
from ..settings import Names, SplitOrAll
from .class_map import ClassMap
from .file_source import FileSettings, FileSource
from .objects import LabelError, LabelledObject, fitted_box, object_labels, report
from .splits import ImageEntry, divided_or_not, safe_inside

BACKGROUND = "background"
SUFFIXES = (".jpg", ".jpeg", ".png")
CLASSES = ["aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable"]
CLASSES += ["dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"]
CORNERS = ("xmin", "ymin", "xmax", "ymax")


class Settings(FileSettings):
    """The section data.voc.

    Attributes:
        sets: lists of images by split, or under "all" to draw the splits: "VOC2012/train", or "train" if the root
            is the folder of a year.
        lists: the folder of the lists in ImageSets: Main, Segmentation or another.
        classes: the source's class names in the masks' index order.
        masks: whether SegmentationClass is read.
        rest: the class of pixels whose class `map` drops; None ignores these pixels.
    """

    sets: Annotated[dict[SplitOrAll, Names], AfterValidator(divided_or_not)]
    lists: str = "Main"
    classes: Names = CLASSES
    masks: bool = False
    rest: str | None = None


@dataclass(frozen=True)
class Annotation:
    """The XML file of one image; `size` is its (width, height) in pixels, None if it has none."""

    file: Path
    size: tuple[int, int] | None
    objects: tuple[ElementTree.Element, ...]


class Voc(FileSource):
    """Pascal VOC, and other data in its format.

    - Corners are pixels counted from 1, both inclusive, as in VOC's tools: a box from 1 to 10 is 10 pixels wide.
    - Objects marked `difficult` are ignored in detection, as VOC's evaluation does.
    - Masks (SegmentationClass) hold 0 for the background, then the classes; 255, the border, is ignored.
    - VOC's tools ignore EXIF rotation. Images are read as stored, unless only the rotated image has the size in the
      XML file.
    - An XML file with a document type is refused, because its entities could fill the memory.

    Args:
        root: the folder that the entries of `sets` are relative to: VOCdevkit or the folder of a year.
        settings: `Settings`, or a section of params.yaml that is checked against them.
        seed: of the drawn splits.
        options: `trust_paths`, as of `FileSource`.

    Raises:
        DatasetError: a list is missing, or the class map is not valid.
    """

    key = "data.voc"
    settings_type = Settings
    settings: Settings

    def __init__(self, root: Path, settings: Mapping[str, Any] | FileSettings, seed: int, **options: Any) -> None:
        super().__init__(root, settings, seed, **options)
        self._names = self.settings.classes
        masks = self.settings.masks
        names = [BACKGROUND, *self._names] if masks else self._names
        rest = self.settings.rest if masks else None
        self._map = ClassMap(self.key, names, self.settings.map, rest, [BACKGROUND])
        self._table = self._map.table(names)
        self._table[IGNORE_INDEX] = IGNORE_INDEX
        self.classes = {"detection": self._map.objects}
        if masks:
            self.classes["segmentation"] = self._map.pixels
        self.description["boxes"] = "as annotated; difficult objects are ignored"

    def find(self, faults: list[Fault]) -> Mapping[str, Sequence[ImageEntry]]:
        entries: dict[str, list[ImageEntry]] = {}
        for split, lists in self.settings.sets.items():
            for path in lists:
                year, _, name = path.rpartition("/")
                entries.setdefault(split, []).extend(self._list(self.root / year, name, faults))
        return entries

    def size(self, entry: ImageEntry) -> tuple[int, int] | None:
        """The size in the XML file. If the file is unreadable, `label` adds the fault."""
        try:
            return _annotation(entry.labels[0]).size
        except LabelError:
            return None

    def label(self, entry: ImageEntry, shape: tuple[int, int], faults: list[Fault]) -> dict[str, Any]:
        file, mask_file = entry.labels
        labels: dict[str, Any] = {}
        try:
            annotation = _annotation(file)
        except LabelError as error:
            report(faults, str(file), error)
        else:
            if annotation.size not in (None, (shape[1], shape[0])):
                faults.append(Fault(str(file), f"size differs: it says {annotation.size}, the image has {shape[::-1]}"))
            objects = [self._object(annotation, index, shape, faults) for index in range(len(annotation.objects))]
            labels = object_labels([labelled for labelled in objects if labelled], shape, self._map)
        if mask_file is not None:
            labels["mask"] = self._mask(mask_file, shape, faults)
        return labels

    def _list(self, year: Path, name: str, faults: list[Fault]) -> list[ImageEntry]:
        file = year / "ImageSets" / self.settings.lists / f"{name}.txt"
        try:
            lines = file.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(f"{file}: cannot be read ({error}). Correct data.voc.sets or data.voc.lists") from error
        entries = []
        for number, line in enumerate(lines, start=1):
            words = line.split()
            if words and safe_inside(year, words[0]) is None:
                faults.append(Fault(f"{file}:{number}", f"unusable entry: {words[0]!r} leads out of the folder"))
            elif words and words[-1] != "-1":  # in lists of one class, -1 marks images without it
                entries.append(self._entry(year, words[0], faults))
        return [entry for entry in entries if entry is not None]

    def _entry(self, year: Path, name: str, faults: list[Fault]) -> ImageEntry | None:
        choices = [year / "JPEGImages" / f"{name}{suffix}" for suffix in SUFFIXES]
        image = next((path for path in choices if path.exists()), choices[0])
        annotation = year / "Annotations" / f"{name}.xml"
        mask = year / "SegmentationClass" / f"{name}.png" if self.settings.masks else None
        if not image.exists() and annotation.exists():
            faults.append(Fault(str(annotation), f"label without image: {image} is missing"))
            return None
        missing = [path for path in (annotation, mask) if path is not None and not path.exists()]
        faults.extend(Fault(str(image), f"image without label: {path} is missing") for path in missing)
        return None if missing else ImageEntry(image, (annotation, mask))

    def _object(
        self, annotation: Annotation, index: int, shape: tuple[int, int], faults: list[Fault]
    ) -> LabelledObject | None:
        entry = annotation.objects[index]
        where = f"{annotation.file}: object {index + 1}"
        name = (entry.findtext("name") or "").strip()
        if name not in self._names:
            text = f"class out of range: {name!r} is not among data.voc.classes: {', '.join(self._names)}"
            faults.append(Fault(where, text))
            return None
        category = self._map.object(name)
        try:
            box = _box(entry, shape)
        except LabelError as error:
            report(faults, where, error)
            return None
        is_difficult = (entry.findtext("difficult") or "0").strip() == "1"
        return None if category is None else LabelledObject(category, box, is_difficult)

    def _mask(self, file: Path, shape: tuple[int, int], faults: list[Fault]) -> Any:
        codes = self.attempt(faults, file, "unreadable mask", lambda: images.read_indices(file))
        if codes is None:
            return None
        if codes.shape != shape:
            faults.append(Fault(str(file), f"size differs: mask of {codes.shape[::-1]}, image of {shape[::-1]}"))
        strange = codes[(codes > len(self._names)) & (codes != IGNORE_INDEX)]
        if strange.size:
            text = f"class out of range: index {int(strange[0])}; there are 0 to {len(self._names)}, and 255"
            faults.append(Fault(str(file), text))
        return self._table[codes]


def _annotation(file: Path) -> Annotation:
    """Read the XML file of one image.

    Raises:
        LabelError: it is not XML in UTF-8, or has a document type.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise LabelError("unreadable label: XML with a document type is refused")
        # Setting the encoding keeps an encoding declaration in the file from changing what the parser reads.
        root = ElementTree.fromstring(text.encode(), parser=ElementTree.XMLParser(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ElementTree.ParseError) as error:
        raise LabelError(f"unreadable label: {error}") from error
    return Annotation(file, _size(root), tuple(root.findall("object")))


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    try:
        width, height = (int(float(root.findtext(f"size/{side}", "0"))) for side in ("width", "height"))
    except (ValueError, OverflowError):
        return None
    return (width, height) if width and height else None  # some tools write 0 for an unknown size


def _box(entry: ElementTree.Element, shape: tuple[int, int]) -> tuple[float, float, float, float]:
    texts = [entry.findtext(f"bndbox/{corner}") for corner in CORNERS]
    try:
        values = np.array([float(text) for text in texts if text is not None])
    except ValueError:
        values = np.array([])
    if values.size != len(CORNERS):
        raise LabelError(f"malformed box: {', '.join(CORNERS)} are {texts}")
    left, top, right, bottom = (float(value) for value in values)
    return fitted_box((left - 1, top - 1, right, bottom), shape)
