"""Classes as folders of images: the layout of ImageNet and of torchvision's ImageFolder."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..images import PHOTO_SUFFIXES
from ..labels import DatasetError
from ..samples import Fault
from .class_map import ClassMap
from .file_source import FileSettings, FileSource
from .splits import UNDIVIDED, ImageEntry

SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


class Settings(FileSettings):
    """The section data.folders, which has no settings beside `FileSettings`. Images of dropped classes are left out."""


class Folders(FileSource):
    """Images with one class each, the name of their folder.

    - <root>/<split>/<class>/<image>, with the splits train, val (or valid, or validation) and test; or
      <root>/<class>/<image>, from which the splits are drawn. Images may lie in subfolders of their class.
    - The classes are the class folders of all splits, sorted by name.
    - Files and folders that begin with a dot are skipped.

    Args:
        root: the folder that holds the split or class folders.
        settings: `Settings`, or a section of params.yaml that is checked against them.
        seed: of the drawn splits.
        options: `trust_paths`, as of `FileSource`.

    Raises:
        DatasetError: there are no such folders, or the class map is not valid.
    """

    key = "data.folders"
    settings_type = Settings

    def __init__(self, root: Path, settings: Mapping[str, Any] | FileSettings, seed: int, **options: Any) -> None:
        super().__init__(root, settings, seed, **options)
        if not root.is_dir():
            raise DatasetError(f"{root}: no such folder. Correct data.root")
        # A folder without subfolders is a class, even if its name is train.
        self._splits = [path for path in _folders(root) if path.name in SPLIT_FOLDERS and any(_folders(path))]
        names = sorted({path.name for place in self._splits or [root] for path in _folders(place)})
        if not names:
            raise DatasetError(f"{root}: it has no folders. Put images into <split>/<class>/ or <class>/")
        self._map = ClassMap(self.key, names, self.settings.map)
        self.classes = {"classification": self._map.objects}

    def find(self, faults: list[Fault]) -> Mapping[str, Sequence[ImageEntry]]:
        entries: dict[str, list[ImageEntry]] = {}
        for place in self._splits or [self.root]:
            images = entries.setdefault(SPLIT_FOLDERS[place.name] if self._splits else UNDIVIDED, [])
            for folder in _folders(place):
                category = self._map.object(folder.name)
                if category is not None:
                    images.extend(ImageEntry(image, category) for image in _images(folder, "**/*"))
            strays = _images(place, "*")
            faults.extend(Fault(str(image), "image without label: it lies in no class's folder") for image in strays)
        return entries

    def size(self, entry: ImageEntry) -> tuple[int, int] | None:
        return None

    def label(self, entry: ImageEntry, shape: tuple[int, int], faults: list[Fault]) -> dict[str, Any]:
        return {"category": entry.labels}


def _folders(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images(folder: Path, pattern: str) -> Iterator[Path]:
    for path in sorted(folder.glob(pattern)):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in PHOTO_SUFFIXES and path.is_file() and not hidden:
            yield path
