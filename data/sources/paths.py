"""Image files and the paths to them: names that a file system accepts, and files outside the data folder."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..samples import Fault

LONGEST_NAME, LONGEST_PATH = 255, 2000  # bytes: limits of file systems, with room for parent folders
CONSENT = "set data.trust_paths to true if you trust the origin of this data"


@dataclass(frozen=True)
class ImageEntry:
    """One image file, not yet opened.

    Attributes:
        labels: what the format needs to read the labels, such as a path.
        group: the value of `groups.field`, in formats that have fields.
    """

    image: Path
    labels: Any = None
    group: str | None = None


def safe_inside(root: Path, name: str) -> Path | None:
    """The path root/name, or None if it would leave the folder or is not a possible file name."""
    parts = PurePosixPath(name.replace("\\", "/"))
    outside = parts.is_absolute() or ".." in parts.parts or not parts.parts
    return root / parts if is_file_name(name) and not outside else None


def is_file_name(name: str) -> bool:
    """Whether a file system accepts a path of this name, which may not exist."""
    try:
        code = os.fsencode(name)
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can contain
        return False
    return b"\0" not in code and len(code) <= LONGEST_PATH and max(map(len, code.split(b"/"))) <= LONGEST_NAME


def lies_below(root: Path, path: Path) -> bool:
    """Whether a path, with links resolved, is `root` or lies in it."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def trusted_only(
    root: Path, entries: Mapping[str, Sequence[ImageEntry]], faults: list[Fault]
) -> dict[str, list[ImageEntry]]:
    """The images whose files, with links resolved, lie below `root`. The others are added to `faults`."""
    folders: dict[Path, Path] = {}  # resolved folders by path, each resolved once
    base = Path(os.path.realpath(root))

    def real(path: Path) -> Path:
        if path.is_symlink() or path.name == "..":
            return Path(os.path.realpath(path))
        if path.parent not in folders:
            folders[path.parent] = Path(os.path.realpath(path.parent))
        return folders[path.parent] / path.name

    kept: dict[str, list[ImageEntry]] = {}
    for split, split_entries in entries.items():
        kept[split] = []
        for entry in split_entries:
            outside = next((path for path in files_of(entry) if not real(path).is_relative_to(base)), None)
            if outside is None:
                kept[split].append(entry)
            else:
                text = f"leads outside: not below {root}; {CONSENT}"
                faults.append(Fault(str(outside), text))
    return kept


def files_of(entry: ImageEntry) -> list[Path]:
    """The image file of an entry, and the files of its labels."""
    labels = entry.labels if isinstance(entry.labels, tuple) else (entry.labels,)
    return [entry.image, *(path for path in labels if isinstance(path, Path))]
