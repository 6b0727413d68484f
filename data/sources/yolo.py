"""YOLO projects: a data.yaml, images, and a text file of normalised labels for each of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..dataset import DatasetError
from ..images import PHOTO_SUFFIXES
from ..samples import Fault
from .class_map import ClassMap
from .file_source import Outside
from .objects import LabelError, Thing, fitted_box, object_classes, object_labels, polygon_counts, report
from .splits import CONSENT, SPLITS, UNDIVIDED, Found, is_file_name, lies_below

MOST_NAMELESS = 10000  # classes that are only counted
NOT_LABELS = {"classes.txt", "labels.txt", "obj.names"}  # labelling tools leave class names beside the labels
BOX_WORDS = 5
SHORTEST_POLYGON = 7  # a class and three corners


class Yolo(Outside):
    """What ultralytics' data.yaml describes, read as ultralytics reads it.

    - `path` is absolute, or relative to the file's folder or to the one above; train, val and test are folders,
      lists of folders, or text files that list images, relative to `path`; lines that begin with ./ are relative
      to their text file.
    - The label file of .../images/a.jpg is .../labels/a.txt. An image without one, or with an empty one, has no
      objects. Rows that occur twice count once.
    - A row is a box, or a polygon whose box is taken, and whose outline too where `masks` is true.
    - OpenCV turns images by their EXIF, and so ultralytics' labels are those of the turned image.

    Args:
        root: the folder that holds data.yaml.
        settings: as for all outside data; and `project`, the file's name, with `content`, what it says, read by
            the caller; `masks`, whether the rows are outlines; `rest`, the class of all other pixels, or None.
        seed: of the drawn splits.

    Raises:
        DatasetError: data.yaml lacks a key, a path does not exist, or the class map does not fit.
    """

    key = "data.yolo"

    def __init__(self, root: Path, settings: Mapping[str, Any], seed: int) -> None:
        super().__init__(root, settings, seed)
        self._project = root / settings["project"]
        content = settings["content"]
        if not isinstance(content, dict):
            raise DatasetError(f"{self._project}: expected keys and values, such as path, train, val and names")
        self._names = _names(self._project, content)
        self._map = ClassMap(
            self.key, self._names, settings.get("map"), settings["rest"] if settings["masks"] else None
        )
        self.classes = object_classes(self._map, settings["masks"], category=False, key=self.key)
        self.description["boxes"] = "as labelled"

    def find(self, faults: list[Fault]) -> Mapping[str, Sequence[Found]]:
        content = dict(self.settings["content"])
        content.setdefault("val", content.get("validation"))
        base = _base(self._project, content.get("path"))
        self._refuse_outside("path", base)
        found: dict[str, list[Found]] = {}
        for split in SPLITS:
            if content.get(split):
                places = _places(self._project, base, split, content[split])
                for place in places:
                    self._refuse_outside(split, place)
                images = [image for place in places for image in _images(place, base)]
                found[split] = [Found(image, _label_file(image)) for image in images]
        if not found:
            raise DatasetError(f"{self._project}: none of train, val and test")
        for split, entries in found.items():
            _check_some_labels(split, entries)
        faults.extend(_strays([entry for entries in found.values() for entry in entries]))
        undivided = len(found) == 1 and self.settings.get("split")
        return {UNDIVIDED: next(iter(found.values()))} if undivided else found

    def _refuse_outside(self, key: str, place: Path) -> None:
        if not self.settings.get("trust_paths", True) and not lies_below(self.root, place):
            raise DatasetError(
                f"{self._project}: {key}: {place} lies outside {self.root}; let data.root be a folder that holds both, "
                f"or {CONSENT}"
            )

    def size(self, found: Found) -> tuple[int, int] | None:
        return None

    def label(self, found: Found, shape: tuple[int, int], faults: list[Fault]) -> dict[str, Any]:
        rows = _rows(found.labels, faults)
        if {len(words) == BOX_WORDS for _, words in rows} == {True, False}:
            faults.append(Fault(str(found.labels), "boxes and polygons mixed: ultralytics refuses that file"))
            return {}
        things = [self._thing(found.labels, number, words, shape, faults) for number, words in rows]
        return object_labels([thing for thing in things if thing], shape, self._map, self.settings)

    def _thing(
        self, file: Path, number: int, words: list[float], shape: tuple[int, int], faults: list[Fault]
    ) -> Thing | None:
        where = f"{file}:{number}"
        index = words[0]
        if index != int(index) or not 0 <= index < len(self._names):
            faults.append(Fault(where, f"class out of range: {index:g}; there are 0 to {len(self._names) - 1}"))
            return None
        category = self._map.object(self._names[int(index)])
        try:
            thing = _outlined(words, shape, self.settings["masks"], category or 0)
        except LabelError as error:
            report(faults, where, error)
            return None
        return None if category is None else thing


def _outlined(words: list[float], shape: tuple[int, int], masks: bool, category: int) -> Thing:
    height, width = shape
    if len(words) == BOX_WORDS:
        if masks:
            raise LabelError("no outline: a box, but data.yolo.masks is true")
        x, y, w, h = words[1:]
        box = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
        return Thing(category, fitted_box(box, shape))
    with np.errstate(over="ignore"):  # what becomes infinite is refused below
        corners = np.array(words[1:]).reshape(-1, 2) * (width, height)
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    box = fitted_box((left, top, right, bottom), shape)
    return Thing(category, box, counts=polygon_counts([corners.ravel()], shape) if masks else None)


def _names(project: Path, content: Mapping[str, Any]) -> list[str]:
    names = content.get("names")
    number = content.get("nc")
    if names is None and isinstance(number, int):
        if not 1 <= number <= MOST_NAMELESS:
            raise DatasetError(f"{project}: nc: expected 1 to {MOST_NAMELESS} classes, got {number}")
        return [f"class_{index}" for index in range(number)]
    if isinstance(names, dict) and names:
        by_index = {str(index): str(name) for index, name in names.items()}
        if set(by_index) == {str(index) for index in range(len(names))}:
            return [by_index[str(index)] for index in range(len(names))]
    if isinstance(names, list) and names:
        return [str(name) for name in names]
    raise DatasetError(f"{project}: names: expected a list, or names by index from 0 on, got {names!r}")


def _base(project: Path, path: Any) -> Path:
    folder = project.parent
    if not is_file_name(str(path)):
        raise DatasetError(f"{project}: path: no folder can have the name {str(path)[:60]!r}")
    choices = [folder] if path in (None, "") else [folder / str(path), folder.parent / str(path), Path(str(path))]
    for choice in choices:
        if choice.is_dir():
            return choice
    raise DatasetError(f"{project}: path: no folder {' or '.join(str(choice) for choice in dict.fromkeys(choices))}")


def _places(project: Path, base: Path, split: str, entries: Any) -> list[Path]:
    """The folders and lists that make a split."""
    found: list[Path] = []
    for entry in entries if isinstance(entries, list) else [entries]:
        if not is_file_name(str(entry)):
            raise DatasetError(f"{project}: {split}: nothing can have the name {str(entry)[:60]!r}")
        place = base / str(entry)
        if not place.exists() and str(entry).startswith("../"):
            place = base / str(entry)[3:]  # as ultralytics: projects exported with their folder's name left out
        if not place.is_dir() and not place.is_file():
            raise DatasetError(f"{project}: {split}: {place} does not exist")
        found.append(place)
    return found


def _images(place: Path, base: Path) -> list[Path]:
    if place.is_file():
        return _listed(place, base)
    return sorted(path for path in place.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES)


def _listed(file: Path, base: Path) -> list[Path]:
    images = []
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file}: not a list of images in UTF-8 ({error}); see train, val and test") from error
    for number, line in enumerate(lines, start=1):
        name = line.strip()
        if not is_file_name(name):
            raise DatasetError(f"{file}:{number}: no file can have the name {name[:60]!r}")
        if Path(name).suffix.lower() in PHOTO_SUFFIXES:
            images.append(file.parent / name if name.startswith("./") else base / name)
    return images


def _label_file(image: Path) -> Path:
    """The last folder of the name images becomes labels."""
    parts = list(image.parts)
    last = max((index for index, part in enumerate(parts[:-1]) if part == "images"), default=None)
    if last is not None:
        parts[last] = "labels"
    return Path(*parts).with_suffix(".txt")


def _check_some_labels(split: str, entries: Sequence[Found]) -> None:
    if entries and not any(entry.labels.exists() for entry in entries):
        raise DatasetError(
            f"{entries[0].labels}: missing, as is every other label file of split {split}; "
            "labels lie in a folder labels beside the folder images"
        )


def _strays(entries: Sequence[Found]) -> list[Fault]:
    """Label files beside those that were looked for, that have no image beside its images."""
    folders = {entry.labels.parent: entry.image.parent for entry in entries}
    faults = []
    for labels, images in folders.items():
        if labels.is_dir() and images.is_dir():
            known = {path.stem for path in images.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES}
            strays = [path for path in labels.glob("*.txt") if path.stem not in known and path.name not in NOT_LABELS]
            faults += [
                Fault(str(path), f"label without image: none of its name in {images}") for path in sorted(strays)
            ]
    return faults


def _rows(file: Path, faults: list[Fault]) -> list[tuple[int, list[float]]]:
    """Line numbers and numbers of the rows that are whole; each row once."""
    if not file.exists():
        return []
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        faults.append(Fault(str(file), f"unreadable label: {error}"))
        return []
    rows: dict[tuple[float, ...], int] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            row = _numbers(line)
            if row is None:
                text = f"malformed label: {line[:60]!r}; expected a class and x y w h, or a class and 3 or more x y"
                faults.append(Fault(f"{file}:{number}", text))
            else:
                rows.setdefault(row, number)
    return [(number, list(row)) for row, number in rows.items()]


def _numbers(line: str) -> tuple[float, ...] | None:
    try:
        row = tuple(float(word) for word in line.split())
    except ValueError:
        return None
    fits = len(row) == BOX_WORDS or (len(row) >= SHORTEST_POLYGON and len(row) % 2)
    return row if fits and np.isfinite(row).all() else None
