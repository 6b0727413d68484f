"""COCO's instance annotations: boxes, polygons, run lengths and crowds in one JSON file for each split."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ..dataset import DatasetError
from ..samples import Fault
from .class_map import ClassMap
from .file_source import Outside
from .objects import (
    LabelError,
    Thing,
    decode,
    fitted_box,
    object_classes,
    object_labels,
    polygon_counts,
    report,
    run_length_counts,
)
from .splits import Found, safe_inside

Entry = dict[str, Any]


@dataclass(frozen=True)
class Labels:
    """What the JSON file says about one image; `size` is (width, height)."""

    json: str
    size: tuple[int, int] | None
    entries: tuple[Entry, ...]


class Coco(Outside):
    """Images and annotations as COCO has them.

    - Boxes are the annotations' own; where one has none, that of its outline.
    - Crowds (`iscrowd`) are ignored in detection, and painted as their class in masks, as COCO-Stuff does.
    - Masks paint all objects, the largest first; `rest` is the class of all other pixels.
    - COCO's tools don't turn images by their EXIF: they are read as stored, unless only the turned image has the
      width and height that the JSON gives.
    - Images without annotations stay: they are what a detector must keep quiet on.

    Args:
        root: the folder that the paths below start in.
        settings: as for all outside data; and `files`, for train, val and test (or "all", to draw splits from)
            the `json` file and the folder of its `images`; `masks`, whether outlines are read; `rest`, or None;
            `category`, whether images get the class of their largest total area (those without objects are
            left out then).
        seed: of the drawn splits.

    Raises:
        DatasetError: a file is missing or not COCO's, or the class map does not fit.
    """

    key = "data.coco"

    def __init__(self, root: Path, settings: Mapping[str, Any], seed: int) -> None:
        super().__init__(root, settings, seed)
        self._files: dict[str, dict[str, Any]] = {
            split: _read(root / files["json"]) for split, files in settings["files"].items() if files
        }
        self._names = _categories(self._files, {split: root / files["json"] for split, files in self._chosen()})
        names = list(self._names.values())
        rest = settings["rest"] if settings["masks"] else None
        self._map = ClassMap(self.key, names, settings.get("map"), rest)
        self.classes = object_classes(self._map, settings["masks"], settings["category"], self.key)
        self.description["boxes"] = "as annotated; crowds are ignored"

    def find(self, faults: list[Fault]) -> Mapping[str, Sequence[Found]]:
        found = {}
        for split, files in self._chosen():
            path, folder = self.root / files["json"], self.root / files["images"]
            if not folder.is_dir():
                raise DatasetError(f"{folder}: no such folder ({self.key}.files.{split}.images)")
            found[split] = self._images(path, folder, self._files[split], faults)
        return found

    def part(self, split: str, ids: Sequence[str]) -> Self:
        small = super().part(split, ids)
        small._files = {}
        return small

    def size(self, found: Found) -> tuple[int, int] | None:
        size: tuple[int, int] | None = found.labels.size
        return size

    def label(self, found: Found, shape: tuple[int, int], faults: list[Fault]) -> dict[str, Any]:
        labels: Labels = found.labels
        if labels.size is not None and labels.size != (shape[1], shape[0]):
            text = (
                f"size differs: {labels.json} says {labels.size[0]} x {labels.size[1]}, it has {shape[1]} x {shape[0]}"
            )
            faults.append(Fault(str(found.image), text))
            return {}
        things = [self._thing(entry, f"{labels.json}: {found.image.name}", shape, faults) for entry in labels.entries]
        return object_labels([thing for thing in things if thing], shape, self._map, self.settings)

    def _chosen(self) -> list[tuple[str, dict[str, str]]]:
        return [(split, files) for split, files in self.settings["files"].items() if files]

    def _images(self, path: Path, folder: Path, content: Any, faults: list[Fault]) -> list[Found]:
        entries = self._entries(path, content, faults)
        found, seen = [], set()
        for index, image in enumerate(content["images"]):
            number, file = image.get("id"), _image_file(folder, image)
            if not isinstance(number, int | str) or number in seen or file is None:
                faults.append(
                    Fault(f"{path}: images[{index}]", f"unusable entry: id {number}, {image.get('file_name')!r}")
                )
                continue
            seen.add(number)
            own = tuple(entries.pop(number, ()))
            if not self.settings["category"] or any(self._counts(entry) for entry in own):
                found.append(Found(file, Labels(str(path), _size(image), own)))
        for number, strays in entries.items():
            if number not in seen:
                where = f"{path}: annotation {strays[0].get('id')}"
                faults.append(Fault(where, f"label without image: {len(strays)} annotations of image {number}"))
        return found

    def _entries(self, path: Path, content: Any, faults: list[Fault]) -> dict[Any, list[Entry]]:
        entries: dict[Any, list[Entry]] = {}
        for index, entry in enumerate(content["annotations"]):
            if not isinstance(entry, dict) or not isinstance(entry.get("image_id"), int | str):
                faults.append(Fault(f"{path}: annotations[{index}]", "label without image: it has no image_id"))
            else:
                entries.setdefault(entry["image_id"], []).append(entry)
        return entries

    def _counts(self, entry: Entry) -> bool:
        number = entry.get("category_id")
        name = self._names.get(number) if isinstance(number, int) else None
        return not entry.get("iscrowd") and name is not None and self._map.object(name) is not None

    def _thing(self, entry: Entry, place: str, shape: tuple[int, int], faults: list[Fault]) -> Thing | None:
        where = f"{place}: annotation {entry.get('id')}"
        number = entry.get("category_id")
        if not isinstance(number, int) or number not in self._names:
            faults.append(Fault(where, f"class out of range: category_id {number} is not among the categories"))
            return None
        category = self._map.object(self._names[number])
        if category is None:
            return None
        try:
            counts = _outline(entry, shape) if self.settings["masks"] else None
            return Thing(category, _box(entry, counts, shape), bool(entry.get("iscrowd")), counts)
        except LabelError as error:
            report(faults, where, error)
            return None


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); see data.coco.files") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not valid JSON ({error})") from error
    for part in ("images", "annotations", "categories"):
        entries = content.get(part) if isinstance(content, dict) else None
        if not isinstance(entries, list) or (part != "annotations" and not all(isinstance(e, dict) for e in entries)):
            raise DatasetError(f"{path}: not COCO's annotations: no list {part!r} of entries")
    return content


def _categories(files: Mapping[str, Mapping[str, Any]], paths: Mapping[str, Path]) -> dict[int, str]:
    """Names by id, in the order of the ids; the files must agree."""
    tables = []
    for split, content in files.items():
        try:
            table = {int(entry["id"]): str(entry["name"]) for entry in content["categories"]}
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DatasetError(f"{paths[split]}: a category without id or name") from error
        tables.append((paths[split], dict(sorted(table.items()))))
    for path, table in tables[1:]:
        if table != tables[0][1]:
            raise DatasetError(f"{path}: its categories differ from those of {tables[0][0]}")
    if not tables:
        raise DatasetError("data.coco.files: no files are named")
    return tables[0][1]


def _image_file(folder: Path, image: Mapping[str, Any]) -> Path | None:
    name = image.get("file_name")
    return safe_inside(folder, name) if isinstance(name, str) else None


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    width, height = image.get("width"), image.get("height")
    return (width, height) if isinstance(width, int) and isinstance(height, int) else None


def _outline(entry: Entry, shape: tuple[int, int]) -> str:
    outline = entry.get("segmentation")
    if isinstance(outline, dict):
        return run_length_counts(outline, shape)
    if not isinstance(outline, list):
        raise LabelError("no outline: set data.coco.masks to false if the annotations have boxes only")
    return polygon_counts(outline, shape)


def _box(entry: Entry, counts: str | None, shape: tuple[int, int]) -> tuple[float, float, float, float]:
    box = entry.get("bbox")
    if box is None and counts is not None:
        rows, columns = decode(counts, shape).nonzero()
        return (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(v, int | float) for v in box):
        raise LabelError(f"malformed box: {repr(box)[:60]}; expected [x, y, width, height]")
    try:
        x, y, width, height = (float(value) for value in box)
    except OverflowError as error:
        raise LabelError("malformed box: a number beyond all images") from error
    return fitted_box((x, y, x + width, y + height), shape)
