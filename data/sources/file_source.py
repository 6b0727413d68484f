"""The base class of sources that read files. A format adds how to find its files and read its labels."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from pydantic import Field, field_validator

from ..images import SMALLEST_SIDE, ImageError
from ..labels import DatasetError
from ..photos import ALL_LEVELS, Exif, read_photo
from ..samples import Fault, FaultError, Sample
from ..settings import Count, NonNegative, Settings, SettingsError, Share, SplitName
from .files import left_over
from .groups import Grouping, GroupSettings
from .paths import ImageEntry, files_of, trusted_only
from .splits import Listing, list_images, refuse_to_join

Content = TypeVar("Content")


class FileSettings(Settings):
    """The settings that all sources that read files share.

    Attributes:
        name: the name of the dataset.
        split: share of the images by split, to draw the splits; None keeps the splits of the files.
        map: the class map (`data.sources.class_map`); None keeps all classes.
        limit: largest number of images by split; the images kept are evenly spaced.
        groups: which images belong together (`data.sources.groups`); None: all images are independent.
        exif: the pixels that the labels belong to (`data.photos.read_photo`): "upright", "stored", or those that have
            the size which is given with the labels.
        levels: the values of 16-bit images that become 0 and 255.
    """

    name: str
    split: dict[SplitName, Share] | None = None
    map: dict[str, list[str]] | list[str | dict[str, list[str]]] | None = None
    limit: dict[SplitName, Count | None] = Field(default={})
    groups: GroupSettings | None = GroupSettings()
    exif: Exif = "size"
    levels: tuple[NonNegative, NonNegative] = ALL_LEVELS

    has_fields: ClassVar[bool] = False  # whether `groups.field` can be read

    @field_validator("split")
    @classmethod
    def _adds_up(cls, shares: dict[str, float] | None) -> dict[str, float] | None:
        if shares is not None:
            if abs(sum(shares.values()) - 1) > 1e-6:
                raise ValueError(f"the shares add up to {sum(shares.values()):g}. Make them add up to 1")
            if not shares.get("train") or not (shares.get("val") or shares.get("test")):
                raise ValueError("train and val or test need a share")
        return shares

    @field_validator("levels")
    @classmethod
    def _is_a_range(cls, levels: tuple[int, int]) -> tuple[int, int]:
        if not levels[0] < levels[1] <= ALL_LEVELS[1]:
            raise ValueError(f"expected two values of 0 to {ALL_LEVELS[1]}, the lower one first, got {list(levels)}")
        return levels

    @field_validator("groups")
    @classmethod
    def _has_field(cls, groups: GroupSettings | None) -> GroupSettings | None:
        if groups is not None and groups.field is not None and not cls.has_fields:
            raise ValueError("field: only the source coco has fields. Use pattern, folder or file")
        return groups


class FileSource(ABC):
    """A source that reads files. The original files are never written.

    8-bit RGB PNG files are copied byte for byte; other images are decoded and written as PNG.

    Args:
        root: the folder that holds the files.
        settings: the format's settings, or a section of params.yaml that is checked against them.
        seed: seed of the drawn splits.
        trust_paths: whether images and labels outside `root`, named in a list or reached by a link, are accepted;
            otherwise they are faults.
        read_yaml: reads a YAML file; only some formats need it.

    Raises:
        DatasetError: a setting is not valid.
    """

    key: ClassVar[str]  # the section of params.yaml, for error messages
    settings_type: ClassVar[type[FileSettings]]

    def __init__(
        self,
        root: Path,
        settings: Mapping[str, Any] | Settings,
        seed: int,
        *,
        trust_paths: bool = True,
        read_yaml: Callable[[Path], Any] | None = None,
    ) -> None:
        try:
            self.settings = self.settings_type.read(settings, self.key)
        except SettingsError as error:
            raise DatasetError(str(error)) from error
        self.root = root
        self.seed = seed
        self.trust_paths = trust_paths
        self.known: list[Path] = []  # files that `find` read beside images and labels; folders that it dealt with
        self.name = self.settings.name
        self.classes: dict[str, list[str]] = {}
        self.description: dict[str, Any] = {
            "source": self.key.removeprefix("data."),
            "limit": dict(self.settings.limit),
        }
        if self.settings.exif == "stored":
            self.description["exif"] = "stored"
        if self.settings.split:
            self.description["split"] = dict(self.settings.split)
        groups = self.settings.groups
        if groups is not None and groups.model_fields_set:
            self.description["groups"] = groups.model_dump(exclude_defaults=True)

    def split_ids(self) -> dict[str, list[str]]:
        """The ids of every split, in a fixed order.

        Raises:
            DatasetError: the folder does not have the format's layout.
        """
        return {split: list(entries) for split, entries in self._listing.splits.items()}

    def faults(self) -> list[Fault]:
        """The faults in names and lists of files; the images concerned are not among the ids."""
        return [fault for fault in self._listing.faults if fault.is_bad]

    def notes(self) -> list[Fault]:
        """The files that are not read, and repeated entries, which concern no image."""
        return [fault for fault in self._listing.faults if not fault.is_bad]

    def groups(self) -> dict[str, dict[str, str]]:
        """For each split the group of each image id that has one."""
        return {split: dict(groups) for split, groups in self._listing.groups.items() if groups}

    def divided_groups(self) -> dict[str, list[str]]:
        """The groups with images in several splits of the files, and these splits."""
        return dict(self._listing.divided)

    def part(self, split: str, ids: Sequence[str]) -> Self:
        """A copy of the source that knows these samples only."""
        small = copy.copy(self)
        small.known = []
        entries = self._listing.splits[split]
        small._listing = Listing({split: {image_id: entries[image_id] for image_id in ids}}, ())
        return small

    def sample(self, split: str, image_id: str) -> Sample:
        """Read one image and its labels; a pure function of the files.

        Raises:
            FaultError: they cannot be used; the error holds all of their faults.
        """
        entry = self._listing.splits[split][image_id]
        faults: list[Fault] = []
        settings = self.settings
        photo = self.attempt(
            faults,
            entry.image,
            "unreadable image",
            lambda: read_photo(entry.image, self.size(entry), settings.exif, settings.levels),
        )
        if photo is None:
            raise FaultError(faults)
        height, width = photo.pixels.shape[:2]
        if min(height, width) < SMALLEST_SIDE:
            text = f"image too small: {width} x {height}; expected {SMALLEST_SIDE} x {SMALLEST_SIDE} pixels or more"
            faults.append(Fault(str(entry.image), text))
        labels = self.label(entry, (height, width), faults)
        if any("rotated by EXIF" in text for text in photo.conversions):
            faults = [replace(fault, fault=self._doubting_exif(fault.fault)) for fault in faults]
        conversions = [text.format(key=self.key) for text in photo.conversions]
        sample = Sample(
            id=image_id,
            split=split,
            image=photo.pixels,
            file=entry.image if photo.reusable else None,
            conversions=tuple(Fault(str(entry.image), text, "converted") for text in conversions),
            origin=entry.image,
            **labels,
        )
        if faults:
            raise FaultError(faults, sample if all(fault.effect == "label" for fault in faults) else None)
        return sample

    @abstractmethod
    def find(self, faults: list[Fault]) -> Mapping[str, Sequence[ImageEntry]]:
        """The images by split, or under the key "all" if the format has no splits. Faults are added to `faults`."""

    def fits(self, size: tuple[int, int] | None, shape: tuple[int, int]) -> bool:
        """Whether labels made for (width, height) `size` fit an image of (height, width) `shape`.

        If the settings say how images are turned, the size can be that of the image before.
        """
        turned = [(shape[1], shape[0])] if self.settings.exif == "size" else [(shape[1], shape[0]), shape]
        return size is None or size in turned

    @abstractmethod
    def size(self, entry: ImageEntry) -> tuple[int, int] | None:
        """(width, height) in pixels that an image's labels were made for; None: the size after its EXIF rotation."""

    @abstractmethod
    def label(self, entry: ImageEntry, shape: tuple[int, int], faults: list[Fault]) -> dict[str, Any]:
        """The label fields of `Sample`. `shape` is (height, width) of the image; faults are added to `faults`."""

    def join(self, labels: Sequence[Any]) -> Any:
        """One value for the different labels of several entries of one image file.

        Raises:
            LabelError: they cannot be joined.
        """
        return refuse_to_join(labels)

    def _doubting_exif(self, fault: str) -> str:
        """The text of a fault in an image with an EXIF rotation."""
        if "outside the image" not in fault:
            return fault
        return f"{fault}; EXIF rotates the image: set {self.key}.exif to upright or stored, as the labels are"

    def group_pattern(self) -> str | None:
        """The pattern of groups that applies if the settings name no other way; None: there is none."""
        return None

    def attempt(self, faults: list[Fault], file: Path, kind: str, read: Callable[[], Content]) -> Content | None:
        """The content of a file; None, with a fault added, if it cannot be read."""
        try:
            return read()
        except ImageError as error:
            faults.append(Fault(str(file), f"{kind}: {str(error).removeprefix(f'{file}: ')}"))
            return None

    @cached_property
    def _listing(self) -> Listing:
        faults: list[Fault] = []
        entries = self.find(faults)
        read = [path for listed in entries.values() for entry in listed for path in files_of(entry)]
        faults.extend(left_over(self.root, [*read, *self.known, *(Path(fault.file) for fault in faults)]))
        if not self.trust_paths:
            entries = trusted_only(self.root, entries, faults)
        settings, pattern = self.settings, self.group_pattern()
        grouping = None
        if settings.groups is not None and (pattern or settings.groups != GroupSettings()):
            key = f"{self.key}.groups"
            grouping = Grouping(settings.groups, key, self.root, pattern, trust_paths=self.trust_paths)
        return list_images(entries, settings.split, settings.limit, self.key, self.seed, faults, grouping, self.join)
