"""YOLO projects: a data.yaml, images, and a text file of normalised labels for each image."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..images import PHOTO_SUFFIXES
from ..labels import DatasetError
from ..samples import Fault
from .class_map import ClassMap
from .file_source import FileSettings, FileSource
from .objects import LabelError, LabelledObject, fitted_box, object_classes, object_labels, polygon_counts, report
from .splits import CONSENT, SPLITS, UNDIVIDED, ImageEntry, is_file_name, lies_below

MOST_NAMELESS = 10000  # largest `nc` without names
NOT_LABELS = {"classes.txt", "labels.txt", "obj.names"}  # class names that labelling tools write beside the labels
BOX_WORDS = 5
SHORTEST_POLYGON = 7  # a class and three corners


class Settings(FileSettings):
    """The section data.yolo.

    Attributes:
        project: the file name of data.yaml.
        masks: whether the rows are outlines.
        rest: the class of all pixels without an object; None ignores these pixels.
    """

    project: str = "data.yaml"
    masks: bool = False
    rest: str | None = "background"


class Yolo(FileSource):
    """The dataset of ultralytics' data.yaml, read as ultralytics reads it.

    - `path` is absolute, or relative to the folder of data.yaml or to its parent. train, val and test are folders,
      lists of folders, or text files that list images, relative to `path`. Lines that begin with ./ are relative
      to their text file.
    - The label file of .../images/a.jpg is .../labels/a.txt. An image without label file, or with an empty one, has
      no objects. Rows that occur twice count once.
    - A row is a box or a polygon. A polygon gives a box, and an outline if `masks` is true.
    - ultralytics reads images with OpenCV, which applies EXIF rotation. Labels are those of the rotated image.

    Args:
        root: the folder that holds data.yaml.
        settings: `Settings`, or a section of params.yaml that is checked against them.
        seed: of the drawn splits.
        read_yaml: reads data.yaml.
        options: `trust_paths`, as of `FileSource`.

    Raises:
        DatasetError: a key of data.yaml is missing or not valid, a path does not exist, or the class map is not valid.
    """

    key = "data.yolo"
    settings_type = Settings
    settings: Settings

    def __init__(
        self,
        root: Path,
        settings: Mapping[str, Any] | FileSettings,
        seed: int,
        *,
        read_yaml: Callable[[Path], Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(root, settings, seed, **options)
        if read_yaml is None:
            raise ValueError("data.yolo reads a file in YAML: expected the argument read_yaml")
        self._project = root / self.settings.project
        content = read_yaml(self._project)
        if not isinstance(content, dict):
            raise DatasetError(f"{self._project}: not a mapping. Give it the keys path, train, val and names")
        self._content: dict[str, Any] = content
        self._names = _names(self._project, content)
        rest = self.settings.rest if self.settings.masks else None
        self._map = ClassMap(self.key, self._names, self.settings.map, rest)
        self.classes = object_classes(self._map, self.settings.masks, category=False, key=self.key)
        self.description["boxes"] = "as labelled"

    def find(self, faults: list[Fault]) -> Mapping[str, Sequence[ImageEntry]]:
        content = dict(self._content)
        content.setdefault("val", content.get("validation"))
        base = _base(self._project, content.get("path"))
        self._refuse_outside("path", base)
        entries: dict[str, list[ImageEntry]] = {}
        for split in SPLITS:
            if content.get(split):
                places = _places(self._project, base, split, content[split])
                for place in places:
                    self._refuse_outside(split, place)
                files = [file for place in places for file in _images(place, base)]
                entries[split] = [ImageEntry(file, _label_file(file)) for file in files]
        if not entries:
            raise DatasetError(
                f"{self._project}: it has no key train, val or test. Add the images of at least one split"
            )
        for name, images in entries.items():
            _check_some_labels(name, images)
        faults.extend(_strays([entry for images in entries.values() for entry in images]))
        is_undivided = len(entries) == 1 and self.settings.split
        return {UNDIVIDED: next(iter(entries.values()))} if is_undivided else entries

    def _refuse_outside(self, key: str, place: Path) -> None:
        if not self.trust_paths and not lies_below(self.root, place):
            raise DatasetError(
                f"{self._project}: {key}: {place} lies outside {self.root}. Set data.root to a folder that holds both, "
                f"or {CONSENT}"
            )

    def size(self, entry: ImageEntry) -> tuple[int, int] | None:
        return None

    def label(self, entry: ImageEntry, shape: tuple[int, int], faults: list[Fault]) -> dict[str, Any]:
        rows = _rows(entry.labels, faults)
        if {len(words) == BOX_WORDS for _, words in rows} == {True, False}:
            faults.append(Fault(str(entry.labels), "boxes and polygons mixed: ultralytics refuses that file"))
            return {}
        objects = [self._object(entry.labels, number, words, shape, faults) for number, words in rows]
        usable = [labelled for labelled in objects if labelled]
        return object_labels(usable, shape, self._map, masks=self.settings.masks)

    def _object(
        self, file: Path, number: int, words: list[float], shape: tuple[int, int], faults: list[Fault]
    ) -> LabelledObject | None:
        where = f"{file}:{number}"
        index = words[0]
        if index != int(index) or not 0 <= index < len(self._names):
            faults.append(Fault(where, f"class out of range: {index:g}; there are 0 to {len(self._names) - 1}"))
            return None
        category = self._map.object(self._names[int(index)])
        try:
            labelled = _outlined(words, shape, self.settings.masks, category or 0)
        except LabelError as error:
            report(faults, where, error)
            return None
        return None if category is None else labelled


def _outlined(words: list[float], shape: tuple[int, int], masks: bool, category: int) -> LabelledObject:
    height, width = shape
    if len(words) == BOX_WORDS:
        if masks:
            raise LabelError("no outline: a box, but data.yolo.masks is true")
        x, y, w, h = words[1:]
        box = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
        return LabelledObject(category, fitted_box(box, shape))
    with np.errstate(over="ignore"):  # fitted_box refuses infinite values
        corners = np.array(words[1:]).reshape(-1, 2) * (width, height)
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    box = fitted_box((left, top, right, bottom), shape)
    return LabelledObject(category, box, counts=polygon_counts([corners.ravel()], shape) if masks else None)


def _names(project: Path, content: Mapping[str, Any]) -> list[str]:
    names = content.get("names")
    number = content.get("nc")
    if names is None and isinstance(number, int):
        if not 1 <= number <= MOST_NAMELESS:
            raise DatasetError(
                f"{project}: nc: expected 1 to {MOST_NAMELESS} classes, got {number}. Correct it or add names"
            )
        return [f"class_{index}" for index in range(number)]
    if isinstance(names, dict) and names:
        by_index = {str(index): str(name) for index, name in names.items()}
        if set(by_index) == {str(index) for index in range(len(names))}:
            return [by_index[str(index)] for index in range(len(names))]
    if isinstance(names, list) and names:
        return [str(name) for name in names]
    raise DatasetError(
        f"{project}: names: expected a list, or a mapping from the indices 0, 1, ... to names, got {names!r}"
    )


def _base(project: Path, path: Any) -> Path:
    folder = project.parent
    if not is_file_name(str(path)):
        raise DatasetError(f"{project}: path: {str(path)[:60]!r} is not a possible folder name. Correct it")
    choices = [folder] if path in (None, "") else [folder / str(path), folder.parent / str(path), Path(str(path))]
    for choice in choices:
        if choice.is_dir():
            return choice
    raise DatasetError(
        f"{project}: path: there is no folder {' or '.join(map(str, dict.fromkeys(choices)))}. Correct it"
    )


def _places(project: Path, base: Path, split: str, entries: Any) -> list[Path]:
    """The folders and list files of a split."""
    places: list[Path] = []
    for entry in entries if isinstance(entries, list) else [entries]:
        if not is_file_name(str(entry)):
            raise DatasetError(f"{project}: {split}: {str(entry)[:60]!r} is not a possible name. Correct it")
        place = base / str(entry)
        if not place.exists() and str(entry).startswith("../"):
            place = base / str(entry)[3:]  # as ultralytics: some tools export paths without the name of their folder
        if not place.is_dir() and not place.is_file():
            raise DatasetError(f"{project}: {split}: {place} does not exist. Correct it")
        places.append(place)
    return places


def _images(place: Path, base: Path) -> list[Path]:
    if place.is_file():
        return _listed(place, base)
    return sorted(path for path in place.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES)


def _listed(file: Path, base: Path) -> list[Path]:
    images = []
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file}: not a list of images in UTF-8 ({error}). Correct train, val or test") from error
    for number, line in enumerate(lines, start=1):
        name = line.strip()
        if not is_file_name(name):
            raise DatasetError(f"{file}:{number}: {name[:60]!r} is not a possible file name. Correct it")
        if Path(name).suffix.lower() in PHOTO_SUFFIXES:
            images.append(file.parent / name if name.startswith("./") else base / name)
    return images


def _label_file(image: Path) -> Path:
    """The label file of an image: the last folder named images is replaced by labels."""
    parts = list(image.parts)
    last = max((index for index, part in enumerate(parts[:-1]) if part == "images"), default=None)
    if last is not None:
        parts[last] = "labels"
    return Path(*parts).with_suffix(".txt")


def _check_some_labels(split: str, entries: Sequence[ImageEntry]) -> None:
    if entries and not any(entry.labels.exists() for entry in entries):
        raise DatasetError(
            f"{entries[0].labels}: missing, as is every other label file of split {split}. "
            "Put labels into a folder labels beside the folder images"
        )


def _strays(entries: Sequence[ImageEntry]) -> list[Fault]:
    """Faults for label files without an image, in all folders of label files."""
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
    """(line number, values) of every valid row, without repeats. Faults are added to `faults`."""
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
