"""COCO's instance annotations: boxes, polygons, run lengths and crowds in one JSON file per split."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, Field

from ..labels import DatasetError, decode_mask
from ..samples import Fault
from ..settings import Settings as BaseSettings
from ..settings import SplitOrAll
from .class_map import ClassMap
from .file_source import FileSettings, FileSource
from .objects import (
    LabelError,
    LabelledObject,
    fitted_box,
    object_classes,
    object_labels,
    polygon_counts,
    report,
    run_length_counts,
)
from .splits import ImageEntry, divided_or_not, safe_inside

Annotation = dict[str, Any]


@dataclass(frozen=True)
class Labels:
    """The labels of one image in the JSON file; `size` is (width, height) in pixels."""

    json: str
    size: tuple[int, int] | None
    annotations: tuple[Annotation, ...]


class Files(BaseSettings):
    """The files of one split, relative to the root.

    Attributes:
        json_file: the file with the annotations.
        images: the folder of the images.
    """

    json_file: Annotated[str, Field(alias="json")]
    images: str


class Settings(FileSettings):
    """The section data.coco.

    Attributes:
        files: the files of train, val and test; or of "all", from which the splits are drawn.
        masks: whether outlines are read.
        rest: the class of all pixels without an object; None ignores these pixels.
        category: whether each image gets the class with the largest total area; images without objects are dropped.
    """

    files: Annotated[dict[SplitOrAll, Files], AfterValidator(divided_or_not)]
    masks: bool = True
    rest: str | None = "background"
    category: bool = False

    has_fields: ClassVar[bool] = True


class Coco(FileSource):
    """Images and annotations in COCO's format.

    - Boxes are those of the annotations; an annotation without a box gets the box of its outline.
    - Crowds (`iscrowd`) are ignored in detection, and painted as their class in masks, as COCO-Stuff does.
    - Masks paint all objects, the largest first; `rest` is the class of all other pixels.
    - COCO's tools ignore EXIF rotation. Images are read as stored, unless only the rotated image has the width and
      height in the JSON file.
    - Images without annotations are kept, because false detections in them count.

    Args:
        root: the folder that the paths of `files` are relative to.
        settings: `Settings`, or a section of params.yaml that is checked against them.
        seed: of the drawn splits.
        options: `trust_paths`, as of `FileSource`.

    Raises:
        DatasetError: a file is missing or not in COCO's format, or the class map is not valid.
    """

    key = "data.coco"
    settings_type = Settings
    settings: Settings

    def __init__(self, root: Path, settings: Mapping[str, Any] | FileSettings, seed: int, **options: Any) -> None:
        super().__init__(root, settings, seed, **options)
        paths: dict[str, Path] = {split: root / files.json_file for split, files in self.settings.files.items()}
        self._contents: dict[str, dict[str, Any]] = {split: _read(path) for split, path in paths.items()}
        self._names = _categories(self._contents, paths)
        names = list(self._names.values())
        rest = self.settings.rest if self.settings.masks else None
        self._map = ClassMap(self.key, names, self.settings.map, rest)
        self.classes = object_classes(self._map, self.settings.masks, self.settings.category, self.key)
        self.description["boxes"] = "as annotated; crowds are ignored"

    def find(self, faults: list[Fault]) -> Mapping[str, Sequence[ImageEntry]]:
        entries: dict[str, list[ImageEntry]] = {}
        for split, files in self.settings.files.items():
            path, folder = self.root / files.json_file, self.root / files.images
            if not folder.is_dir():
                raise DatasetError(f"{folder}: no such folder. Correct {self.key}.files.{split}.images")
            entries[split] = self._images(path, folder, self._contents[split], faults)
        return entries

    def part(self, split: str, ids: Sequence[str]) -> Self:
        small = super().part(split, ids)
        small._contents = {}
        return small

    def size(self, entry: ImageEntry) -> tuple[int, int] | None:
        size: tuple[int, int] | None = entry.labels.size
        return size

    def label(self, entry: ImageEntry, shape: tuple[int, int], faults: list[Fault]) -> dict[str, Any]:
        labels: Labels = entry.labels
        if labels.size is not None and labels.size != (shape[1], shape[0]):
            text = (
                f"size differs: {labels.json} says {labels.size[0]} x {labels.size[1]}, it has {shape[1]} x {shape[0]}"
            )
            faults.append(Fault(str(entry.image), text))
            return {}
        place = f"{labels.json}: {entry.image.name}"
        objects = [self._object(annotation, place, shape, faults) for annotation in labels.annotations]
        usable = [labelled for labelled in objects if labelled]
        return object_labels(usable, shape, self._map, masks=self.settings.masks, category=self.settings.category)

    def _images(self, path: Path, folder: Path, content: Any, faults: list[Fault]) -> list[ImageEntry]:
        annotations = self._annotations(path, content, faults)
        entries, seen = [], set()
        for index, image in enumerate(content["images"]):
            number, file = image.get("id"), _image_file(folder, image)
            if not isinstance(number, int | str) or number in seen or file is None:
                faults.append(
                    Fault(f"{path}: images[{index}]", f"unusable entry: id {number}, {image.get('file_name')!r}")
                )
                continue
            seen.add(number)
            annotated = tuple(annotations.pop(number, ()))
            if not self.settings.category or any(self._counts(annotation) for annotation in annotated):
                labels = Labels(str(path), _size(image), annotated)
                entries.append(ImageEntry(file, labels, self._group(image)))
        for number, strays in annotations.items():
            if number not in seen:
                where = f"{path}: annotation {strays[0].get('id')}"
                faults.append(Fault(where, f"label without image: {len(strays)} annotations of image {number}"))
        return entries

    def _group(self, image: Mapping[str, Any]) -> str | None:
        groups = self.settings.groups
        value = None if groups is None or groups.field is None else image.get(groups.field)
        return str(value) if isinstance(value, int | str) and not isinstance(value, bool) else None

    def _annotations(self, path: Path, content: Any, faults: list[Fault]) -> dict[Any, list[Annotation]]:
        """Annotations by the id of their image."""
        annotations: dict[Any, list[Annotation]] = {}
        for index, annotation in enumerate(content["annotations"]):
            if not isinstance(annotation, dict) or not isinstance(annotation.get("image_id"), int | str):
                faults.append(Fault(f"{path}: annotations[{index}]", "label without image: it has no image_id"))
            else:
                annotations.setdefault(annotation["image_id"], []).append(annotation)
        return annotations

    def _counts(self, annotation: Annotation) -> bool:
        """Whether an annotation is an object of a kept class, and not a crowd."""
        number = annotation.get("category_id")
        name = self._names.get(number) if isinstance(number, int) else None
        return not annotation.get("iscrowd") and name is not None and self._map.object(name) is not None

    def _object(
        self, annotation: Annotation, place: str, shape: tuple[int, int], faults: list[Fault]
    ) -> LabelledObject | None:
        where = f"{place}: annotation {annotation.get('id')}"
        number = annotation.get("category_id")
        if not isinstance(number, int) or number not in self._names:
            faults.append(Fault(where, f"class out of range: category_id {number} is not among the categories"))
            return None
        category = self._map.object(self._names[number])
        if category is None:
            return None
        try:
            counts = _outline(annotation, shape) if self.settings.masks else None
            box = _box(annotation, counts, shape)
            return LabelledObject(category, box, bool(annotation.get("iscrowd")), counts)
        except LabelError as error:
            report(faults, where, error)
            return None


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}). Correct data.coco.files") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not valid JSON ({error}). Replace the file") from error
    for part in ("images", "annotations", "categories"):
        entries = content.get(part) if isinstance(content, dict) else None
        if not isinstance(entries, list) or (part != "annotations" and not all(isinstance(e, dict) for e in entries)):
            raise DatasetError(
                f"{path}: not COCO annotations: it has no list {part!r} of mappings. Correct data.coco.files"
            )
    return content


def _categories(files: Mapping[str, Mapping[str, Any]], paths: Mapping[str, Path]) -> dict[int, str]:
    """Class names by category id, in the order of the ids; all files must agree."""
    tables = []
    for split, content in files.items():
        try:
            table = {int(entry["id"]): str(entry["name"]) for entry in content["categories"]}
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DatasetError(f"{paths[split]}: a category has no id or no name. Add it") from error
        tables.append((paths[split], dict(sorted(table.items()))))
    for path, table in tables[1:]:
        if table != tables[0][1]:
            raise DatasetError(
                f"{path}: its categories differ from those of {tables[0][0]}. Use the same categories in all files"
            )
    if not tables:
        raise DatasetError("data.coco.files: no file is named. Name the files of each split")
    return tables[0][1]


def _image_file(folder: Path, image: Mapping[str, Any]) -> Path | None:
    name = image.get("file_name")
    return safe_inside(folder, name) if isinstance(name, str) else None


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    width, height = image.get("width"), image.get("height")
    return (width, height) if isinstance(width, int) and isinstance(height, int) else None


def _outline(annotation: Annotation, shape: tuple[int, int]) -> str:
    outline = annotation.get("segmentation")
    if isinstance(outline, dict):
        return run_length_counts(outline, shape)
    if not isinstance(outline, list):
        raise LabelError("no outline: set data.coco.masks to false if the annotations have boxes only")
    return polygon_counts(outline, shape)


def _box(annotation: Annotation, counts: str | None, shape: tuple[int, int]) -> tuple[float, float, float, float]:
    box = annotation.get("bbox")
    if box is None and counts is not None:
        rows, columns = decode_mask(counts, shape).nonzero()
        return (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(v, int | float) for v in box):
        raise LabelError(f"malformed box: {repr(box)[:60]}; expected [x, y, width, height]")
    try:
        x, y, width, height = (float(value) for value in box)
    except OverflowError as error:
        raise LabelError("malformed box: a number beyond all images") from error
    return fitted_box((x, y, x + width, y + height), shape)
