"""YOLO projects: a data.yaml or darknet's files, images, and a text file of normalised labels for each image."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..labels import DatasetError
from ..photos import Exif
from ..samples import Fault
from .class_map import ClassMap
from .file_source import FileSettings, FileSource
from .objects import LabelError, LabelledObject, fitted_box, object_classes, object_labels, polygon_counts, report
from .paths import CONSENT, ImageEntry, lies_below
from .splits import UNDIVIDED
from .yolo_labels import BOX_WORDS, expected_label, find_labels, read_rows
from .yolo_project import class_names, images_of, keypoint_numbers, read_project, split_places


class Settings(FileSettings):
    """The section data.yolo.

    Attributes:
        project: the file name of data.yaml. If there is none: the only YAML file, or darknet's files.
        masks: whether the rows are outlines.
        rest: the class of all pixels without an object; None ignores these pixels.
    """

    project: str = "data.yaml"
    exif: Exif = "upright"
    masks: bool = False
    rest: str | None = "background"


class Yolo(FileSource):
    """The dataset of ultralytics' data.yaml, read as ultralytics reads it, or of darknet's files.

    - `path` is absolute, or relative to the folder of data.yaml or to its parent. train, val and test are folders,
      lists of folders, or text files that list images, relative to `path`. Lines that begin with ./ are relative
      to their text file.
    - Without data.yaml, class names come from darknet's obj.names, _darknet.labels or classes.txt. The splits are the
      lists in obj.data, or folders called train, val and test; or they are drawn from all images.
    - The label file of .../images/a.jpg is .../labels/a.txt or .../images/a.txt. An image without label file, or with
      an empty one, has no objects. Rows that occur twice count once.
    - A row is a box or a polygon. A polygon gives a box, and an outline if `masks` is true. If data.yaml declares
      keypoints (`kpt_shape`), a row is a box and keypoints, which are not read.
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
        self._project = read_project(root, self.settings.project, read_yaml)
        self._names = class_names(self._project)
        self._keypoints = keypoint_numbers(self._project)
        rest = self.settings.rest if self.settings.masks else None
        self._map = ClassMap(self.key, self._names, self.settings.map, rest)
        self.classes = object_classes(self._map, self.settings.masks, category=False, key=self.key)
        self.description["boxes"] = "as labelled"

    def find(self, faults: list[Fault]) -> Mapping[str, Sequence[ImageEntry]]:
        base, places = split_places(self._project, faults)
        self._refuse_outside("path", base)
        for split, listed in places.items():
            for place in listed:
                self._refuse_outside(split, place)
        if not places:
            raise DatasetError(
                f"{self._project.file}: it has no key train, val or test. Add the images of at least one split"
            )
        lists = [place for listed in places.values() for place in listed if place.is_file()]
        self.known += [self._project.file, *lists]
        images = {
            split: [file for place in listed for file in images_of(place, base, faults)]
            for split, listed in places.items()
        }
        labels = find_labels([file for files in images.values() for file in files], lists, faults)
        entries = {split: [ImageEntry(f, labels[f]) for f in files if f in labels] for split, files in images.items()}
        if UNDIVIDED in entries:  # of all folders below the root, those that hold no label hold something else
            folders = {entry.image.parent for entry in entries[UNDIVIDED] if entry.labels.exists()}
            entries[UNDIVIDED] = [entry for entry in entries[UNDIVIDED] if entry.image.parent in folders]
        for name, files in images.items():
            _check_some_labels(name, files, labels)
        is_undivided = len(entries) == 1 and self.settings.split
        return {UNDIVIDED: next(iter(entries.values()))} if is_undivided else entries

    def _refuse_outside(self, key: str, place: Path) -> None:
        if not self.trust_paths and not lies_below(self.root, place):
            raise DatasetError(
                f"{self._project.file}: {key}: {place} lies outside {self.root}. Set data.root to a folder that holds "
                f"both, or {CONSENT}"
            )

    def size(self, entry: ImageEntry) -> tuple[int, int] | None:
        return None

    def label(self, entry: ImageEntry, shape: tuple[int, int], faults: list[Fault]) -> dict[str, Any]:
        rows = read_rows(entry.labels, self._keypoints, faults)
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
            faults.append(
                Fault(where, f"class out of range: {index:g}; there are 0 to {len(self._names) - 1}", "label")
            )
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


def _check_some_labels(split: str, images: Sequence[Path], labels: Mapping[Path, Path]) -> None:
    if images and not any(image in labels and labels[image].exists() for image in images):
        raise DatasetError(
            f"{expected_label(images[0])}: missing, as is every other label file of split {split}. "
            "Put labels into a folder labels beside the folder images, or beside the images"
        )
