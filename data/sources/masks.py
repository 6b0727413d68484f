"""Photos with class masks, in the layout of CamVid, Cityscapes or ACDC, or in any other layout of folders.

Detection boxes come from the masks: every 8-connected component of a class in `things` becomes one box. Objects that
touch therefore count as one, and objects cut in two count as two. dataset.json says so.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Discriminator, Field, Tag

from .. import images
from ..labels import IGNORE_INDEX, DatasetError
from ..samples import Fault
from ..settings import Count, SplitName
from ..settings import Settings as BaseSettings
from .class_map import ClassMap
from .file_source import FileSettings, FileSource
from .splits import SPLITS, UNDIVIDED, ImageEntry

SUFFIXES = {".png", ".jpg", ".jpeg"}
UNKNOWN = 256  # codes from here on are not indices of classes
Index = Annotated[int, Field(ge=0, le=255)]
Colour = Annotated[list[Index], Field(min_length=3, max_length=3)]


def _placeholders(*names: str) -> AfterValidator:
    """A validator of strings whose placeholders in braces have these names only."""

    def check(text: str) -> str:
        known = " and ".join(f"{{{name}}}" for name in names)
        refusal = ValueError(f"{text!r}: unknown placeholder. Use {known} only")
        try:
            parts = list(Formatter().parse(text))
        except ValueError as error:
            raise refusal from error
        # str.format also accepts {split.x}, {split!r} and {split:9}, which make no sense here.
        if any(name is not None and (name not in names or spec or conversion) for _, name, spec, conversion in parts):
            raise refusal
        return text

    return AfterValidator(check)


class Layout(BaseSettings):
    """Where images and masks lie.

    Attributes:
        images: folder of the images below the root; {split} and {condition} are filled in. Without {split} the splits
            are drawn.
        masks: folder of the masks, likewise.
        image_ending: the end of an image's file name after the part that it shares with its mask; "" for any suffix.
        mask_ending: the end of a mask's file name; {labels} is filled in.
        splits: the splits that have masks.
    """

    images: Annotated[str, _placeholders("split", "condition")]
    masks: Annotated[str, _placeholders("split", "condition")]
    image_ending: str
    mask_ending: Annotated[str, _placeholders("labels")]
    splits: tuple[SplitName, ...] = SPLITS


LAYOUTS = {
    "camvid": Layout(images="{split}", masks="{split}annot", image_ending="", mask_ending=".png"),
    # The masks of the test splits of Cityscapes and ACDC are not public.
    "cityscapes": Layout(
        images="leftImg8bit/{split}",
        masks="gtFine/{split}",
        image_ending="_leftImg8bit.png",
        mask_ending="_gtFine_{labels}.png",
        splits=("train", "val"),
    ),
    "acdc": Layout(
        images="rgb_anon/{condition}/{split}",
        masks="gt/{condition}/{split}",
        image_ending="_rgb_anon.png",
        mask_ending="_gt_{labels}.png",
        splits=("train", "val"),
    ),
}

# The recording in the ids of these datasets; ids begin with folders if images lie in several.
GROUP_PATTERNS = {
    "camvid": r"(?:.*__)?(\d{4}[A-Z][A-Z\d]|Seq\d{2}VD)_f?\d+",  # 0001TP_006690, Seq05VD_f05100
    "cityscapes": r"(?:.*__)?([A-Za-z-]+_\d+)_\d+_leftImg8bit",  # aachen_000000_000019: city, sequence, frame
    "acdc": r"(?:.*__)?([A-Z0-9]+)_frame_\d+_rgb_anon",  # GOPR0475_frame_000041
}

# The discriminator keeps pydantic from reporting a mistake in `folders` as a mistake in `name` too.
NameOrFolders = Annotated[
    Annotated[Literal["camvid", "cityscapes", "acdc"], Tag("name")] | Annotated[Layout, Tag("folders")],
    Discriminator(lambda value: "folders" if isinstance(value, dict | Layout) else "name"),
]


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

    The tools of these formats ignore EXIF rotation. Images are read as stored, unless only the rotated image has the
    size of its mask.

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
                pictures = self._folder(layout.images, split, condition)
                masks = self._folder(layout.masks, split, condition)
                if pictures.is_dir():
                    entries.setdefault(split, []).extend(self._pairs(pictures, masks, layout, faults))
        if not entries:
            folders = [self._folder(layout.images, split, "<condition>") for split in layout.splits]
            places = ", ".join(str(folder) for folder in dict.fromkeys(folders))
            raise DatasetError(
                f"{self.root}: none of the folders {places} exists. Correct data.root or data.masks.layout"
            )
        return entries

    def group_pattern(self) -> str | None:
        layout = self.settings.layout
        return GROUP_PATTERNS[layout] if isinstance(layout, str) else None

    def size(self, entry: ImageEntry) -> tuple[int, int] | None:
        return images.stored_size(entry.labels)

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
            faults.append(Fault(str(entry.labels), self._strange(codes, strange)))
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
            if not any(self._folder(layout.images, split, condition).is_dir() for split in layout.splits):
                folder = self._folder(layout.images, layout.splits[0], condition)
                raise DatasetError(f"{folder}: no such folder. Correct data.masks.conditions")
        return conditions

    def _folder(self, pattern: str, split: str, condition: str) -> Path:
        return self.root / pattern.format(split=split, condition=condition)

    def _pairs(self, pictures: Path, masks: Path, layout: Layout, faults: list[Fault]) -> Iterator[ImageEntry]:
        ending = layout.mask_ending.format(labels=self.settings.labels)
        used = set()
        for image in sorted(path for path in pictures.rglob("*") if path.suffix.lower() in SUFFIXES):
            name = image.name if layout.image_ending else image.stem
            if not name.endswith(layout.image_ending):
                continue
            shared = name.removesuffix(layout.image_ending)
            mask = masks / image.parent.relative_to(pictures) / f"{shared}{ending}"
            used.add(mask)
            if mask.exists():
                yield ImageEntry(image, mask)
            else:
                faults.append(Fault(str(image), f"image without label: {mask} is missing"))
        strays = [path for path in masks.rglob(f"*{ending}") if path not in used] if masks.is_dir() else []
        faults += [Fault(str(path), f"label without image: none of its name in {pictures}") for path in sorted(strays)]

    def _codes(self, path: Path) -> NDArray[np.integer]:
        """Read a mask as indices (H, W) into `_table`; values from `UNKNOWN` on are not in the table."""
        if self._colours is None:
            return images.read_indices(path)
        packed = _packed(images.read_photo(path, images.stored_size(path)).pixels)
        order = np.argsort(self._colours)
        place = np.searchsorted(self._colours, packed, sorter=order).clip(max=len(order) - 1)
        nearest = order[place]
        known = self._colours[nearest] == packed
        ignored = nearest >= len(self.settings.classes)
        return np.where(known, np.where(ignored, IGNORE_INDEX, nearest), UNKNOWN + packed)

    def _known(self) -> list[int]:
        listed = range(len(self.settings.classes))
        ignored = self.settings.ignored if self._colours is None else [IGNORE_INDEX]
        return sorted({*listed, *ignored})

    def _strange(self, codes: NDArray[np.integer], strange: NDArray[np.integer]) -> str:
        code, pixels = int(strange[0]), int(np.isin(codes, strange).sum())
        if self._colours is None:
            count = len(self.settings.classes)
            what = f"index {code} is neither one of the {count} classes nor in data.masks.ignored"
        else:
            red, green, blue = (code - UNKNOWN) >> 16, (code - UNKNOWN) >> 8 & 255, (code - UNKNOWN) & 255
            what = f"colour [{red}, {green}, {blue}] is in neither data.masks.colours nor ignored_colours"
        return f"class out of range: {what} ({pixels} pixels, {strange.size} different)"

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
