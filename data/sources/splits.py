"""The images of each split: kept as in the files or drawn, with safe and unique ids, and limited in number."""

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
UNDIVIDED = "all"  # key of all images in formats without splits
KEPT_FIRST = ("test", "val", "train")  # an image in two splits stays in the first of them
LONGEST_NAME, LONGEST_PATH = 255, 2000  # bytes: limits of file systems, with room for parent folders
LONGEST_ID = 180  # bytes: stages append to the names
CONSENT = "set data.trust_paths to true if you trust the origin of this data"


@dataclass(frozen=True)
class ImageEntry:
    """One image file, not yet opened. `labels` is what its format needs to read its labels, such as a path."""

    image: Path
    labels: Any = None


@dataclass(frozen=True)
class Listing:
    """The images of every split by id, and the faults in names and lists of files."""

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
        entries: images by split, or under the key "all" if the format has no splits.
        shares: share of the images by split, to draw the splits; None keeps the splits of the files.
        limits: largest number of images by split; None keeps all.
        key: the section of params.yaml, for error messages.
        seed: seed of the drawn splits.
        faults: the faults found so far.

    Raises:
        DatasetError: there are no splits.
    """
    faults = list(faults)
    if UNDIVIDED in entries and not shares:
        raise DatasetError(
            f"{key}.split: missing, and the files have no splits. Set it, such as {{train: 0.7, val: 0.1, test: 0.2}}"
        )
    once = _without_repeats(entries, [] if shares else faults)  # before splits are drawn, repeats do no harm
    if shares:
        pool = [entry for split_entries in once.values() for entry in split_entries]
        named = _draw(_named(pool, faults), shares, seed)
    else:
        named = {split: _named(once[split], faults) for split in SPLITS if split in once}
    if not named:
        raise DatasetError(f"{key}: there is no split train, val or test. Check data.root")
    splits: dict[str, dict[str, ImageEntry]] = {}
    for split, images in named.items():
        splits[split] = _thin(images, limits.get(split))
    return Listing(splits, tuple(faults))


def divided_or_not(by_split: dict[str, Any]) -> dict[str, Any]:
    """Check that the keys of a setting are splits, or "all" alone; returns the setting.

    Raises:
        ValueError: there are no keys, or "all" and others.
    """
    if not by_split or (UNDIVIDED in by_split and len(by_split) > 1):
        raise ValueError("expected the keys train and val or test, or only all")
    return by_split


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
    """Each file once: in the first of `KEPT_FIRST` that lists it. Repeats are added to `faults`."""
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
    """Images by id: the path below their common folder as a file name. Name clashes are added to `faults`."""
    if not entries:
        return {}
    above = os.path.commonpath([entry.image.parent.absolute() for entry in entries])
    named: dict[str, ImageEntry] = {}
    first: dict[str, Path] = {}  # by name without case: some file systems ignore case
    for entry in entries:
        name = _safe_id(os.path.relpath(entry.image.absolute(), above))
        earlier = first.setdefault(name.casefold(), entry.image)
        if earlier is entry.image:
            named[name] = entry
        else:
            faults.append(Fault(str(entry.image), f"two images of one name: {earlier} has the id {name} too"))
    return dict(sorted(named.items()))


def _safe_id(name: str) -> str:
    """A path as a file name without suffix: "a/b c.jpg" becomes "a__b_c"."""
    parts = PurePosixPath(name.replace(os.sep, "/")).with_suffix("").parts
    safe = re.sub(r"[^\w.-]", "_", "__".join(parts))
    return safe.encode()[-LONGEST_ID:].decode(errors="ignore").lstrip(".-") or "_"


def _draw(
    named: Mapping[str, ImageEntry], shares: Mapping[SplitName, float], seed: int
) -> dict[SplitName, dict[str, ImageEntry]]:
    """Random splits whose sizes are the shares rounded to whole images."""
    order = np.random.default_rng(seed).permutation(len(named))
    ends = np.rint(np.cumsum([shares.get(split, 0.0) for split in SPLITS]) * len(named)).astype(int)
    names = list(named)
    drawn: dict[SplitName, dict[str, ImageEntry]] = {}
    for split, start, end in zip(SPLITS, [0, *ends[:-1]], ends, strict=True):
        if shares.get(split):
            drawn[split] = {names[i]: named[names[i]] for i in sorted(order[start:end])}
    return drawn


def _thin(entries: dict[str, ImageEntry], limit: int | None) -> dict[str, ImageEntry]:
    """At most `limit` of the images, evenly spaced."""
    if limit is None or limit >= len(entries):
        return entries
    names = list(entries)
    return {names[i]: entries[names[i]] for i in np.linspace(0, len(names) - 1, limit).round().astype(int)}
