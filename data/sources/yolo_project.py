"""What a YOLO project declares in data.yaml, or in darknet's files: its class names, and the images of each split."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..labels import DatasetError
from ..photos import is_picture_name
from ..samples import Fault
from .files import pictures_below, split_of, trailing_parts, visible_folders, written_differently
from .paths import is_file_name
from .splits import SPLITS, UNDIVIDED

MOST_NAMELESS = 10000  # largest `nc` without names
DARKNET_DATA = "*.data"
DARKNET_NAMES = ("*.names", "_darknet.labels", "classes.txt")
NOTHING: tuple[Any, ...] = (None, "", [])


@dataclass(frozen=True)
class Project:
    """A project file.

    Attributes:
        file: data.yaml, or the file of darknet that stands in for it.
        content: its keys and values, as in data.yaml. Of darknet's flat folders, the key "all" names the root.
        is_darknet: whether paths are relative to an unknown folder, as darknet's are.
    """

    file: Path
    content: Mapping[str, Any]
    is_darknet: bool = False


def read_project(root: Path, name: str, read_yaml: Callable[[Path], Any]) -> Project:
    """Read the project file below `root`: the one called `name`; or else the only YAML file; or else darknet's files.

    Raises:
        DatasetError: it is not a mapping, or darknet's files name different classes.
    """
    file = root / name
    if not file.is_file():
        others = sorted([*root.glob("*.yaml"), *root.glob("*.yml")])
        darknet = None if others else _darknet(root)
        if darknet is not None:
            return darknet
        file = others[0] if len(others) == 1 else file
    content = read_yaml(file)
    if not isinstance(content, dict):
        raise DatasetError(f"{file}: not a mapping. Give it the keys path, train, val and names")
    return Project(file, content)


def class_names(project: Project) -> list[str]:
    """The class names, in index order.

    Raises:
        DatasetError: there are none, or their indices are not 0, 1, 2, ...
    """
    names = project.content.get("names")
    number = project.content.get("nc")
    if names is None and isinstance(number, int):
        if not 1 <= number <= MOST_NAMELESS:
            raise DatasetError(
                f"{project.file}: nc: expected 1 to {MOST_NAMELESS} classes, got {number}. Correct it or add names"
            )
        return [f"class_{index}" for index in range(number)]
    if isinstance(names, dict) and names:
        by_index = {str(index): str(name) for index, name in names.items()}
        if set(by_index) == {str(index) for index in range(len(names))}:
            return [by_index[str(index)] for index in range(len(names))]
    if isinstance(names, list) and names:
        return [str(name) for name in names]
    raise DatasetError(
        f"{project.file}: names: expected a list, or a mapping from the indices 0, 1, ... to names, got {names!r}"
    )


def keypoint_numbers(project: Project) -> int:
    """How many numbers of keypoints follow the box in each row: K * D of `kpt_shape: [K, D]`; 0 without keypoints.

    Raises:
        DatasetError: `kpt_shape` is not two whole numbers.
    """
    shape = project.content.get("kpt_shape")
    if shape is None:
        return 0
    if not isinstance(shape, list) or len(shape) != 2 or not all(type(n) is int and 0 < n < 1000 for n in shape):
        raise DatasetError(f"{project.file}: kpt_shape: expected two whole numbers such as [17, 3], got {shape!r}")
    return int(shape[0] * shape[1])


def split_places(project: Project, faults: list[Fault]) -> tuple[Path, dict[str, list[Path]]]:
    """The folder that paths are relative to, and the folders and list files of each split.

    A folder of test images that does not exist is a note: Roboflow names it in every project.

    Raises:
        DatasetError: a path is not possible, or does not exist.
    """
    base = _base(project.file, project.content.get("path"))
    values: dict[str, list[Any]] = {}
    for key, value in project.content.items():
        split = UNDIVIDED if key == UNDIVIDED and project.is_darknet else split_of(str(key))
        if split is not None and value not in NOTHING:
            values.setdefault(split, []).extend(value if isinstance(value, list) else [value])
    places: dict[str, list[Path]] = {}
    for split in [split for split in (*SPLITS, UNDIVIDED) if split in values]:
        for entry in values[split]:
            place, expected = _place(project, base, split, entry)
            if place is not None:
                places.setdefault(split, []).append(place)
            elif split == "test" and {"train", "val"} <= places.keys():
                faults.append(Fault(f"{project.file}: test", f"folder missing: {expected} does not exist", "note"))
            else:
                raise DatasetError(f"{project.file}: {split}: {expected} does not exist. Correct it")
    return base, places


def images_of(place: Path, base: Path, faults: list[Fault]) -> list[Path]:
    """The images in a folder, or those that a list file names. Unusable lines are added to `faults`.

    Raises:
        DatasetError: the list is no text in UTF-8.
    """
    return _listed(place, base, faults) if place.is_file() else pictures_below(place)


def _darknet(root: Path) -> Project | None:
    """The project that darknet's files in `root`, or in a folder of it, describe; None without them."""
    folders = [root, *visible_folders(root)]
    for folder in folders:
        for file in sorted(folder.glob(DARKNET_DATA)):
            pairs = [line.partition("=") for line in _lines(file) if "=" in line]
            keys = {key.strip(): value.strip() for key, _, value in pairs}
            listed = next(
                (root / part for part in trailing_parts(keys.get("names", "")) if (root / part).is_file()), None
            )
            if listed is not None:
                return Project(file, {**keys, "names": _names(listed)}, is_darknet=True)
    for pattern in DARKNET_NAMES:
        files = [file for folder in folders for file in sorted(folder.glob(pattern))]
        if files:
            names = _names(files[0])
            other = next((file for file in files if _names(file) != names), None)
            if other is not None:
                raise DatasetError(f"{other}: its classes differ from those of {files[0]}. Keep the right file")
            return Project(files[0], {"path": str(root.absolute()), "names": names, **_split_folders(root)}, True)
    return None


def _split_folders(root: Path) -> dict[str, list[str]]:
    """The folders that are called train, val or test, by split; or the root under the key "all"."""
    splits: dict[str, list[str]] = {}
    for parent in [root, *(folder for folder in visible_folders(root) if folder.name.casefold() == "images")]:
        for folder in visible_folders(parent):
            split = split_of(folder.name)
            if split is not None:
                splits.setdefault(split, []).append(folder.relative_to(root).as_posix())
    return splits or {UNDIVIDED: ["."]}


def _base(project: Path, path: Any) -> Path:
    folder = project.parent
    name = str(path).replace("\\", "/")
    if not is_file_name(name):
        raise DatasetError(f"{project}: path: {str(path)[:60]!r} is not a possible folder name. Correct it")
    choices = [folder] if path in NOTHING else [folder / name, folder.parent / name, Path(name)]
    for choice in choices:
        if choice.is_dir():
            return choice
    raise DatasetError(
        f"{project}: path: there is no folder {' or '.join(map(str, dict.fromkeys(choices)))}. Correct it"
    )


def _place(project: Project, base: Path, split: str, entry: Any) -> tuple[Path | None, Path]:
    """An existing folder or list file, or None; and the path that was expected."""
    name = str(entry).replace("\\", "/")
    if not is_file_name(name):
        raise DatasetError(f"{project.file}: {split}: {str(entry)[:60]!r} is not a possible name. Correct it")
    choices = [base / name]
    if name.startswith("../"):
        choices.append(
            base / name.removeprefix("../")
        )  # as ultralytics: some tools export paths without the name of their folder
    if project.is_darknet or name.startswith("/") or name[1:3] == ":/":  # a path of another machine
        choices += [base / part for part in trailing_parts(name)]
    expected = base / name.removeprefix("../")
    place = next((path for path in choices if path.is_dir() or path.is_file()), None)
    return place or written_differently(base, name.removeprefix("../")), expected


def _listed(file: Path, base: Path, faults: list[Fault]) -> list[Path]:
    images = []
    for number, line in enumerate(_lines(file, "list of images"), start=1):
        name = line.strip().replace("\\", "/")
        if not is_file_name(name):
            raise DatasetError(f"{file}:{number}: {name[:60]!r} is not a possible file name. Correct it")
        if is_picture_name(name):
            whole = file.parent / name if name.startswith("./") else base / name
            choices = (folder / part for part in trailing_parts(name) for folder in (base, file.parent))
            images.append(whole if whole.is_file() else next((path for path in choices if path.is_file()), whole))
        elif name:
            faults.append(Fault(f"{file}:{number}", f"unusable entry: {name[:60]!r}; expected the path of a picture"))
    return images


def _names(file: Path) -> list[str]:
    return [line for line in _lines(file) if line]


def _lines(file: Path, what: str = "list of names") -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file}: not a {what} in UTF-8 ({error}). Correct the entry that names it") from error
    return [line.strip() for line in lines]
