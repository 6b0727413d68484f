"""ExDark: photos taken in the dark, with a text file of boxes for each of them (Loh and Chan, CVIU 2019)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..dataset import DatasetError
from ..samples import Fault
from .class_map import ClassMap
from .file_source import Outside
from .objects import LabelError, Thing, fitted_box, object_labels, report
from .splits import Found

CLASSES = ("Bicycle", "Boat", "Bottle", "Bus", "Car", "Cat", "Chair", "Cup", "Dog", "Motorbike", "People", "Table")
SPLITS = {"1": "train", "2": "val", "3": "test"}
SUFFIXES = {".jpg", ".jpeg", ".png"}
HEADER = "% bbGt"
COLUMNS = 5  # of the list of images; and, of a row of labels, class, left, top, width and height


class ExDark(Outside):
    """ExDark as its makers pack it.

    - Images lie in ExDark/<class>/<name>, labels in ExDark_Annno/<class>/<name>.txt (its real spelling), and
      imageclasslist.txt says which split an image belongs to. Names are matched whatever their case.
    - A row of labels is a class, left, top, width and height in pixels; what follows, on occlusion, is not used.
    - Its tools don't turn images by their EXIF: they are read as stored.

    Args:
        root: the folder that holds those two and the list.
        settings: as for all outside data; and the names of `images`, `labels` and `list`.
        seed: of the drawn splits.

    Raises:
        DatasetError: a folder or the list is missing, or the class map does not fit.
    """

    key = "data.exdark"

    def __init__(self, root: Path, settings: Mapping[str, Any], seed: int) -> None:
        super().__init__(root, settings, seed)
        self._map = ClassMap(self.key, CLASSES, settings.get("map"))
        self.classes = {"detection": self._map.objects}
        self.description["boxes"] = "as annotated"

    def find(self, faults: list[Fault]) -> Mapping[str, Sequence[Found]]:
        pictures, labels = self._files("images", SUFFIXES), self._files("labels", {".txt"})
        found: dict[str, list[Found]] = {}
        used = set()
        for number, (name, split) in self._listed(faults):
            label = f"{name}.txt"
            used.add(label)
            if name not in pictures:
                faults.append(Fault(f"{self._list_file}:{number}", f"label without image: {name} is missing"))
            elif label not in labels:
                faults.append(Fault(str(pictures[name]), f"image without label: {label} is missing"))
            else:
                found.setdefault(split, []).append(Found(pictures[name], labels[label]))
        strays = sorted(path for name, path in labels.items() if name not in used)
        faults += [Fault(str(path), f"label without image: it is not in {self._list_file}") for path in strays]
        return found

    def size(self, found: Found) -> tuple[int, int] | None:
        return (0, 0)  # no turned image has it

    def label(self, found: Found, shape: tuple[int, int], faults: list[Fault]) -> dict[str, Any]:
        things = []
        for number, line in self._rows(found.labels, faults):
            try:
                things.append(self._thing(line, shape))
            except LabelError as error:
                report(faults, f"{found.labels}:{number}", error)
        return object_labels([thing for thing in things if thing], shape, self._map, {"masks": False})

    @property
    def _list_file(self) -> Path:
        return self.root / str(self.settings["list"])

    def _files(self, kind: str, suffixes: set[str]) -> dict[str, Path]:
        """Files by their name in small letters."""
        folder = self.root / self.settings[kind]
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder ({self.key}.{kind})")
        return {path.name.lower(): path for path in sorted(folder.rglob("*")) if path.suffix.lower() in suffixes}

    def _listed(self, faults: list[Fault]) -> list[tuple[int, tuple[str, str]]]:
        try:
            lines = self._list_file.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(f"{self._list_file}: cannot be read ({error}); see {self.key}.list") from error
        listed = []
        for number, line in enumerate(lines[1:], start=2):  # the first names the columns
            words = line.split()
            if len(words) == COLUMNS and words[-1] in SPLITS:
                listed.append((number, (words[0].lower(), SPLITS[words[-1]])))
            elif words:
                text = f"unusable entry: {line[:60]!r}; expected a name and four numbers, the last of them 1, 2 or 3"
                faults.append(Fault(f"{self._list_file}:{number}", text))
        return listed

    def _rows(self, file: Path, faults: list[Fault]) -> list[tuple[int, str]]:
        try:
            lines = file.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            faults.append(Fault(str(file), f"unreadable label: {error}"))
            return []
        rows = enumerate(lines, start=1)
        return [(number, line) for number, line in rows if line.strip() and not line.startswith(HEADER)]

    def _thing(self, line: str, shape: tuple[int, int]) -> Thing | None:
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
        return None if category is None else Thing(category, box)
