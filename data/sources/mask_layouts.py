"""Where images and their masks lie: the layouts of CamVid, Cityscapes and ACDC, and any other layout of folders."""

from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from typing import Annotated, Literal

from pydantic import AfterValidator, Discriminator, Tag

from ..photos import is_picture_name
from ..samples import Fault
from ..settings import Settings, SplitName
from .files import Names, pictures_below, split_of, visible_files, visible_folders
from .paths import ImageEntry
from .splits import SPLITS


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


class Layout(Settings):
    """Where images and masks lie.

    Attributes:
        images: folder of the images below the root; {condition} is filled in, and {split} stands for the folder of a
            split, such as train, Training, val or valid. Without {split} the splits are drawn.
        masks: folder of the masks, likewise.
        image_ending: the end of an image's file name after the part that it shares with its mask; "" or the ending of
            a picture, such as ".jpg", for any picture that is no mask.
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


def usual_folder(root: Path, pattern: str, split: str, condition: str) -> Path:
    """The folder of a split if it is called as the pattern says."""
    return root / pattern.format(split=split, condition=condition)


def split_folders(root: Path, pattern: str, split: str, condition: str) -> dict[str, Path]:
    """The existing folders of a split, by the part of their name that stands for the split: valid, Testing, ...

    Args:
        root: the folder that the pattern is relative to.
        pattern: a path with the placeholders {split} and {condition}.
        split: the split.
        condition: what stands for {condition}.
    """
    before, placeholder, after = pattern.partition("{split}")
    if not placeholder:
        folder = usual_folder(root, pattern, split, condition)
        return {split: folder} if folder.is_dir() else {}
    above, _, start = before.format(condition=condition).rpartition("/")
    end, _, below = after.format(condition=condition, split=split).partition("/")
    folders = {}
    for folder in visible_folders(root / above):
        spelling = folder.name.removeprefix(start).removesuffix(end)
        is_split = split_of(spelling) == split and folder.name == f"{start}{spelling}{end}"
        if is_split and (folder / below).is_dir():
            folders[spelling] = folder / below
    return folders


def pairs(
    pictures: Path, masks: Path, image_ending: str, mask_ending: str, faults: list[Fault]
) -> Iterator[ImageEntry]:
    """The images in a folder, each with its mask; those without the other are added to `faults`.

    Args:
        pictures: the folder of the images.
        masks: the folder of the masks; it can be the same.
        image_ending: `Layout.image_ending`.
        mask_ending: `Layout.mask_ending`, filled in.
        faults: faults are added to it.
    """
    image_ending = "" if _is_suffix(image_ending) else image_ending
    if masks != pictures and _is_suffix(mask_ending):
        places = pictures_below(masks)
        by_name = Names(places, lambda path: path.relative_to(masks).with_suffix("").as_posix())
    else:
        places = [path for path in visible_files(masks) if path.name.casefold().endswith(mask_ending.casefold())]
        by_name = Names(places, lambda path: path.relative_to(masks).as_posix()[: -len(mask_ending) or None])
    in_one_folder, used, second = set(places), set(), {}
    for image in pictures_below(pictures):
        name = image.name if image_ending else image.stem
        if image in in_one_folder or not name.casefold().endswith(image_ending.casefold()):
            continue
        shared = image.relative_to(pictures).with_name(name[: len(name) - len(image_ending)] or name).as_posix()
        usual = masks / f"{shared}{mask_ending}"
        mask = usual if usual in in_one_folder else by_name.find(shared)
        if mask is None:
            reason = "several masks have its name" if by_name.all(shared) else f"{usual} is missing"
            faults.append(Fault(str(image), f"image without label: {reason}"))
            used.update(by_name.all(shared))
        else:
            used.add(mask)
            second.update(dict.fromkeys(by_name.all(shared), mask))
            yield ImageEntry(image, mask)
    for path in [path for path in places if path not in used]:
        if path in second:
            faults.append(Fault(str(path), f"second label of an image: {second[path]} is read", "note"))
        else:
            faults.append(Fault(str(path), f"label without image: none of its name in {pictures}"))


def _is_suffix(ending: str) -> bool:
    """Whether the ending of a name is that of a picture and nothing else."""
    return is_picture_name(f"a{ending}") and Path(f"a{ending}").stem == "a"
