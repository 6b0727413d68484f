"""COCO's JSON files: ids in any form, categories by name, the annotations of each image, and its file."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..labels import DatasetError
from ..samples import Fault
from .files import Names, pictures_below, trailing_parts
from .paths import safe_inside

Annotation = dict[str, Any]
Id = int | str
WHOLE_NUMBER = re.compile(r"\s*([+-]?[0-9]{1,40})(?:\.0*)?\s*")  # texts such as 1e5 are names
NAMED_BY_FILE = ("id", "image_id")  # of an annotation: they say nothing about the object


def read_json(path: Path) -> dict[str, Any]:
    """The content of a file of annotations.

    Raises:
        DatasetError: it cannot be read, or is not in COCO's format.
    """
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


def identifier(value: Any) -> Id | None:
    """An id in one form: whole numbers, also 1.0 and "1", are int; other texts stay; None: it cannot be an id."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        number = WHOLE_NUMBER.fullmatch(value)
        return int(number[1]) if number else value or None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) else None


def is_crowd(annotation: Annotation) -> bool:
    """Whether an annotation is a crowd."""
    return identifier(annotation.get("iscrowd")) not in (None, 0)


def content_of(annotation: Annotation) -> str:
    """What an annotation says about its object, as one text."""
    return json.dumps({key: value for key, value in annotation.items() if key not in NAMED_BY_FILE}, sort_keys=True)


def annotations_by_image(path: Path, content: Any, faults: list[Fault]) -> tuple[dict[Id, list[Annotation]], bool]:
    """Annotations by the id of their image, and whether all of them have one."""
    annotations: dict[Id, list[Annotation]] = {}
    is_complete = True
    for index, annotation in enumerate(content["annotations"]):
        number = identifier(annotation.get("image_id")) if isinstance(annotation, dict) else None
        if number is None:
            faults.append(Fault(f"{path}: annotations[{index}]", "label without image: it has no image_id"))
            is_complete = False
        else:
            annotations.setdefault(number, []).append(annotation)
    return annotations, is_complete


def category_names(path: Path, content: Mapping[str, Any]) -> dict[Id, str]:
    """Class names by category id, in the order of the ids.

    Raises:
        DatasetError: a category has no id or no name, or two of them share an id.
    """
    names: dict[Id, str] = {}
    for entry in content["categories"]:
        number = identifier(entry.get("id"))
        if number is None or entry.get("name") is None:
            raise DatasetError(f"{path}: a category has no id or no name. Add it")
        name = str(entry["name"])
        if names.setdefault(number, name) != name:
            raise DatasetError(f"{path}: categories: {names[number]!r} and {name!r} have the id {number}. Correct one")
    return dict(sorted(names.items(), key=lambda item: (isinstance(item[0], str), item[0])))


def class_names(files: Sequence[tuple[Mapping[Id, str], Mapping[str, Any]]]) -> list[str]:
    """The class names of all files, each once; super-categories without objects are left out.

    Roboflow lists the super-category of all classes as a category of its own, often with the name of a class.

    Args:
        files: the category names by id, and the content of each file.
    """
    above: set[str] = set()
    used: set[str] = set()
    for names, content in files:
        pairs = ((str(entry.get("supercategory")), str(entry["name"])) for entry in content["categories"])
        above |= {parent for parent, name in pairs if parent != name}
        numbers = {identifier(entry.get("category_id")) for entry in content["annotations"] if isinstance(entry, dict)}
        used |= {name for number, name in names.items() if number in numbers}
    listed = dict.fromkeys(name for names, _ in files for name in names.values())
    names_left = [name for name in listed if name in used or name not in above]
    return names_left or list(listed)


def has_outlines(content: Mapping[str, Any]) -> bool:
    """Whether any annotation of a file has an outline."""
    return any(isinstance(entry, dict) and is_outline(entry.get("segmentation")) for entry in content["annotations"])


def is_outline(segmentation: Any) -> bool:
    """Whether a segmentation holds anything: tools that export boxes write [] or [[]]."""
    return any(segmentation) if isinstance(segmentation, list) else bool(segmentation)


def image_finder(folder: Path) -> Callable[[Any], Path | None]:
    """Finds the image file of an entry below `folder`; a file that does not exist is the one of the whole name."""
    names: list[Names] = []  # filled when a file is not found at once

    def find(name: Any) -> Path | None:
        if not isinstance(name, str):
            return None
        whole = safe_inside(folder, name)
        if whole is not None and whole.is_file():
            return whole
        if not names:
            files = pictures_below(folder)
            names.append(Names(files, lambda path: path.relative_to(folder).as_posix()))
            names.append(Names(files, lambda path: path.relative_to(folder).with_suffix("").as_posix()))
        for part in trailing_parts(name):
            if file := names[0].find(part):
                return file
        for part in trailing_parts(name):
            if file := names[1].find(part.rpartition(".")[0] or part):
                return file
        return whole

    return find


def image_size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """(width, height) in pixels of an image's entry; None if it has none. Some tools write 0 for an unknown size."""
    width, height = identifier(image.get("width")), identifier(image.get("height"))
    return (width, height) if isinstance(width, int) and isinstance(height, int) and width and height else None
