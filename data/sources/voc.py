"""Pascal VOC: XML annotations, lists of images, and palette masks with an ignored border."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator

from ..labels import IGNORE_INDEX, DatasetError
from ..photos import is_picture_name, read_indices
from ..samples import Fault
from ..settings import Names as ListNames
from ..settings import SplitOrAll
from .class_map import ClassMap
from .file_source import FileSettings, FileSource
from .files import Names, pictures_below, split_of, visible_files, visible_folders
from .objects import LabelError, LabelledObject, object_labels, report
from .paths import ImageEntry, safe_inside
from .splits import UNDIVIDED, divided_or_not
from .voc_file import Annotation, is_difficult, object_box, read_annotation

BACKGROUND = "background"
CLASSES = ["aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable"]
CLASSES += ["dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"]
IMAGES, ANNOTATIONS, MASKS, LISTS = "JPEGImages", "Annotations", "SegmentationClass", "ImageSets"
ENDINGS = {IMAGES: ".jpg", ANNOTATIONS: ".xml", MASKS: ".png"}  # the usual ones


class Settings(FileSettings):
    """The section data.voc.

    Attributes:
        sets: lists of images by split, or under "all" to draw the splits: "VOC2012/train", or "train" if the root
            is the folder of a year. None: the lists called train, val and test; without lists, all XML files, whose
            splits are the folders train, val and test, or are drawn.
        lists: the folder of the lists in ImageSets: Main, Segmentation or another.
        classes: the source's class names in the masks' index order.
        masks: whether SegmentationClass is read.
        rest: the class of pixels whose class `map` drops; None ignores these pixels.
    """

    sets: Annotated[dict[SplitOrAll, ListNames], AfterValidator(divided_or_not)] | None = None
    lists: str = "Main"
    classes: ListNames = CLASSES
    masks: bool = False
    rest: str | None = None


class Voc(FileSource):
    """Pascal VOC, and other data in its format.

    - Corners are pixels counted from 1, both inclusive, as in VOC's tools: a box from 1 to 10 is 10 pixels wide.
    - Objects marked `difficult` are ignored in detection, as VOC's evaluation does.
    - Masks (SegmentationClass) hold 0 for the background, then the classes; 255, the border, is ignored.
    - The image of a name is the one in JPEGImages, whatever its ending. Without lists, it lies beside its XML file, or
      in any other folder; if several images have its name, the one with the ending that the XML file names.
    - An XML file with a document type is rejected, because its entities could fill the memory.

    Args:
        root: the folder that the entries of `sets` are relative to: VOCdevkit or the folder of a year.
        settings: `Settings`, or a section of params.yaml that is checked against them.
        seed: of the drawn splits.
        options: `trust_paths`, as of `FileSource`.

    Raises:
        DatasetError: a list is missing, or the class map is not valid.
    """

    key = "data.voc"
    settings_type = Settings
    settings: Settings

    def __init__(self, root: Path, settings: Mapping[str, Any] | FileSettings, seed: int, **options: Any) -> None:
        super().__init__(root, settings, seed, **options)
        self._names = self.settings.classes
        masks = self.settings.masks
        names = [BACKGROUND, *self._names] if masks else self._names
        rest = self.settings.rest if masks else None
        self._map = ClassMap(self.key, names, self.settings.map, rest, [BACKGROUND])
        self._table = self._map.table(names)
        self._table[IGNORE_INDEX] = IGNORE_INDEX
        self.classes = {"detection": self._map.objects}
        if masks:
            self.classes["segmentation"] = self._map.pixels
        self.description["boxes"] = "as annotated; difficult objects are ignored"
        self._indices: dict[Path, Names] = {}

    def find(self, faults: list[Fault]) -> Mapping[str, Sequence[ImageEntry]]:
        sets = self.settings.sets or self._own_lists()
        if not sets:
            return self._without_lists(faults)
        entries: dict[str, list[ImageEntry]] = {}
        for split, lists in sets.items():
            for path in lists:
                year, _, name = path.rpartition("/")
                self.known.append(self.root / year / LISTS)
                entries.setdefault(split, []).extend(self._list(self.root / year, name, faults))
        return entries

    def part(self, split: str, ids: Sequence[str]) -> Self:
        small = super().part(split, ids)
        small._indices = {}
        return small

    def _own_lists(self) -> dict[str, list[str]]:
        """The lists of the root, or of the years in it, that are called train, val or test, by split.

        A list called trainval counts as train where there is no list of either.
        """
        sets: dict[str, list[str]] = {}
        undivided: list[str] = []
        for year in [self.root, *visible_folders(self.root)]:
            for file in sorted((year / LISTS / self.settings.lists).glob("*.txt")):
                split, name = split_of(file.stem), (year.relative_to(self.root) / file.stem).as_posix()
                if split is not None:
                    sets.setdefault(split, []).append(name)
                elif file.stem.casefold() == "trainval":
                    undivided.append(name)
        return {"train": undivided, **sets} if undivided and sets.keys() == {"test"} else sets

    def _without_lists(self, faults: list[Fault]) -> dict[str, list[ImageEntry]]:
        """All XML files below the root, with their images."""
        labels = self._files(self.root, ANNOTATIONS)
        if not labels:
            raise DatasetError(
                f"{self.root}: it has neither lists in {LISTS}/{self.settings.lists} nor XML files. Correct data.root"
            )
        pictures = [path for path in self._files(self.root, IMAGES) if MASKS not in path.relative_to(self.root).parts]
        beside = Names(pictures, lambda path: path.with_suffix("").as_posix())
        by_stem = Names(pictures)
        entries: dict[str, list[ImageEntry]] = {}
        used = set()
        for label in labels:
            split = self._split_of(label)
            alike = [image for image in by_stem.all(label.stem) if self._split_of(image) in (split, UNDIVIDED)]
            image = beside.find(label.with_suffix("").as_posix()) or _one_of(alike, label)
            mask = self._find(self.root, MASKS, label.stem) if self.settings.masks else None
            if image is None:
                faults.append(Fault(str(label), "label without image: no image, or several, have its name"))
            elif mask is not None and not mask.exists():
                faults.append(Fault(str(image), f"image without label: {mask} is missing"))
            else:
                split = split if split != UNDIVIDED else self._split_of(image)
                entries.setdefault(split, []).append(ImageEntry(image, (label, mask)))
            used.add(image)
        folders = {image.parent for image in used if image is not None}
        strays = [image for image in pictures if image not in used and image.parent in folders]
        faults += [Fault(str(image), "image without label: no XML file has its name") for image in strays]
        return entries

    def _split_of(self, path: Path) -> str:
        """The split that the nearest folder above a file names."""
        folders = reversed(path.relative_to(self.root).parts[:-1])
        return next((split for folder in folders if (split := split_of(folder))), UNDIVIDED)

    def size(self, entry: ImageEntry) -> tuple[int, int] | None:
        """The size in the XML file. If the file is unreadable, `label` adds the fault."""
        try:
            return read_annotation(entry.labels[0]).size
        except LabelError:
            return None

    def label(self, entry: ImageEntry, shape: tuple[int, int], faults: list[Fault]) -> dict[str, Any]:
        file, mask_file = entry.labels
        labels: dict[str, Any] = {}
        try:
            annotation = read_annotation(file)
        except LabelError as error:
            report(faults, str(file), error)
        else:
            if not self.fits(annotation.size, shape):
                faults.append(Fault(str(file), f"size differs: it says {annotation.size}, the image has {shape[::-1]}"))
            objects = [self._object(annotation, index, shape, faults) for index in range(len(annotation.objects))]
            labels = object_labels([labelled for labelled in objects if labelled], shape, self._map)
        if mask_file is not None:
            labels["mask"] = self._mask(mask_file, shape, faults)
        return labels

    def _list(self, year: Path, name: str, faults: list[Fault]) -> list[ImageEntry]:
        file = year / LISTS / self.settings.lists / f"{name}.txt"
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(f"{file}: cannot be read ({error}). Correct data.voc.sets or data.voc.lists") from error
        entries = []
        for number, line in enumerate(lines, start=1):
            name, words = line.strip(), line.split()
            if len(words) == 2 and words[1] in ("-1", "0", "1") and not self._find(year, IMAGES, name).exists():
                name = "" if words[1] == "-1" else words[0]  # in lists of one class, -1 marks images without it
            if name and safe_inside(year, name) is None:
                faults.append(Fault(f"{file}:{number}", f"unusable entry: {name!r} leads out of the folder"))
            elif name:
                entries.append(self._entry(year, name, faults))
        return [entry for entry in entries if entry is not None]

    def _entry(self, year: Path, name: str, faults: list[Fault]) -> ImageEntry | None:
        image, annotation = self._find(year, IMAGES, name), self._find(year, ANNOTATIONS, name)
        mask = self._find(year, MASKS, name) if self.settings.masks else None
        if not image.exists() and annotation.exists():
            faults.append(Fault(str(annotation), f"label without image: {image} is missing"))
            return None
        missing = [path for path in (annotation, mask) if path is not None and not path.exists()]
        faults.extend(Fault(str(image), f"image without label: {path} is missing") for path in missing)
        return None if missing else ImageEntry(image, (annotation, mask))

    def _find(self, year: Path, kind: str, name: str) -> Path:
        """The file of an image in a folder of VOC; the usual one, which does not exist, if there is none."""
        name = name.removesuffix(Path(name).suffix) if is_picture_name(name) else name
        usual = year / kind / f"{name}{ENDINGS[kind]}"
        folder = year / kind
        if safe_inside(year, name) is None or usual.is_file():
            return usual
        if folder not in self._indices:
            files = self._files(folder, kind)
            self._indices[folder] = Names(files, lambda path: path.relative_to(folder).with_suffix("").as_posix())
        files = self._indices[folder].all(name)
        label = self._find(year, ANNOTATIONS, name) if len(files) > 1 and kind == IMAGES else usual
        return self._indices[folder].find(name) or _one_of(files, label) or usual

    def _files(self, folder: Path, kind: str) -> list[Path]:
        """The pictures, or the XML files, below a folder."""
        if kind == ANNOTATIONS:
            return [path for path in visible_files(folder) if path.suffix.lower() == ENDINGS[ANNOTATIONS]]
        return pictures_below(folder)

    def _object(
        self, annotation: Annotation, index: int, shape: tuple[int, int], faults: list[Fault]
    ) -> LabelledObject | None:
        entry = annotation.objects[index]
        where = f"{annotation.file}: object {index + 1}"
        name = (entry.findtext("name") or "").strip()
        if name not in self._names:
            text = f"class out of range: {name!r} is not among data.voc.classes: {', '.join(self._names)}"
            faults.append(Fault(where, text, "label"))
            return None
        category = self._map.object(name)
        try:
            box = object_box(entry, shape)
        except LabelError as error:
            report(faults, where, error)
            return None
        return None if category is None else LabelledObject(category, box, is_difficult(entry))

    def _mask(self, file: Path, shape: tuple[int, int], faults: list[Fault]) -> Any:
        codes = self.attempt(faults, file, "unreadable mask", lambda: read_indices(file))
        if codes is None:
            return None
        if codes.shape != shape:
            faults.append(Fault(str(file), f"size differs: mask of {codes.shape[::-1]}, image of {shape[::-1]}"))
        strange = codes[(codes > len(self._names)) & (codes != IGNORE_INDEX)]
        if strange.size:
            text = f"class out of range: index {int(strange[0])}; there are 0 to {len(self._names)}, and 255"
            faults.append(Fault(str(file), text))
        return self._table[codes]


def _one_of(images: Sequence[Path], label: Path) -> Path | None:
    """Of images with the same name, the only one with the ending that the XML file names."""
    if len(images) > 1:
        try:
            suffix = Path(read_annotation(label).image_name).suffix.lower()
        except LabelError:
            return None
        images = [image for image in images if image.suffix.lower() == suffix]
    return images[0] if len(images) == 1 else None
