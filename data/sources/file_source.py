"""What all sources of outside data have in common; a format adds how its files are found and its labels read."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from ..images import SMALLEST_SIDE, ImageError, read_photo
from ..samples import Fault, FaultError, Sample
from .splits import Found, Listing, find_strays, make_listing

Array = TypeVar("Array")


class Outside(ABC):
    """A source of outside data.

    A file that is an 8-bit RGB PNG already is copied byte for byte (blocks shared where the file system can);
    others are decoded and written as PNG. The originals are only ever read.

    Args:
        root: the folder that the data lie in.
        settings: the format's own, and for all formats `name`; `split`, shares by split to draw the splits anew, or
            None to take the given ones; `map`, the classes by name (`data.sources.class_map`); `limit`, at most so
            many images for each split, evenly spaced; and `trust_paths`: if it is false, images and labels that lie
            outside `root`, by a name in a list or by a link, are faults.
        seed: of the drawn splits.
    """

    key: ClassVar[str]

    def __init__(self, root: Path, settings: Mapping[str, Any], seed: int) -> None:
        self.root = root
        self.settings = settings
        self.seed = seed
        self.name: str = settings["name"]
        self.classes: dict[str, list[str]] = {}
        self.description: dict[str, Any] = {
            "source": self.key.removeprefix("data."),
            "limit": dict(settings.get("limit", {})),
        }
        if settings.get("split"):
            self.description["split"] = dict(settings["split"])

    def split_ids(self) -> dict[str, list[str]]:
        """The ids of every split, in a fixed order.

        Raises:
            DatasetError: the folder does not have the format's layout at all.
        """
        return {split: list(entries) for split, entries in self._listing.splits.items()}

    def faults(self) -> list[Fault]:
        """What is wrong with the files' names and lists; the images concerned are not among the ids."""
        return list(self._listing.faults)

    def part(self, split: str, ids: Sequence[str]) -> Self:
        """The source with the samples of these ids alone."""
        small = copy.copy(self)
        entries = self._listing.splits[split]
        small._listing = Listing({split: {id: entries[id] for id in ids}}, ())
        return small

    def sample(self, split: str, id: str) -> Sample:
        """Read one image and its labels; a pure function of the files.

        Raises:
            FaultError: they cannot be used; it carries all that is wrong with them.
        """
        found = self._listing.splits[split][id]
        faults: list[Fault] = []
        photo = self.attempt(faults, found.image, "unreadable image", lambda: read_photo(found.image, self.size(found)))
        if photo is None:
            raise FaultError(faults)
        height, width = photo.pixels.shape[:2]
        if min(height, width) < SMALLEST_SIDE:
            text = f"image too small: {width} x {height}; expected {SMALLEST_SIDE} x {SMALLEST_SIDE} pixels or more"
            faults.append(Fault(str(found.image), text))
        labels = self.label(found, (height, width), faults)
        if faults:
            raise FaultError(faults)
        return Sample(
            id=id,
            split=split,
            image=photo.pixels,
            file=found.image if photo.reusable else None,
            conversions=tuple(Fault(str(found.image), text, converted=True) for text in photo.conversions),
            **labels,
        )

    @abstractmethod
    def find(self, faults: list[Fault]) -> Mapping[str, Sequence[Found]]:
        """The images by split, or all under "all"; what is wrong is added to `faults`."""

    @abstractmethod
    def size(self, found: Found) -> tuple[int, int] | None:
        """(width, height) that the labels of an image were drawn for; None: those of the image turned upright."""

    @abstractmethod
    def label(self, found: Found, shape: tuple[int, int], faults: list[Fault]) -> dict[str, Any]:
        """The fields of `Sample` other than the image, of (height, width) `shape`."""

    def attempt(self, faults: list[Fault], file: Path, kind: str, read: Callable[[], Array]) -> Array | None:
        """Read a file; one that cannot be read becomes a fault."""
        try:
            return read()
        except ImageError as error:
            faults.append(Fault(str(file), f"{kind}: {str(error).removeprefix(f'{file}: ')}"))
            return None

    @cached_property
    def _listing(self) -> Listing:
        faults: list[Fault] = []
        found = self.find(faults)
        if not self.settings.get("trust_paths", True):
            found = find_strays(self.root, found, faults)
        return make_listing(found, self.settings, self.key, self.seed, faults)
