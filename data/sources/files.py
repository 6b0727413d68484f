"""The files of a data folder: what a folder's name says, how names match, and which files nobody reads.

All sources share these tables: names of splits, hidden files, and files that lie beside data without being data.
"""

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote

from ..photos import is_picture
from ..samples import Fault
from ..settings import SplitName

SPLIT_NAMES: dict[str, SplitName] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}  # lower case
HIDDEN = {"$recycle.bin", "@eadir", "__macosx", "__pycache__", "desktop.ini", "lost+found", "thumbs.db"}  # and .*
# What lies beside data without being data: descriptions, lists and settings of tools, archives, programs.
SIDE_SUFFIXES = {".7z", ".bib", ".cache", ".cfg", ".csv", ".data", ".doc", ".docx", ".gz", ".htm", ".html", ".ini"}
SIDE_SUFFIXES |= {".ipynb", ".json", ".jsonl", ".log", ".m", ".mat", ".md", ".names", ".pbtxt", ".pdf", ".py", ".rar"}
SIDE_SUFFIXES |= {".rst", ".rtf", ".sh", ".tar", ".tgz", ".toml", ".tsv", ".xls", ".xlsx", ".yaml", ".yml", ".zip"}
SIDE_NAMES = {"changelog", "citation", "classes.txt", "copyright", "labels.txt", "license", "licence", "notice"}
SIDE_NAMES |= {"authors", "predefined_classes.txt", "readme", "requirements.txt"}  # without or with the ending .txt


def split_of(name: str) -> SplitName | None:
    """The split that a folder, list or key of this name means, in any case; None: it means no split."""
    return SPLIT_NAMES.get(name.casefold())


def is_hidden(name: str) -> bool:
    """Whether a file or folder belongs to an editor or a system: its name begins with a dot, or is known."""
    return name.startswith((".", "~$")) or name.casefold() in HIDDEN


def is_side_file(name: str) -> bool:
    """Whether a file of this name lies beside data without being data."""
    lower = name.casefold()
    return Path(lower).suffix in SIDE_SUFFIXES or lower in SIDE_NAMES or lower.removesuffix(".txt") in SIDE_NAMES


def visible_files(folder: Path) -> Iterator[Path]:
    """All files below a folder that are not hidden, in a fixed order. Links to folders are followed."""
    walked = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        walked.add(os.path.realpath(place))
        shown = sorted(name for name in folders if not is_hidden(name))
        folders[:] = [name for name in shown if os.path.realpath(Path(place, name)) not in walked]
        yield from (Path(place, name) for name in sorted(names) if not is_hidden(name))


def visible_folders(place: Path) -> list[Path]:
    """The folders in a folder that are not hidden, sorted."""
    if not place.is_dir():
        return []
    return sorted(path for path in place.iterdir() if path.is_dir() and not is_hidden(path.name))


def pictures_below(folder: Path) -> list[Path]:
    """The pictures below a folder, sorted."""
    return sorted(path for path in visible_files(folder) if is_picture(path))


class Names:
    """Files by their name or stem, found even if case, Unicode form or percent-encoding differs.

    Args:
        files: the files, such as those of one folder.
        name: what a file is found by: its name without ending, unless said otherwise.
    """

    def __init__(self, files: Iterable[Path], name: Callable[[Path], str] = lambda path: path.stem) -> None:
        self._exact: dict[str, list[Path]] = {}
        self._alike: dict[str, list[Path]] = {}
        for path in files:
            self._exact.setdefault(name(path), []).append(path)
            self._alike.setdefault(alike(name(path)), []).append(path)

    def find(self, name: str) -> Path | None:
        """The file of exactly this name, or else the only one whose name is written differently."""
        files = self._exact.get(name) or self._alike.get(alike(name), [])
        return files[0] if len(files) == 1 else None

    def all(self, name: str) -> list[Path]:
        """All files of this name, however it is written."""
        return self._alike.get(alike(name), [])


def alike(name: str) -> str:
    """The form of a name in which case, Unicode form and percent-encoding make no difference."""
    return unicodedata.normalize("NFC", unquote(name)).casefold()


def written_differently(base: Path, name: str) -> Path | None:
    """The existing path below `base` that differs from `name` in case, Unicode form or percent-encoding alone."""
    place = base
    for part in name.split("/"):
        entries = [] if part in ("", ".", "..") or not place.is_dir() else list(place.iterdir())
        found = Names(entries, lambda path: path.name).find(part)
        if entries and found is None:
            return None
        place = found or place / part
    return place if place.exists() else None


def trailing_parts(name: str) -> Iterator[str]:
    """A path, then the path without its first folder, and so on: "/a/b/c.jpg" gives a/b/c.jpg, b/c.jpg, c.jpg."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    for start in range(len(parts)):
        yield "/".join(parts[start:])


def left_over(root: Path, read: Iterable[Path]) -> list[Fault]:
    """A note for each file and folder below `root` that nobody reads and that is no known side file.

    Args:
        root: the folder that holds the data.
        read: the files that are read or have a fault, and the folders that are dealt with as a whole. Beside
            `root`, their folders are visited too.
    """
    base = _plain(root)
    known = {_plain(path) for path in read}
    folders = _visited({path.rpartition("/")[0] for path in known if path != base}, base)
    notes: list[Fault] = []
    waiting = [base, *sorted(folder for folder in folders if not _is_below(folder, base))]
    while waiting:
        for entry in _entries(waiting.pop()):
            if entry.path in known:
                continue
            if entry.path in folders and not is_hidden(entry.name):
                waiting.append(entry.path)
            elif text := _what_is_left(entry):
                shown = root / entry.path[len(base) + 1 :] if _is_below(entry.path, base) else entry.path
                notes.append(Fault(str(shown), text, "note"))
    return notes


def _plain(path: Path) -> str:
    """An absolute path without "..", links as they are. Texts, because there can be many and they are fast."""
    return os.path.normpath(path if path.is_absolute() else Path.cwd() / path)


def _is_below(path: str, base: str) -> bool:
    return path == base or path.startswith(f"{base.rstrip('/')}/")


def _visited(parents: set[str], base: str) -> set[str]:
    """The folders above files, up to `base`; of a file elsewhere, its folder alone."""
    visited: set[str] = set()
    for parent in parents:
        folder = parent
        while _is_below(folder, base) and folder not in visited:
            visited.add(folder)
            folder = folder.rpartition("/")[0]
        if not _is_below(parent, base) and not _is_below(base, parent):
            visited.add(parent)
    return visited


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


def _what_is_left(entry: "os.DirEntry[str]") -> str | None:
    if is_hidden(entry.name):
        return "hidden: files of editors and systems are skipped"
    if entry.is_dir():
        return "folder not read: no setting, list or label leads to it" if _entries(entry.path) else None
    if is_side_file(entry.name):
        return None
    if Path(entry.name).suffix.lower() == ".xml":
        return "label not read: no setting, list or picture leads to it"
    if is_picture(Path(entry.path)):
        return "picture not read: no setting, list or label names it"
    return "unknown file: no picture, no label and no known side file"
