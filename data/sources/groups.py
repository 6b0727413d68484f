"""Groups: which images are not independent, such as the frames of one video or the photos of one site."""

import csv
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from ..labels import DatasetError
from ..settings import Count, Settings

HEADER = "id"  # first cell of a CSV file that begins with the names of its columns
COLUMNS = 2
WAYS = ("pattern", "folder", "field", "file")

Seconds = Annotated[float, Field(gt=0, le=86400)]
Rate = Annotated[float, Field(gt=0, le=10000)]  # images per second


class GroupSettings(Settings):
    """The section `groups` of a source: at most one of the first four keys, and blocks.

    Without one of the four, the groups are those of the preset of the layout (`Masks`). If there is no preset or no id
    fits it, all images are one sequence, which `block` cuts.

    Attributes:
        pattern: a regular expression that the whole id of an image must match; the group is its first capturing group.
            An image whose id does not match is independent of all others.
        folder: whether the group is the folder of the image file below the root.
        field: the group is this field of the image's record in COCO's JSON, such as video_id.
        file: a CSV file below the root with the columns id and group; a header is optional.
        block: number of neighbouring images, in the order of their ids, that become one group; None keeps whole groups.
        seconds: the same length in seconds, with `frame_rate`.
        frame_rate: images per second in the dataset.
    """

    pattern: str | None = None
    folder: bool = False
    field: str | None = None
    file: str | None = None
    block: Count | None = None
    seconds: Seconds | None = None
    frame_rate: Rate | None = None

    @field_validator("pattern")
    @classmethod
    def _captures(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                groups = re.compile(pattern).groups
            except (re.error, OverflowError, RecursionError) as error:
                raise ValueError(f"{pattern!r} is not a regular expression ({error}). Correct it") from error
            if not groups:
                raise ValueError(f"{pattern!r} captures nothing. Put parentheses around the group, such as (.+)_\\d+")
        return pattern

    @model_validator(mode="after")
    def _has_one_meaning(self) -> Self:
        chosen = [way for way in WAYS if getattr(self, way)]
        if len(chosen) > 1:
            raise ValueError(f"{' and '.join(chosen)} exclude each other. Keep one of them")
        if (self.seconds is None) != (self.frame_rate is None):
            raise ValueError("seconds and frame_rate need each other. Set both, or block alone")
        if self.block is not None and self.seconds is not None:
            raise ValueError("block and seconds exclude each other. Keep one of them")
        return self

    @property
    def block_length(self) -> int | None:
        """Number of images in a block; None if groups are not cut."""
        if self.seconds is None or self.frame_rate is None:
            return self.block
        return max(1, round(self.seconds * self.frame_rate))


class Grouping:
    """Finds the group of each image of a source.

    Args:
        settings: the section `groups`.
        key: the section's name, for error messages, such as "data.coco.groups".
        root: the folder that holds the files.
        preset: the pattern that applies if the settings name no way; None: there is none.
        trust_paths: whether a CSV file outside `root` is accepted.
    """

    def __init__(
        self, settings: GroupSettings, key: str, root: Path, preset: str | None, *, trust_paths: bool = True
    ) -> None:
        self.key = key
        self.block = settings.block_length
        self._settings = settings
        self._root = root
        self._preset = preset
        self._trust_paths = trust_paths

    def videos(self, ids: Mapping[Path, str], fields: Mapping[Path, str]) -> dict[Path, str]:
        """The group of each image file that has one, not cut into blocks; empty if nothing says which there are.

        Args:
            ids: the id of each image file, within its split of the files.
            fields: the value of `field` of each image file that has it.

        Raises:
            DatasetError: the CSV file cannot be read, images have no group, or the pattern fits no id.
        """
        settings = self._settings
        if settings.pattern is not None:
            videos = _matches(settings.pattern, ids)
            if ids and not videos:
                raise DatasetError(
                    f"{self.key}.pattern: {settings.pattern!r} matches none of {len(ids)} ids, such as "
                    f"{next(iter(ids.values()))!r}. Correct it, or set {self.key} to null"
                )
            return videos
        if settings.folder:
            return {path: os.path.relpath(path.parent, self._root).replace(os.sep, "/") for path in ids}
        if settings.field is not None:
            self._check_all("field", ids, fields, f"have no {settings.field!r} that is a number or a text")
            return {path: fields[path] for path in ids}
        if settings.file is not None:
            table = self._table(settings.file)
            videos = {path: table[image_id] for path, image_id in ids.items() if image_id in table}
            self._check_all("file", ids, videos, f"are not in {settings.file}")
            return videos
        return {} if self._preset is None else _matches(self._preset, ids)

    def _check_all(self, way: str, ids: Mapping[Path, str], groups: Mapping[Path, str], what: str) -> None:
        without = [image_id for path, image_id in ids.items() if path not in groups]
        if without:
            raise DatasetError(
                f"{self.key}.{way}: {len(without)} of {len(ids)} images {what}; the first id is {without[0]!r}. "
                "Give each image a group"
            )

    def _table(self, name: str) -> dict[str, str]:
        """The group of each id in the CSV file."""
        path = self._root / name
        place = f"{self.key}.file: {str(path)!r}"
        try:
            is_below = Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self._root))
            if not self._trust_paths and not is_below:
                raise OSError("it is not below data.root, and data.trust_paths is false")
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows = [(number, row) for number, row in enumerate(csv.reader(file), start=1) if any(row)]
        except (OSError, ValueError, csv.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise DatasetError(f"{place}: cannot be read ({reason}). Name a CSV file of id,group below root") from error
        groups: dict[str, str] = {}
        for number, row in rows:
            cells = [cell.strip() for cell in row]
            if len(cells) != COLUMNS or not all(cells):
                raise DatasetError(f"{place}: row {number}: expected id,group, got {','.join(row)[:60]!r}. Correct it")
            image_id, group = cells
            if number == rows[0][0] and image_id.lower() == HEADER:
                continue
            if groups.setdefault(image_id, group) != group:
                raise DatasetError(
                    f"{place}: row {number}: {image_id!r} is in the groups {groups[image_id]!r} and {group!r}. Keep one"
                )
        return groups


def cut_into_blocks(videos: Mapping[str, str], block: int | None) -> dict[str, str]:
    """The group of each id, cut into blocks of neighbouring images: "drive" becomes "drive:0", "drive:1", ...

    Images are ordered by id, numbers in ids by their value. The last block of a group can be shorter.

    Args:
        videos: the group of each id.
        block: number of images in a block; None: the groups stay whole.
    """
    if block is None:
        return dict(videos)
    position: Counter[str] = Counter()
    blocks: dict[str, str] = {}
    for image_id in sorted(videos, key=_natural_order):
        video = videos[image_id]
        blocks[image_id] = f"{video}:{position[video] // block}"
        position[video] += 1
    return blocks


def _natural_order(image_id: str) -> tuple[list[str | int], str]:
    parts = re.split(r"([0-9]+)", image_id)  # text and numbers take turns
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], image_id


def _matches(pattern: str, ids: Mapping[Path, str]) -> dict[Path, str]:
    compiled = re.compile(pattern)
    found = {path: compiled.fullmatch(image_id) for path, image_id in ids.items()}
    return {path: match[1] for path, match in found.items() if match is not None and match[1] is not None}
