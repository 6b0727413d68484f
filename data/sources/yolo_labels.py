"""YOLO's label files: which file has the labels of an image, and the rows in it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ..photos import is_picture_name
from ..samples import Fault
from .files import Names, alike, is_hidden, is_side_file

BOX_WORDS = 5
SHORTEST_POLYGON = 7  # a class and three corners
NOT_LABELS = {"classes.txt", "labels.txt", "predefined_classes.txt"}  # class names that tools write beside the labels
OTHER_LABELS = {".json", ".xml"}  # of other formats
Row = tuple[int, list[float]]  # line number, values


def expected_label(image: Path) -> Path:
    """Where ultralytics looks for the labels of an image: the last folder called images is replaced by labels."""
    return _label_folder(image.parent) / f"{image.stem}.txt"


def find_labels(images: Sequence[Path], not_labels: Iterable[Path], faults: list[Fault]) -> dict[Path, Path]:
    """The label file of each image whose labels are known; the expected one, which does not exist, if it has none.

    A label file lies in the folder of labels or beside the image. It has the image's name, or the only one that differs
    from it in case, Unicode form or percent-encoding alone. Where label files are left without an image, images without
    a label file are faults, because one of those may be theirs.

    Args:
        images: the images of all splits.
        not_labels: text files that are something else, such as lists of images.
        faults: faults are added to it.
    """
    others = set(not_labels)
    parents = {image.parent for image in images}
    folders = {parent: [_label_folder(parent), parent] for parent in sorted(parents)}
    texts = {folder: _texts(folder, others) for places in folders.values() for folder in dict.fromkeys(places)}
    by_name = {folder: {path.name: path for path in files} for folder, files in texts.items()}
    labels: dict[Path, Path] = {}
    for image in images:
        names = (f"{image.stem}.txt", f"{image.name}.txt")
        files = (by_name[folder].get(name) for folder in folders[image.parent] for name in names)
        if file := next((path for path in files if path is not None), None):
            labels[image] = file
    labels |= _written_differently([image for image in images if image not in labels], folders, texts, labels.values())
    strays = _strays(images, folders, texts, labels, faults)
    stray_names = {alike(file.stem) for files in strays.values() for file in files}
    for image in images:
        if image not in labels:
            reason = _doubt(image, folders[image.parent], strays, stray_names)
            if reason is None:
                labels[image] = folders[image.parent][0] / f"{image.stem}.txt"
            else:
                faults.append(Fault(str(image), f"image without label: {reason}"))
    return labels


def read_rows(file: Path, keypoint_numbers: int, faults: list[Fault]) -> list[Row]:
    """Every valid row of a label file, without repeats and without keypoints. Faults are added to `faults`."""
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
            row = _numbers(line, keypoint_numbers)
            if row is None:
                faults.append(Fault(f"{file}:{number}", _expected(line, keypoint_numbers), "label"))
            else:
                rows.setdefault(row, number)
    return [(number, list(row)) for row, number in rows.items()]


def _numbers(line: str, keypoint_numbers: int) -> tuple[float, ...] | None:
    try:
        row = tuple(float(word) for word in line.split())
    except ValueError:
        return None
    if keypoint_numbers:
        fits = len(row) in (BOX_WORDS, BOX_WORDS + keypoint_numbers)
        row = row[:BOX_WORDS]
    else:
        fits = len(row) == BOX_WORDS or (len(row) >= SHORTEST_POLYGON and len(row) % 2 == 1)
    return row if fits and np.isfinite(row).all() else None


def _expected(line: str, keypoint_numbers: int) -> str:
    shown = f"malformed label: {line[:60]!r}; expected"
    if keypoint_numbers:
        return f"{shown} a class, x y w h and the {keypoint_numbers} numbers that kpt_shape asks for"
    return f"{shown} a class and x y w h, or a class and 3 or more x y; keypoints need kpt_shape in data.yaml"


def _label_folder(folder: Path) -> Path:
    parts = folder.parts
    places = [index for index, part in enumerate(parts) if part == "images"]
    places = places or [index for index, part in enumerate(parts) if part.casefold() == "images"]
    if not places:
        return folder
    parent, rest = Path(*parts[: places[-1]]), parts[places[-1] + 1 :]
    if not (parent / "labels").is_dir() and parent.is_dir():  # Labels beside Images
        alike = [path for path in sorted(parent.iterdir()) if path.name.casefold() == "labels"]
        return Path(*(alike or [parent / "labels"])[:1], *rest)
    return parent.joinpath("labels", *rest)


def _texts(folder: Path, others: set[Path]) -> list[Path]:
    """The files in a folder that can be labels."""
    if not folder.is_dir():
        return []
    files = (path for path in sorted(folder.iterdir()) if path.suffix.lower() == ".txt" and path not in others)
    return [path for path in files if not is_hidden(path.name) and path.name.lower() not in NOT_LABELS]


def _written_differently(
    images: Sequence[Path], folders: dict[Path, list[Path]], texts: dict[Path, list[Path]], taken: Iterable[Path]
) -> dict[Path, Path]:
    """Label files whose name differs in case, Unicode form or percent-encoding, where there is one for one image."""
    used = set(taken)
    left = {folder: Names(path for path in files if path not in used) for folder, files in texts.items()}
    found: dict[Path, Path] = {}
    for image in images:
        files = (left[folder].find(name) for folder in folders[image.parent] for name in (image.stem, image.name))
        if file := next((path for path in files if path is not None), None):
            found[image] = file
    counts = Counter(found.values())
    return {image: file for image, file in found.items() if counts[file] == 1}


def _strays(
    images: Sequence[Path],
    folders: dict[Path, list[Path]],
    texts: dict[Path, list[Path]],
    labels: dict[Path, Path],
    faults: list[Fault],
) -> dict[Path, list[Path]]:
    """The label files without an image, by folder; they are added to `faults`."""
    used = set(labels.values())
    second = {folder / f"{image.stem}.txt": image for image in labels for folder in folders[image.parent]}
    pictures = {folder: place for place, places in folders.items() for folder in places}
    pictured = {place: _picture_names(place) for place in folders}
    strays: dict[Path, list[Path]] = {}
    for folder, files in texts.items():
        for file in files:
            if file in second and file not in used:
                text = f"second label of an image: {labels[second[file]]} is read"
                faults.append(Fault(str(file), text, "note"))
            elif file not in used and alike(file.stem) in pictured[pictures[folder]]:
                faults.append(Fault(str(file), "label not read: no list names its image", "note"))
            elif file not in used and not _is_other_text(file, folder in folders):
                strays.setdefault(folder, []).append(file)
                faults.append(Fault(str(file), f"label without image: none of its name in {pictures[folder]}"))
    return strays


def _picture_names(folder: Path) -> set[str]:
    files = folder.iterdir() if folder.is_dir() else []
    return {alike(path.stem) for path in files if is_picture_name(path.name)}


def _is_other_text(file: Path, is_beside_images: bool) -> bool:
    """Whether a text file is something else than labels: a list of images; beside images, any other text."""
    if is_beside_images and is_side_file(file.name):
        return True
    try:
        words = file.read_text(encoding="utf-8-sig").split()
        if words and is_picture_name(words[0]):
            return True
        return is_beside_images and bool(words) and not np.isfinite([float(word) for word in words]).all()
    except (OSError, ValueError):
        return is_beside_images


def _doubt(image: Path, folders: Sequence[Path], strays: dict[Path, list[Path]], names: set[str]) -> str | None:
    """Why an image without a label file cannot be taken for one without objects; None if it can."""
    if alike(image.stem) in names:
        return f"a label file in another folder has its name; put it into {folders[0]}"
    for folder in dict.fromkeys(folders):
        if folder in strays:
            return f"{len(strays[folder])} label files in {folder} have no image, and one of them may be its own"
        for suffix in OTHER_LABELS:
            if (folder / f"{image.stem}{suffix}").is_file():
                return f"{image.stem}{suffix} in {folder} has its name, but is not in YOLO's format"
    return None
