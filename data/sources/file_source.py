"""The base class of sources that read files. A format adds how to find its files and read its labels."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from pydantic import Field, field_validator

from ..images import SMALLEST_SIDE, ImageError, read_photo
from ..labels import DatasetError
from ..samples import Fault, FaultError, Sample
from ..settings import Count, Settings, SettingsError, Share, SplitName
from .splits import ImageEntry, Listing, list_images, trusted_only

Content = TypeVar("Content")


class FileSettings(Settings):
    """The settings that all sources that read files share.

    Attributes:
        name: the name of the dataset.
        split: share of the images by split, to draw the splits; None keeps the splits of the files.
        map: the class map (`data.sources.class_map`); None keeps all classes.
        limit: largest number of images by split; the images kept are evenly spaced.
    """

    name: str
    split: dict[SplitName, Share] | None = None
    map: dict[str, list[str]] | list[str | dict[str, list[str]]] | None = None
    limit: dict[SplitName, Count | None] = Field(default={})

    @field_validator("split")
    @classmethod
    def _adds_up(cls, shares: dict[str, float] | None) -> dict[str, float] | None:
        if shares is not None:
            if abs(sum(shares.values()) - 1) > 1e-6:
                raise ValueError(f"the shares add up to {sum(shares.values()):g}. Make them add up to 1")
            if not shares.get("train") or not (shares.get("val") or shares.get("test")):
                raise ValueError("train and val or test need a share")
        return shares


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
        self.name = self.settings.name
        self.classes: dict[str, list[str]] = {}
        self.description: dict[str, Any] = {
            "source": self.key.removeprefix("data."),
            "limit": dict(self.settings.limit),
        }
        if self.settings.split:
            self.description["split"] = dict(self.settings.split)

    def split_ids(self) -> dict[str, list[str]]:
        """The ids of every split, in a fixed order.

        Raises:
            DatasetError: the folder does not have the format's layout.
        """
        return {split: list(entries) for split, entries in self._listing.splits.items()}

    def faults(self) -> list[Fault]:
        """The faults in names and lists of files; the images concerned are not among the ids."""
        return list(self._listing.faults)

    def part(self, split: str, ids: Sequence[str]) -> Self:
        """A copy of the source that knows these samples only."""
        small = copy.copy(self)
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
        photo = self.attempt(faults, entry.image, "unreadable image", lambda: read_photo(entry.image, self.size(entry)))
        if photo is None:
            raise FaultError(faults)
        height, width = photo.pixels.shape[:2]
        if min(height, width) < SMALLEST_SIDE:
            text = f"image too small: {width} x {height}; expected {SMALLEST_SIDE} x {SMALLEST_SIDE} pixels or more"
            faults.append(Fault(str(entry.image), text))
        labels = self.label(entry, (height, width), faults)
        if faults:
            raise FaultError(faults)
        return Sample(
            id=image_id,
            split=split,
            image=photo.pixels,
            file=entry.image if photo.reusable else None,
            conversions=tuple(Fault(str(entry.image), text, converted=True) for text in photo.conversions),
            **labels,
        )

    @abstractmethod
    def find(self, faults: list[Fault]) -> Mapping[str, Sequence[ImageEntry]]:
        """The images by split, or under the key "all" if the format has no splits. Faults are added to `faults`."""

    @abstractmethod
    def size(self, entry: ImageEntry) -> tuple[int, int] | None:
        """(width, height) in pixels that an image's labels were made for; None: the size after its EXIF rotation."""

    @abstractmethod
    def label(self, entry: ImageEntry, shape: tuple[int, int], faults: list[Fault]) -> dict[str, Any]:
        """The label fields of `Sample`. `shape` is (height, width) of the image; faults are added to `faults`."""

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
        if not self.trust_paths:
            entries = trusted_only(self.root, entries, faults)
        return list_images(entries, self.settings.split, self.settings.limit, self.key, self.seed, faults)
