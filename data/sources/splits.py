"""The images of each split: kept as in the files or drawn, with safe and unique ids, and limited in number."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..labels import DatasetError
from ..samples import Fault
from ..settings import SplitName
from .drawing import draw_groups
from .groups import Grouping, cut_into_blocks
from .objects import LabelError
from .paths import ImageEntry

SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
UNDIVIDED = "all"  # key of all images in formats without splits
KEPT_FIRST = ("test", "val", "train")  # an image in two splits stays in the first of them
LONGEST_ID = 180  # bytes: stages append to the names
SEQUENCE = "images"  # the group of all images, before it is cut into blocks
Join = Callable[[Sequence[Any]], Any]


@dataclass(frozen=True)
class Listing:
    """The images of every split by id, and the faults in names and lists of files.

    Attributes:
        groups: for each split the group of each image id that has one.
        divided: the groups, not cut into blocks, with images in several splits of the files; and these splits.
    """

    splits: dict[str, dict[str, ImageEntry]]
    faults: tuple[Fault, ...]
    groups: dict[str, dict[str, str]] = field(default_factory=dict)
    divided: dict[str, list[str]] = field(default_factory=dict)


def refuse_to_join(labels: Sequence[Any]) -> Any:
    """Different labels of one file are a fault.

    Raises:
        LabelError: always.
    """
    raise LabelError(f"with {len(labels)} different labels. Keep one of them")


def list_images(
    entries: Mapping[str, Sequence[ImageEntry]],
    shares: Mapping[SplitName, float] | None,
    limits: Mapping[SplitName, int | None],
    key: str,
    seed: int,
    faults: Sequence[Fault],
    grouping: Grouping | None = None,
    join: Join = refuse_to_join,
) -> Listing:
    """The images of every split by id.

    Args:
        entries: images by split, or under the key "all" if the format has no splits.
        shares: share of the images by split, to draw the splits; None keeps the splits of the files.
        limits: largest number of images by split; None keeps all.
        key: the section of params.yaml, for error messages.
        seed: seed of the drawn splits.
        faults: the faults found so far.
        grouping: finds the groups, which drawn splits keep whole; None: all images are independent.
        join: one value for the different labels of several entries of one file; a LabelError makes them a fault.

    Raises:
        DatasetError: there are no splits, there are fewer groups than splits, or images lack a group.
    """
    faults = list(faults)
    if UNDIVIDED in entries and not shares:
        raise DatasetError(
            f"{key}.split: missing, and the files have no splits. Set it, such as {{train: 0.7, val: 0.1, test: 0.2}}"
        )
    if shares and len(entries) > 1:
        text = f"splits of the files: all images are drawn anew; remove {key}.split to keep {', '.join(entries)}"
        faults.append(Fault(f"{key}.split", text, "note"))
    once = _without_repeats(entries, bool(shares), join, faults)
    videos = {} if grouping is None else _videos(entries, grouping)
    block = None if grouping is None else grouping.block
    groups: dict[str, dict[str, str]] = {}
    if shares:
        pool = _named(once[UNDIVIDED])
        whole = _by_id(pool, videos, block)
        blocks = cut_into_blocks(whole, block)
        if whole:
            count = sum(share > 0 for share in shares.values())
            named = _draw_groups(pool, whole if _count(pool, whole) >= count else blocks, shares, key, seed)
        else:
            named = _draw(pool, shares, seed)
        groups = dict.fromkeys(named, blocks)
    else:
        named = {split: _named(once[split]) for split in SPLITS if split in once}
        groups = {split: cut_into_blocks(_by_id(images, videos, block), block) for split, images in named.items()}
    if not named:
        raise DatasetError(f"{key}: there is no split train, val or test. Check data.root")
    splits: dict[str, dict[str, ImageEntry]] = {}
    for split, images in named.items():
        splits[split] = _thin(images, limits.get(split))
        groups[split] = {image_id: groups[split][image_id] for image_id in splits[split] if image_id in groups[split]}
    return Listing(splits, tuple(faults), groups, {} if shares else _divided(splits, videos))


def divided_or_not(by_split: dict[str, Any]) -> dict[str, Any]:
    """Check that the keys of a setting are splits, or "all" alone; returns the setting.

    Raises:
        ValueError: there are no keys, or "all" and others.
    """
    if not by_split or (UNDIVIDED in by_split and len(by_split) > 1):
        raise ValueError("expected the keys train and val or test, or only all")
    return by_split


def _without_repeats(
    entries: Mapping[str, Sequence[ImageEntry]], drawn: bool, join: Join, faults: list[Fault]
) -> dict[str, list[ImageEntry]]:
    """Each file once, with all of its labels. If splits are not drawn: in the first of `KEPT_FIRST` that lists it."""
    copies: dict[str, dict[str, list[ImageEntry]]] = {}  # file -> split, or "all" if splits are drawn -> its entries
    for split in sorted(entries, key=lambda name: KEPT_FIRST.index(name) if name in KEPT_FIRST else -1):
        for entry in entries[split]:
            places = copies.setdefault(os.path.realpath(entry.image), {})
            places.setdefault(UNDIVIDED if drawn else split, []).append(entry)
    once: dict[str, list[ImageEntry]] = {UNDIVIDED: []} if drawn else {split: [] for split in entries}
    for places in copies.values():
        kept, *others = places
        for split in others:
            faults.extend(Fault(str(e.image), f"image in two splits: {split} and {kept}") for e in places[split])
        try:
            once[kept].append(_joined(places[kept], kept, join, faults))
        except LabelError as error:
            faults.append(Fault(str(places[kept][0].image), f"image listed twice: {error}"))
    return once


def _joined(entries: Sequence[ImageEntry], split: str, join: Join, faults: list[Fault]) -> ImageEntry:
    """One entry for all entries of a file."""
    first, *others = entries
    if all(entry.labels == first.labels for entry in others):
        if others and split != UNDIVIDED:
            faults.append(Fault(str(first.image), f"image listed twice: in split {split}", "note"))
        return first
    labels = join([entry.labels for entry in entries])
    faults.append(
        Fault(str(first.image), f"image listed twice: the labels of {len(entries)} entries are joined", "note")
    )
    return replace(first, labels=labels)


def _named(entries: Sequence[ImageEntry]) -> dict[str, ImageEntry]:
    """Images by id: the path below their common folder as a file name, without ending unless two would be the same."""
    if not entries:
        return {}
    files = {os.path.normpath(entry.image.absolute()): entry for entry in entries}
    above = os.path.commonpath({file.rpartition("/")[0] or "/" for file in files})
    named: dict[str, ImageEntry] = {}
    taken: set[str] = set()  # without case: some file systems ignore it
    for file, entry in sorted(files.items()):
        path = file.removeprefix(above).lstrip("/")
        image_id = next(choice for choice in _choices(path) if choice.casefold() not in taken)
        taken.add(image_id.casefold())
        named[image_id] = entry
    return dict(sorted(named.items()))


def _choices(path: str) -> Iterator[str]:
    """Names for an image: without its ending, with it, and with a digest of its path."""
    name = path.removesuffix(PurePosixPath(path).suffix)
    yield _safe_id(name)
    yield _safe_id(path)
    yield f"{_safe_id(name)}-{hashlib.sha256(path.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


def _safe_id(name: str) -> str:
    """A path as a file name: "a/b c" becomes "a__b_c"."""
    parts = PurePosixPath(name.replace(os.sep, "/")).parts
    safe = re.sub(r"[^\w.-]", "_", "__".join(parts))
    return safe.encode()[-LONGEST_ID:].decode(errors="ignore").lstrip(".-") or "_"


def _videos(entries: Mapping[str, Sequence[ImageEntry]], grouping: Grouping) -> dict[Path, str]:
    """The group of each image file that has one, before groups are cut into blocks."""
    ids: dict[Path, str] = {}
    fields: dict[Path, str] = {}
    for split_entries in entries.values():
        for image_id, entry in _named(split_entries).items():
            ids.setdefault(entry.image, image_id)
            if entry.group is not None:
                fields[entry.image] = entry.group
    return grouping.videos(ids, fields)


def _by_id(named: Mapping[str, ImageEntry], videos: Mapping[Path, str], block: int | None) -> dict[str, str]:
    """The group of each image id that has one; one sequence of all images if only the length of blocks is known."""
    if not videos and block is not None:
        return dict.fromkeys(named, SEQUENCE)
    return {image_id: videos[entry.image] for image_id, entry in named.items() if entry.image in videos}


def _divided(splits: Mapping[str, Mapping[str, ImageEntry]], videos: Mapping[Path, str]) -> dict[str, list[str]]:
    """The groups with images in several splits, and their splits."""
    places: dict[str, list[str]] = {}
    for split, images in splits.items():
        for group in sorted({videos[entry.image] for entry in images.values() if entry.image in videos}):
            places.setdefault(group, []).append(split)
    return {group: names for group, names in places.items() if len(names) > 1}


def _count(named: Mapping[str, ImageEntry], groups: Mapping[str, str]) -> int:
    """Number of groups; an image without one counts as a group."""
    return len(set(groups.values())) + sum(image_id not in groups for image_id in named)


def _draw_groups(
    named: Mapping[str, ImageEntry],
    groups: Mapping[str, str],
    shares: Mapping[SplitName, float],
    key: str,
    seed: int,
) -> dict[SplitName, dict[str, ImageEntry]]:
    """Random splits of whole groups, with sizes near the shares; none is empty.

    Raises:
        DatasetError: there are fewer groups than splits.
    """
    members: dict[tuple[str, str], list[str]] = {}
    for image_id in named:
        unit = ("group", groups[image_id]) if image_id in groups else ("image", image_id)
        members.setdefault(unit, []).append(image_id)
    chosen = [split for split in SPLITS if shares.get(split)]
    if len(members) < len(chosen):
        raise DatasetError(
            f"{key}.split: expected {len(chosen)} or more groups of images for {len(chosen)} splits, got "
            f"{len(members)}. Ask for fewer splits, or cut the groups with {key}.groups.block"
        )
    sizes = np.array([len(ids) for ids in members.values()])
    targets = np.array([shares[split] for split in chosen]) * len(named)
    places = draw_groups(sizes, targets, seed)
    split_of = {image_id: place for ids, place in zip(members.values(), places, strict=True) for image_id in ids}
    return {
        split: {image_id: entry for image_id, entry in named.items() if split_of[image_id] == index}
        for index, split in enumerate(chosen)
    }


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
