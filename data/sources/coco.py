"""COCO's instance annotations: boxes, polygons, run lengths and crowds in one JSON file per split."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field

from ..labels import DatasetError, decode_mask
from ..samples import Fault
from ..settings import Settings as BaseSettings
from ..settings import SplitOrAll
from .class_map import ClassMap
from .coco_file import (
    Annotation,
    Id,
    annotations_by_image,
    category_names,
    class_names,
    content_of,
    has_outlines,
    identifier,
    image_finder,
    image_size,
    is_crowd,
    is_outline,
    read_json,
)
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
from .paths import ImageEntry
from .splits import divided_or_not

NO_BOX: tuple[Any, ...] = (None, [])


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of one image in the JSON file; `size` is (width, height) in pixels.

    Labels are equal if the size and the objects are, whatever ids they have in the file.
    """

    json: str
    size: tuple[int, int] | None
    annotations: tuple[Annotation, ...]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Labels) and self.size == other.size and self._objects == other._objects

    def __hash__(self) -> int:
        return hash((self.size, len(self.annotations)))

    @property
    def _objects(self) -> Counter[str]:
        return Counter(map(content_of, self.annotations))


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
        masks: whether outlines are read; None: if the files have any.
        rest: the class of all pixels without an object; None ignores these pixels.
        category: whether each image gets the class with the largest total area; images without objects are dropped.
        repeats: what happens to an image that several entries list with different annotations: "fault", or "merge" to
            give it all of them.
    """

    files: Annotated[dict[SplitOrAll, Files], AfterValidator(divided_or_not)]
    masks: bool | None = None
    rest: str | None = "background"
    category: bool = False
    repeats: Literal["fault", "merge"] = "fault"

    has_fields: ClassVar[bool] = True


class Coco(FileSource):
    """Images and annotations in COCO's format.

    - Boxes are those of the annotations; an annotation without a box gets the box of its outline.
    - Crowds (`iscrowd`) are ignored in detection, and painted as their class in masks, as COCO-Stuff does.
    - Masks paint all objects, the largest first; `rest` is the class of all other pixels.
    - Classes are the names of the categories of all files. A super-category without objects is no class.
    - Ids are whole numbers or texts: 1, 1.0 and "1" are the same id.
    - An image is found below its folder by `file_name`, or by the end of that path, even if case or percent-encoding
      differs.
    - Images without annotations are kept, because false detections in them count; but not in a file that has
      annotations which cannot be placed, because they may belong to such an image.

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
        self._contents: dict[str, dict[str, Any]] = {split: read_json(path) for split, path in paths.items()}
        self._names = {str(path): category_names(path, self._contents[split]) for split, path in paths.items()}
        names = class_names([(self._names[str(path)], self._contents[split]) for split, path in paths.items()])
        masks = self.settings.masks
        self._masks = any(map(has_outlines, self._contents.values())) if masks is None else masks
        self._map = ClassMap(self.key, names, self.settings.map, self.settings.rest if self._masks else None)
        self.classes = object_classes(self._map, self._masks, self.settings.category, self.key)
        self.description["boxes"] = "as annotated; crowds are ignored"

    def find(self, faults: list[Fault]) -> Mapping[str, Sequence[ImageEntry]]:
        entries: dict[str, list[ImageEntry]] = {}
        for split, files in self.settings.files.items():
            path, folder = self.root / files.json_file, self.root / files.images
            if not folder.is_dir():
                raise DatasetError(f"{folder}: no such folder. Correct {self.key}.files.{split}.images")
            self.known.append(path)
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
        if labels.size is not None and not self.fits(labels.size, shape):
            text = (
                f"size differs: {labels.json} says {labels.size[0]} x {labels.size[1]}, it has {shape[1]} x {shape[0]}"
            )
            faults.append(Fault(str(entry.image), text))
            return {}
        place = f"{labels.json}: {entry.image.name}"
        objects = [self._object(annotation, labels, place, shape, faults) for annotation in labels.annotations]
        usable = [labelled for labelled in objects if labelled]
        return object_labels(usable, shape, self._map, masks=self._masks, category=self.settings.category)

    def join(self, labels: Sequence[Labels]) -> Labels:
        if self.settings.repeats == "fault":
            text = f"{labels[0].json}: {len(labels)} entries with different annotations"
            raise LabelError(f"{text}; set {self.key}.repeats to merge to use all of them, or keep one entry")
        if len({entry.size for entry in labels}) > 1:
            raise LabelError(f"{labels[0].json}: {len(labels)} entries with different sizes. Keep the right one")
        objects = {content_of(annotation): annotation for entry in labels for annotation in entry.annotations}
        return Labels(labels[0].json, labels[0].size, tuple(objects.values()))

    def _images(self, path: Path, folder: Path, content: Any, faults: list[Fault]) -> list[ImageEntry]:
        annotations, is_complete = annotations_by_image(path, content, faults)
        numbers = [identifier(image.get("id")) for image in content["images"]]
        is_complete = is_complete and (not annotations or not annotations.keys().isdisjoint(numbers))
        files = list(map(image_finder(folder), (image.get("file_name") for image in content["images"])))
        shared = _shared_by_images(numbers, files)
        entries, seen = [], set()
        for index, (image, number, file) in enumerate(zip(content["images"], numbers, files, strict=True)):
            shown = f"id {image.get('id')}, {image.get('file_name')!r}"
            if number is None or number in shared or file is None:
                reason = "; several images have this id" if number in shared else ""
                faults.append(Fault(f"{path}: images[{index}]", f"unusable entry: {shown}{reason}"))
                self.known.extend([file] if file is not None else [])
                seen.update([number] if number in shared else [])
                continue
            if number in seen:
                faults.append(Fault(f"{path}: images[{index}]", f"image listed twice: {shown}", "note"))
                continue
            seen.add(number)
            annotated = tuple(annotations.get(number, ()))
            if not annotated and not is_complete:
                text = f"image without label: {path} has annotations that belong to no image, perhaps to this one"
                faults.append(Fault(str(file), text))
            elif not self.settings.category or any(self._counts(annotation, path) for annotation in annotated):
                entries.append(ImageEntry(file, Labels(str(path), image_size(image), annotated), self._group(image)))
            else:
                self.known.append(file)
        for number, strays in annotations.items():
            if number not in seen:
                where = f"{path}: annotation {strays[0].get('id')}"
                faults.append(Fault(where, f"label without image: {len(strays)} annotations of image {number}"))
        return entries

    def _group(self, image: Mapping[str, Any]) -> str | None:
        groups = self.settings.groups
        value = None if groups is None or groups.field is None else image.get(groups.field)
        return str(value) if isinstance(value, int | str) and not isinstance(value, bool) else None

    def _class(self, annotation: Annotation, json_file: str) -> str | None:
        """The class name of an annotation; None if its category does not exist."""
        number = identifier(annotation.get("category_id"))
        return None if number is None else self._names[json_file].get(number)

    def _counts(self, annotation: Annotation, path: Path) -> bool:
        """Whether an annotation is an object of a kept class, and not a crowd."""
        name = self._class(annotation, str(path))
        return not is_crowd(annotation) and name is not None and self._map.object(name) is not None

    def _object(
        self, annotation: Annotation, labels: Labels, place: str, shape: tuple[int, int], faults: list[Fault]
    ) -> LabelledObject | None:
        where = f"{place}: annotation {annotation.get('id')}"
        name = self._class(annotation, labels.json)
        if name is None:
            text = f"class out of range: category_id {annotation.get('category_id')} is not among the categories"
            faults.append(Fault(where, text, "label"))
            return None
        category = self._map.object(name)
        if category is None:
            return None
        try:
            has_box = annotation.get("bbox") not in NO_BOX or not is_outline(annotation.get("segmentation"))
            counts = _outline(annotation, shape) if self._masks or not has_box else None
            box = _box(annotation, counts, shape)
            return LabelledObject(category, box, is_crowd(annotation), counts)
        except LabelError as error:
            report(faults, where, error)
            return None


def _shared_by_images(numbers: Sequence[Id | None], files: Sequence[Path | None]) -> set[Id | None]:
    """The ids that entries with different files have: nobody knows to which of them the annotations belong."""
    first: dict[Id | None, Path | None] = {}
    return {number for number, file in zip(numbers, files, strict=True) if first.setdefault(number, file) != file}


def _outline(annotation: Annotation, shape: tuple[int, int]) -> str:
    outline = annotation.get("segmentation")
    if isinstance(outline, dict):
        return run_length_counts(outline, shape)
    if not isinstance(outline, list):
        raise LabelError("no outline: set data.coco.masks to false if the annotations have boxes only")
    if not is_outline(outline):
        raise LabelError("malformed outline: no polygon; set data.coco.masks to false if boxes are enough")
    return polygon_counts(outline, shape)


def _box(annotation: Annotation, counts: str | None, shape: tuple[int, int]) -> tuple[float, float, float, float]:
    box = annotation.get("bbox")
    if box in NO_BOX and counts is not None:
        rows, columns = decode_mask(counts, shape).nonzero()
        return (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(v, int | float) for v in box):
        raise LabelError(f"malformed box: {repr(box)[:60]}; expected [x, y, width, height]")
    try:
        x, y, width, height = (float(value) for value in box)
    except OverflowError as error:
        raise LabelError("malformed box: a number beyond all images") from error
    return fitted_box((x, y, x + width, y + height), shape)
