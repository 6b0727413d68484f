"""ExDark: photos taken in low light, each with a text file of boxes (Loh and Chan, CVIU 2019)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from ..labels import DatasetError
from ..photos import Exif
from ..samples import Fault
from .class_map import ClassMap
from .file_source import FileSettings, FileSource
from .files import Names, pictures_below, visible_files
from .objects import LabelError, LabelledObject, fitted_box, object_labels, report
from .paths import ImageEntry

CLASSES = ("Bicycle", "Boat", "Bottle", "Bus", "Car", "Cat", "Chair", "Cup", "Dog", "Motorbike", "People", "Table")
SPLITS = {"1": "train", "2": "val", "3": "test"}
HEADER = "% bbGt"
COLUMNS = 5  # in the list of images; also the first columns of a label row: class, left, top, width and height
IGNORED = 10  # column of a label row


class Settings(FileSettings):
    """The section data.exdark.

    Attributes:
        images: folder of the images below the root.
        labels: folder of the labels below the root.
        list_file: file below the root that gives the split of each image.
    """

    images: str = "ExDark"
    labels: str = "ExDark_Annno"
    exif: Exif = "stored"
    list_file: Annotated[str, Field(alias="list")] = "imageclasslist.txt"


class ExDark(FileSource):
    """ExDark in the layout of its download.

    - Images lie in ExDark/<class>/<name>, labels in ExDark_Annno/<class>/<name>.txt (spelled so in the
      download), and imageclasslist.txt gives the split of each image. Names may differ in case or percent-encoding.
    - A row of labels is bbGt's: a class, left, top, width and height in pixels, then occlusion, four numbers of the
      visible part, a mark of objects to ignore, and an angle. Of the last seven only the mark is read.
    - ExDark's tools ignore EXIF rotation: images are read as stored.

    Args:
        root: the folder that holds the two folders and the list file.
        settings: `Settings`, or a section of params.yaml that is checked against them.
        seed: of the drawn splits.
        options: `trust_paths`, as of `FileSource`.

    Raises:
        DatasetError: a folder or the list file is missing, or the class map is not valid.
    """

    key = "data.exdark"
    settings_type = Settings
    settings: Settings

    def __init__(self, root: Path, settings: Mapping[str, Any] | FileSettings, seed: int, **options: Any) -> None:
        super().__init__(root, settings, seed, **options)
        self._map = ClassMap(self.key, CLASSES, self.settings.map)
        self.classes = {"detection": self._map.objects}
        self.description["boxes"] = "as annotated"

    def find(self, faults: list[Fault]) -> Mapping[str, Sequence[ImageEntry]]:
        pictures = Names(pictures_below(self._folder("images")), _name)
        texts = [path for path in visible_files(self._folder("labels")) if path.suffix.lower() == ".txt"]
        labels = Names(texts, _name)
        self.known.append(self._list_file)
        entries: dict[str, list[ImageEntry]] = {}
        used = set()
        for number, (name, split) in self._listed(faults):
            image, label = pictures.find(name), labels.find(f"{name}.txt")
            used.add(label)
            if image is None:
                self.known.extend([label] if label is not None else [])
                text = f"label without image: no image, or several, have the name {name}"
                faults.append(Fault(f"{self._list_file}:{number}", text))
            elif label is None:
                text = f"image without label: no label, or several, have the name {name}.txt"
                faults.append(Fault(str(image), text))
            else:
                entries.setdefault(split, []).append(ImageEntry(image, label))
        strays = [path for path in texts if path not in used]
        faults += [Fault(str(path), f"label without image: it is not in {self._list_file}") for path in strays]
        return entries

    def size(self, entry: ImageEntry) -> tuple[int, int] | None:
        return None

    def label(self, entry: ImageEntry, shape: tuple[int, int], faults: list[Fault]) -> dict[str, Any]:
        objects = []
        for number, line in self._rows(entry.labels, faults):
            try:
                objects.append(self._object(line, shape))
            except LabelError as error:
                report(faults, f"{entry.labels}:{number}", error)
        return object_labels([labelled for labelled in objects if labelled], shape, self._map)

    @property
    def _list_file(self) -> Path:
        return self.root / self.settings.list_file

    def _folder(self, kind: str) -> Path:
        folder = self.root / str(getattr(self.settings, kind))
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder. Correct {self.key}.{kind}")
        return folder

    def _listed(self, faults: list[Fault]) -> list[tuple[int, tuple[str, str]]]:
        try:
            lines = self._list_file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(f"{self._list_file}: cannot be read ({error}). Correct {self.key}.list") from error
        listed = []
        for number, line in enumerate(lines, start=1):
            words = line.rsplit(maxsplit=COLUMNS - 1)
            if len(words) == COLUMNS and words[-1] in SPLITS:
                listed.append((number, (words[0], SPLITS[words[-1]])))
            elif words and number > 1:  # line 1 has the column names
                text = f"unusable entry: {line[:60]!r}; expected a name and four numbers, the last of them 1, 2 or 3"
                faults.append(Fault(f"{self._list_file}:{number}", text))
        return listed

    def _rows(self, file: Path, faults: list[Fault]) -> list[tuple[int, str]]:
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            faults.append(Fault(str(file), f"unreadable label: {error}"))
            return []
        rows = enumerate(lines, start=1)
        return [(number, line) for number, line in rows if line.strip() and not line.startswith(HEADER)]

    def _object(self, line: str, shape: tuple[int, int]) -> LabelledObject | None:
        words = line.split()
        try:
            left, top, width, height = (float(word) for word in words[1:COLUMNS])
        except ValueError as error:
            text = f"malformed label: {line[:60]!r}; expected a class, left, top, width and height"
            raise LabelError(text) from error
        if words[0] not in CLASSES:
            raise LabelError(f"class out of range: {words[0]!r}; there are {', '.join(CLASSES)}")
        box = fitted_box((left, top, left + width, top + height), shape)
        category = self._map.object(words[0])
        ignored = words[IGNORED : IGNORED + 1] not in ([], ["0"])
        return None if category is None else LabelledObject(category, box, ignored)


def _name(path: Path) -> str:
    return path.name
