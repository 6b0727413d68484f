"""Classes as folders of images: the layout of ImageNet and of torchvision's ImageFolder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..labels import DatasetError
from ..photos import Exif, is_picture
from ..samples import Fault
from .class_map import ClassMap
from .file_source import FileSettings, FileSource
from .files import is_hidden, pictures_below, split_of, visible_folders
from .paths import ImageEntry
from .splits import UNDIVIDED


class Settings(FileSettings):
    """The section data.folders, which has no settings beside `FileSettings`. Images of dropped classes are left out."""

    exif: Exif = "upright"


class Folders(FileSource):
    """Images with one class each, the name of their folder.

    - <root>/<split>/<class>/<image>, with folders called train, val and test, or Training, valid, Testing and so on; or
      <root>/<class>/<image>, from which the splits are drawn. Images may lie in subfolders of their class. If the root
      holds one folder alone, with the folders of splits in it, that folder is read.
    - Or <root>/<class>/<split>/<image>, if the folders of all classes hold folders of splits and nothing else.
    - Other folders that all hold the same folders are splits, whatever they are called: without the name of a split,
      their images are divided by `split`.
    - The classes are the class folders of all splits, sorted by name.

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
        self._splits = _split_folders(root)
        self._are_splits_inside = not self._splits and _hold_splits(visible_folders(root))
        names = sorted({path.name for place in self._splits or [root] for path in visible_folders(place)})
        if not names:
            raise DatasetError(f"{root}: it has no folders. Put images into <split>/<class>/ or <class>/")
        self._map = ClassMap(self.key, names, self.settings.map)
        self.classes = {"classification": self._map.objects}

    def find(self, faults: list[Fault]) -> Mapping[str, Sequence[ImageEntry]]:
        entries: dict[str, list[ImageEntry]] = {}
        if self._are_splits_inside:
            for place in [place for folder in visible_folders(self.root) for place in visible_folders(folder)]:
                category = self._map.object(place.parent.name)
                images = entries.setdefault(str(split_of(place.name)), [])
                if category is None:
                    self.known.append(place.parent)
                else:
                    images.extend(ImageEntry(image, category) for image in pictures_below(place))
            return entries
        for place in self._splits or [self.root]:
            split = split_of(place.name) if self._splits else None
            if self._splits and split is None and not self.settings.split:
                raise DatasetError(
                    f"{place}: it holds the same folders as those beside it, so it is a split, but no split has its "
                    f"name. Rename it to train, val or test, or set {self.key}.split"
                )
            if self._splits and split is None:
                text = "folder taken for a split: it holds the same folders as those beside it, which are the classes"
                faults.append(Fault(str(place), text, "note"))
            images = entries.setdefault(UNDIVIDED if split is None else split, [])
            for folder in visible_folders(place):
                category = self._map.object(folder.name)
                if category is None:
                    self.known.append(folder)
                else:
                    images.extend(ImageEntry(image, category) for image in pictures_below(folder))
            faults.extend(
                Fault(str(path), "image without label: it lies in no class's folder")
                for path in sorted(place.iterdir())
                if path.is_file() and not is_hidden(path.name) and is_picture(path)
            )
        return entries

    def size(self, entry: ImageEntry) -> tuple[int, int] | None:
        return None

    def label(self, entry: ImageEntry, shape: tuple[int, int], faults: list[Fault]) -> dict[str, Any]:
        return {"category": entry.labels}


def _split_folders(root: Path) -> list[Path]:
    """The folders of splits; empty if the folders of the root are classes.

    A folder without subfolders is a class, even if its name is train.
    """
    folders = visible_folders(root)
    splits = [folder for folder in folders if split_of(folder.name) and visible_folders(folder)]
    if splits:
        return splits
    inside = [{folder.name for folder in visible_folders(place)} for place in folders]
    if len(folders) > 1 and len(inside[0]) > 1 and all(names == inside[0] for names in inside):
        return [] if _hold_splits(folders) else folders
    return _split_folders(folders[0]) if len(folders) == 1 and inside[0] else []


def _hold_splits(folders: Sequence[Path]) -> bool:
    """Whether there is more than one folder, and all hold folders of at least two splits and no other files."""
    for folder in folders:
        entries = [path for path in folder.iterdir() if not is_hidden(path.name)]
        splits = {split_of(path.name) if path.is_dir() else None for path in entries}
        if len(splits) < 2 or None in splits:
            return False
    return len(folders) > 1
