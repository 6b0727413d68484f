"""Pascal VOC: XML annotations, lists of images, and palette masks with a border that is ignored."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import images
from ..dataset import IGNORE_INDEX, DatasetError
from ..samples import Fault
from .class_map import ClassMap
from .file_source import Outside
from .objects import LabelError, Thing, fitted_box, object_labels, report
from .splits import Found, safe_inside

BACKGROUND = "background"
SUFFIXES = (".jpg", ".jpeg", ".png")
CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class Annotation:
    """One image's XML file, with the (width, height) that it gives."""

    file: Path
    size: tuple[int, int] | None
    objects: tuple[ElementTree.Element, ...]


class Voc(Outside):
    """Pascal VOC, and data that others wrote in its format.

    - Corners are pixels counted from 1, both included, as in VOC's own tools: the box of 1 to 10 is 10 wide.
    - Objects marked `difficult` are ignored in detection, as VOC's evaluation does.
    - Masks (SegmentationClass) hold 0 for the background, then the classes; 255, the border, is ignored.
    - VOC's tools don't turn images by their EXIF: they are read as stored, unless only the turned image has the
      size that the XML gives.
    - An XML file with a document type is refused: entities in it could fill the memory.

    Args:
        root: the folder that the entries of `sets` start in: VOCdevkit or one year's folder.
        settings: as for all outside data; and `sets`, for each split (or "all", to draw splits from) the lists of
            images: "VOC2012/train", or "train" where the root is the year's folder; `lists`, which lists: Main,
            Segmentation or another folder of ImageSets; `classes`, the source's class names in the masks' index
            order; `masks`, whether SegmentationClass is read; `rest`, the class of the pixels whose class `map`
            drops, or None.
        seed: of the drawn splits.

    Raises:
        DatasetError: a list is missing, or the class map does not fit.
    """

    key = "data.voc"

    def __init__(self, root: Path, settings: Mapping[str, Any], seed: int) -> None:
        super().__init__(root, settings, seed)
        self._names: list[str] = list(settings["classes"])
        masks = settings["masks"]
        names = [BACKGROUND, *self._names] if masks else self._names
        self._map = ClassMap(self.key, names, settings.get("map"), settings["rest"] if masks else None, [BACKGROUND])
        self._table = self._map.table(names)
        self._table[IGNORE_INDEX] = IGNORE_INDEX
        self.classes = {"detection": self._map.objects}
        if masks:
            self.classes["segmentation"] = self._map.pixels
        self.description["boxes"] = "as annotated; difficult objects are ignored"

    def find(self, faults: list[Fault]) -> Mapping[str, Sequence[Found]]:
        found: dict[str, list[Found]] = {}
        for split, entries in self.settings["sets"].items():
            for entry in entries or []:
                year, _, name = entry.rpartition("/")
                found.setdefault(split, []).extend(self._list(self.root / year, name, faults))
        return found

    def size(self, found: Found) -> tuple[int, int] | None:
        """As the XML says; where it is unreadable, that is found when the labels are read."""
        try:
            return _annotation(found.labels[0]).size
        except LabelError:
            return None

    def label(self, found: Found, shape: tuple[int, int], faults: list[Fault]) -> dict[str, Any]:
        file, mask_file = found.labels
        labels: dict[str, Any] = {}
        try:
            annotation = _annotation(file)
        except LabelError as error:
            report(faults, str(file), error)
        else:
            if annotation.size not in (None, (shape[1], shape[0])):
                faults.append(Fault(str(file), f"size differs: it says {annotation.size}, the image has {shape[::-1]}"))
            things = [self._thing(annotation, index, shape, faults) for index in range(len(annotation.objects))]
            chosen = [thing for thing in things if thing]
            labels = object_labels(chosen, shape, self._map, {"masks": False})
        if mask_file is not None:
            labels["mask"] = self._mask(mask_file, shape, faults)
        return labels

    def _list(self, year: Path, name: str, faults: list[Fault]) -> list[Found]:
        file = year / "ImageSets" / self.settings["lists"] / f"{name}.txt"
        try:
            lines = file.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(f"{file}: cannot be read ({error}); see data.voc.sets and data.voc.lists") from error
        found = []
        for number, line in enumerate(lines, start=1):
            words = line.split()
            if words and safe_inside(year, words[0]) is None:
                faults.append(Fault(f"{file}:{number}", f"unusable entry: {words[0]!r} leads out of the folder"))
            elif words and words[-1] != "-1":  # in the lists of one class: it is not in this image
                found.append(self._entry(year, words[0], faults))
        return [entry for entry in found if entry is not None]

    def _entry(self, year: Path, name: str, faults: list[Fault]) -> Found | None:
        choices = [year / "JPEGImages" / f"{name}{suffix}" for suffix in SUFFIXES]
        image = next((path for path in choices if path.exists()), choices[0])
        annotation = year / "Annotations" / f"{name}.xml"
        mask = year / "SegmentationClass" / f"{name}.png" if self.settings["masks"] else None
        if not image.exists() and annotation.exists():
            faults.append(Fault(str(annotation), f"label without image: {image} is missing"))
            return None
        missing = [path for path in (annotation, mask) if path is not None and not path.exists()]
        faults.extend(Fault(str(image), f"image without label: {path} is missing") for path in missing)
        return None if missing else Found(image, (annotation, mask))

    def _thing(self, annotation: Annotation, index: int, shape: tuple[int, int], faults: list[Fault]) -> Thing | None:
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
        return None if category is None else Thing(category, box, (entry.findtext("difficult") or "0").strip() == "1")

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
    """Read an XML file.

    Raises:
        LabelError: it is not XML in UTF-8, or has a document type.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise LabelError("unreadable label: XML with a document type is refused")
        # The encoding is set here, so that no declaration in the file makes the parser read other text than that.
        root = ElementTree.fromstring(text.encode(), parser=ElementTree.XMLParser(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ElementTree.ParseError) as error:
        raise LabelError(f"unreadable label: {error}") from error
    return Annotation(file, _size(root), tuple(root.findall("object")))


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    try:
        width, height = (int(float(root.findtext(f"size/{side}", "0"))) for side in ("width", "height"))
    except (ValueError, OverflowError):
        return None
    return (width, height) if width and height else None  # tools that do not know the size write 0


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
