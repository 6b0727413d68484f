"""Which images a split has: the splits of the files or drawn ones, with safe and unique ids, thinned to a limit."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..labels import DatasetError
from ..samples import Fault
from ..settings import SplitName

SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
UNDIVIDED = "all"  # what a format without splits calls its images
KEPT_FIRST = ("test", "val", "train")  # an image in two splits stays in the first of these
LONGEST_NAME, LONGEST_PATH = 255, 2000  # bytes that file systems allow, and some room for the folders above
LONGEST_ID = 180  # bytes: stages add to the names
CONSENT = "set data.trust_paths to true where you trust the origin of these data"


@dataclass(frozen=True)
class ImageEntry:
    """One image file, not yet opened, with whatever its format needs to label it."""

    image: Path
    labels: Any = None


@dataclass(frozen=True)
class Listing:
    """The images of every split by id, and what was wrong with the files before any was opened."""

    splits: dict[str, dict[str, ImageEntry]]
    faults: tuple[Fault, ...]


def list_images(
    entries: Mapping[str, Sequence[ImageEntry]],
    shares: Mapping[SplitName, float] | None,
    limits: Mapping[SplitName, int | None],
    key: str,
    seed: int,
    faults: Sequence[Fault],
) -> Listing:
    """The images of every split by id.

    Args:
        entries: images by split; under the key "all" where the format does not divide them.
        shares: by split, to draw the splits; None: the splits of the files are kept.
        limits: at most so many images by split; None: all.
        key: the section of params.yaml, for messages.
        seed: of the drawn splits.
        faults: those of the format so far.

    Raises:
        DatasetError: there are no splits.
    """
    faults = list(faults)
    if UNDIVIDED in entries and not shares:
        raise DatasetError(f"{key}.split: needed, since the data are not divided: {{train: 0.7, val: 0.1, test: 0.2}}")
    once = _without_repeats(entries, [] if shares else faults)  # before splits are drawn, repeats do no harm
    if shares:
        pool = [entry for split_entries in once.values() for entry in split_entries]
        named = _draw(_named(pool, faults), shares, seed)
    else:
        named = {split: _named(once[split], faults) for split in SPLITS if split in once}
    if not named:
        raise DatasetError(f"{key}: none of the splits train, val and test")
    splits: dict[str, dict[str, ImageEntry]] = {}
    for split, images in named.items():
        splits[split] = _thin(images, limits.get(split))
    return Listing(splits, tuple(faults))


def divided_or_not(by_split: dict[str, Any]) -> dict[str, Any]:
    """Check that a setting names either splits, or "all" alone.

    Raises:
        ValueError: it names neither, or both.
    """
    if not by_split or (UNDIVIDED in by_split and len(by_split) > 1):
        raise ValueError("expected train and val or test, or only all, which split divides")
    return by_split


def safe_inside(root: Path, name: str) -> Path | None:
    """root/name, or None where that would leave the folder or can be no file's name."""
    parts = PurePosixPath(name.replace("\\", "/"))
    outside = parts.is_absolute() or ".." in parts.parts or not parts.parts
    return root / parts if is_file_name(name) and not outside else None


def is_file_name(name: str) -> bool:
    """Whether a file system can be asked for a path of this name without an error of its own."""
    try:
        code = os.fsencode(name)
    except UnicodeEncodeError:  # half of a character, which JSON can spell
        return False
    return b"\0" not in code and len(code) <= LONGEST_PATH and max(map(len, code.split(b"/"))) <= LONGEST_NAME


def lies_below(root: Path, path: Path) -> bool:
    """Whether a path, links followed, is a folder or a file in it."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def trusted_only(
    root: Path, entries: Mapping[str, Sequence[ImageEntry]], faults: list[Fault]
) -> dict[str, list[ImageEntry]]:
    """The images whose files, links followed, lie below `root`; the others become faults."""
    folders: dict[Path, Path] = {}  # by path: where it really is, asked once for each folder
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
            outside = next((path for path in _files(entry) if not real(path).is_relative_to(base)), None)
            if outside is None:
                kept[split].append(entry)
            else:
                text = f"leads outside: not below {root}; {CONSENT}"
                faults.append(Fault(str(outside), text))
    return kept


def _files(entry: ImageEntry) -> list[Path]:
    labels = entry.labels if isinstance(entry.labels, tuple) else (entry.labels,)
    return [entry.image, *(path for path in labels if isinstance(path, Path))]


def _without_repeats(entries: Mapping[str, Sequence[ImageEntry]], faults: list[Fault]) -> dict[str, list[ImageEntry]]:
    """Every file once: in the split that is kept first, and once there."""
    seen: dict[str, str] = {}
    once: dict[str, list[ImageEntry]] = {split: [] for split in entries}
    for split in sorted(entries, key=lambda name: KEPT_FIRST.index(name) if name in KEPT_FIRST else -1):
        for entry in entries[split]:
            file = os.path.realpath(entry.image)
            if file not in seen:
                seen[file] = split
                once[split].append(entry)
            elif seen[file] == split:
                faults.append(Fault(str(entry.image), f"image listed twice: in split {split}"))
            else:
                faults.append(Fault(str(entry.image), f"image in two splits: {split} and {seen[file]}"))
    return once


def _named(entries: Sequence[ImageEntry], faults: list[Fault]) -> dict[str, ImageEntry]:
    """Images by id: the file's name, with as many of the folders above it as the images do not share."""
    if not entries:
        return {}
    above = os.path.commonpath([entry.image.parent.absolute() for entry in entries])
    named: dict[str, ImageEntry] = {}
    first: dict[str, Path] = {}  # by what a file system without case calls the same
    for entry in entries:
        name = _safe_id(os.path.relpath(entry.image.absolute(), above))
        other = first.setdefault(name.casefold(), entry.image)
        if other is entry.image:
            named[name] = entry
        else:
            faults.append(Fault(str(entry.image), f"two images of one name: {other} is called {name} too"))
    return dict(sorted(named.items()))


def _safe_id(name: str) -> str:
    """A path as a file name: "a/b c.jpg" is "a__b_c"."""
    parts = PurePosixPath(name.replace(os.sep, "/")).with_suffix("").parts
    safe = re.sub(r"[^\w.-]", "_", "__".join(parts))
    return safe.encode()[-LONGEST_ID:].decode(errors="ignore").lstrip(".-") or "_"


def _draw(
    named: Mapping[str, ImageEntry], shares: Mapping[SplitName, float], seed: int
) -> dict[SplitName, dict[str, ImageEntry]]:
    """Random splits whose sizes are as near to the shares as whole numbers are."""
    order = np.random.default_rng(seed).permutation(len(named))
    ends = np.rint(np.cumsum([shares.get(split, 0.0) for split in SPLITS]) * len(named)).astype(int)
    names = list(named)
    drawn: dict[SplitName, dict[str, ImageEntry]] = {}
    for split, start, end in zip(SPLITS, [0, *ends[:-1]], ends, strict=True):
        if shares.get(split):
            drawn[split] = {names[i]: named[names[i]] for i in sorted(order[start:end])}
    return drawn


def _thin(entries: dict[str, ImageEntry], limit: int | None) -> dict[str, ImageEntry]:
    """At most so many, evenly spaced."""
    if limit is None or limit >= len(entries):
        return entries
    names = list(entries)
    return {names[i]: entries[names[i]] for i in np.linspace(0, len(names) - 1, limit).round().astype(int)}
