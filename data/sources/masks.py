"""Photos with class masks, in the layout of CamVid, Cityscapes or ACDC, or in any other layout of folders.

Detection boxes come from the masks: every 8-connected component of a class in `things` becomes one box. Objects that
touch therefore count as one, and objects cut in two count as two. dataset.json says so.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..images import ImageError
from ..labels import IGNORE_INDEX, DatasetError
from ..photos import is_picture_name, read_indices, read_photo, stored_size
from ..samples import Fault
from ..settings import Count
from .class_map import ClassMap
from .file_source import FileSettings, FileSource
from .files import visible_files
from .mask_layouts import GROUP_PATTERNS, LAYOUTS, Layout, NameOrFolders, pairs, split_folders, usual_folder
from .paths import ImageEntry
from .splits import UNDIVIDED

JPEG = {".jfif", ".jpe", ".jpeg", ".jpg"}
UNKNOWN = 256  # codes from here on are not indices of classes
Index = Annotated[int, Field(ge=0, le=255)]
Colour = Annotated[list[Index], Field(min_length=3, max_length=3)]


class Settings(FileSettings):
    """The section data.masks.

    Attributes:
        classes: the source's class names in index order.
        ignored: indices in the masks without a class.
        things: the classes whose connected components become boxes.
        min_pixels: number of pixels of the smallest component that becomes a box.
        layout: the name of a layout, or the fields of `Layout`.
        labels: the kind of masks to read from Cityscapes or ACDC.
        conditions: the conditions to read from ACDC, such as fog.
        colours: RGB colour of each class, for masks with colours instead of indices.
        ignored_colours: colours without a class.
        rest: the class of pixels whose class `map` drops; None ignores these pixels.
    """

    classes: Annotated[list[str], Field(min_length=1, max_length=255)]
    ignored: tuple[Index, ...] = ()
    things: list[str]
    min_pixels: Count
    layout: NameOrFolders = "camvid"
    labels: Literal["labelIds", "labelTrainIds"] = "labelTrainIds"
    conditions: list[str] | None = None
    colours: dict[str, Colour] | None = None
    ignored_colours: tuple[Colour, ...] = ()
    rest: str | None = None


class Masks(FileSource):
    """Images and masks with matching names. Masks hold class indices or colours.

    A mask has its image's name, or the only one that differs from it in case or percent-encoding alone. Three equal
    channels of a mask count as one channel of indices.

    Args:
        root: the folder that the layout's folders are relative to; splits may be missing.
        settings: `Settings`, or a section of params.yaml that is checked against them.
        seed: of the drawn splits.
        options: `trust_paths`, as of `FileSource`.

    Raises:
        DatasetError: there is no folder of a split, or a class name is not valid.
    """

    key = "data.masks"
    settings_type = Settings
    settings: Settings

    def __init__(self, root: Path, settings: Mapping[str, Any] | FileSettings, seed: int, **options: Any) -> None:
        super().__init__(root, settings, seed, **options)
        self._map = ClassMap(self.key, self.settings.classes, self.settings.map, self.settings.rest)
        self._things = self.settings.things
        self.classes = {"detection": self._things, "segmentation": self._map.pixels}
        self.description["boxes"] = f"8-connected components of at least {self.settings.min_pixels} pixels"
        unknown = set(self._things) - set(self._map.pixels)
        if unknown:
            raise DatasetError(
                f"data.masks.things: there is no class {', '.join(sorted(unknown))}. "
                f"Choose from {', '.join(self._map.pixels)}"
            )
        self._table = self._map.table(self.settings.classes)
        self._table[list(self.settings.ignored)] = IGNORE_INDEX
        self._colours = _colours(self.settings)

    def find(self, faults: list[Fault]) -> Mapping[str, Sequence[ImageEntry]]:
        chosen = self.settings.layout
        layout = LAYOUTS[chosen] if isinstance(chosen, str) else chosen
        entries: dict[str, list[ImageEntry]] = {}
        for split in layout.splits if "{split}" in layout.images else (UNDIVIDED,):
            for condition in self._conditions(layout):
                masks = split_folders(self.root, layout.masks, split, condition)
                for spelling, pictures in split_folders(self.root, layout.images, split, condition).items():
                    usual = usual_folder(self.root, layout.masks, spelling, condition)
                    place = masks.get(spelling, next(iter(masks.values()), usual))
                    found = pairs(pictures, place, layout.image_ending, self._mask_ending(layout), faults)
                    entries.setdefault(split, []).extend(found)
                    if isinstance(chosen, str):  # the other masks of a known layout
                        self.known.extend(path for path in visible_files(place) if is_picture_name(path.name))
        if not entries:
            folders = [usual_folder(self.root, layout.images, split, "<condition>") for split in layout.splits]
            places = ", ".join(str(folder) for folder in dict.fromkeys(folders))
            raise DatasetError(
                f"{self.root}: none of the folders {places} exists. Correct data.root or data.masks.layout"
            )
        return entries

    def _mask_ending(self, layout: Layout) -> str:
        return layout.mask_ending.format(labels=self.settings.labels)

    def group_pattern(self) -> str | None:
        layout = self.settings.layout
        return GROUP_PATTERNS[layout] if isinstance(layout, str) else None

    def size(self, entry: ImageEntry) -> tuple[int, int] | None:
        return stored_size(entry.labels)

    def label(self, entry: ImageEntry, shape: tuple[int, int], faults: list[Fault]) -> dict[str, Any]:
        codes = self.attempt(faults, entry.labels, "unreadable mask", lambda: self._codes(entry.labels))
        if codes is None:
            return {}
        if codes.shape != shape:
            text = f"size differs: mask of {codes.shape[1]} x {codes.shape[0]}, image of {shape[1]} x {shape[0]}"
            faults.append(Fault(str(entry.labels), text))
            return {}
        strange = np.setdiff1d(codes, self._known())
        if strange.size:
            faults.append(Fault(str(entry.labels), self._strange(entry.labels, codes, strange)))
            return {}
        mask = self._table[codes]
        return {"mask": mask, "boxes": self._boxes(mask)}

    def _conditions(self, layout: Layout) -> list[str]:
        if "{condition}" not in layout.images:
            return [""]
        conditions = self.settings.conditions
        if not conditions:
            raise DatasetError(
                "data.masks.conditions: this layout needs them. List the conditions to read, such as [fog]"
            )
        for condition in conditions:
            if not any(split_folders(self.root, layout.images, split, condition) for split in layout.splits):
                folder = usual_folder(self.root, layout.images, layout.splits[0], condition)
                raise DatasetError(f"{folder}: no such folder. Correct data.masks.conditions")
        return conditions

    def _codes(self, path: Path) -> NDArray[np.integer]:
        """Read a mask as indices (H, W) into `_table`; values from `UNKNOWN` on are not in the table."""
        if self._colours is None:
            return self._indices(path)
        packed = _packed(read_photo(path, exif="stored").pixels)
        order = np.argsort(self._colours)
        place = np.searchsorted(self._colours, packed, sorter=order).clip(max=len(order) - 1)
        nearest = order[place]
        known = self._colours[nearest] == packed
        ignored = nearest >= len(self.settings.classes)
        return np.where(known, np.where(ignored, IGNORE_INDEX, nearest), UNKNOWN + packed)

    def _indices(self, path: Path) -> NDArray[np.uint8]:
        try:
            return read_indices(path)
        except ImageError as error:
            hint = f"; list the colours of the classes in {self.key}.colours" if " got RGB" in str(error) else ""
            raise ImageError(f"{error}{hint}") from error

    def _known(self) -> list[int]:
        listed = range(len(self.settings.classes))
        ignored = self.settings.ignored if self._colours is None else [IGNORE_INDEX]
        return sorted({*listed, *ignored})

    def _strange(self, path: Path, codes: NDArray[np.integer], strange: NDArray[np.integer]) -> str:
        code, pixels, hint = int(strange[0]), int(np.isin(codes, strange).sum()), ""
        names = self.settings.classes
        if self._colours is None:
            what = f"index {code} is neither one of the {len(names)} classes nor in data.masks.ignored"
            if len(np.unique(codes)) <= len(names):
                colour = f"{{{names[-1]}: [{code}, {code}, {code}]}}"
                hint = f"; if values stand for classes, list them in data.masks.colours, such as {colour}"
        else:
            red, green, blue = (code - UNKNOWN) >> 16, (code - UNKNOWN) >> 8 & 255, (code - UNKNOWN) & 255
            what = f"colour [{red}, {green}, {blue}] is in neither data.masks.colours nor ignored_colours"
        if path.suffix.lower() in JPEG:
            hint = "; JPEG changes the values of a mask, so use PNG"
        return f"class out of range: {what} ({pixels} pixels, {strange.size} different){hint}"

    def _boxes(self, mask: NDArray[np.uint8]) -> NDArray[np.float64]:
        height, width = mask.shape
        rows = []
        for thing, name in enumerate(self._things):
            chosen = (mask == self._map.pixels.index(name)).astype(np.uint8)
            _, _, stats, _ = cv2.connectedComponentsWithStats(chosen, connectivity=8)
            for left, top, w, h, area in stats[1:]:
                if area >= self.settings.min_pixels:
                    rows.append((thing, (left + w / 2) / width, (top + h / 2) / height, w / width, h / height))
        return np.array(rows, dtype=np.float64).reshape(-1, 5)


def _colours(settings: Settings) -> NDArray[np.int64] | None:
    """Packed colours of the classes in index order, then the ignored colours; None for masks of indices."""
    table = settings.colours
    if table is None:
        return None
    different = set(table) ^ set(settings.classes)
    if different:
        raise DatasetError(
            f"data.masks.colours: differs from data.masks.classes in {', '.join(sorted(different))}. "
            "Give each class a colour"
        )
    listed = [table[name] for name in settings.classes] + list(settings.ignored_colours)
    packed = _packed(np.array(listed))
    if len(set(packed.tolist())) < len(listed):
        raise DatasetError(
            "data.masks.colours: two entries have the same colour. Give each class and ignored colour its own"
        )
    return packed


def _packed(colours: NDArray[np.integer]) -> NDArray[np.int64]:
    red, green, blue = np.moveaxis(colours.astype(np.int64), -1, 0)
    return np.asarray(red << 16 | green << 8 | blue)
