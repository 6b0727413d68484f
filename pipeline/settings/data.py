"""The section `data` of params.yaml: one section for each source, of which the chosen one is needed."""

from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, field_validator, model_validator

from pipeline.settings.sections import Count, Names, Section, Share

SplitName = Literal["train", "val", "test"]
SplitOrAll = Literal["train", "val", "test", "all"]
Limits = dict[SplitName, Count | None]
Index = Annotated[int, Field(ge=0, le=255)]
Colour = Annotated[list[Index], Field(min_length=3, max_length=3)]

VOC_CLASSES = ["aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable"]
VOC_CLASSES += ["dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"]


class Scenes(Section):
    width: Annotated[int, Field(ge=64)]
    height: Annotated[int, Field(ge=64)]
    train: Count
    val: Count
    test: Count


class Outside(Section):
    """What all sources of outside data share (data/sources/outside.py)."""

    name: str
    split: dict[SplitName, Share] | None = None
    map: dict[str, list[str]] | list[str | dict[str, list[str]]] | None = None
    limit: Limits = Field(default={})

    @field_validator("split")
    @classmethod
    def _is_whole(cls, shares: dict[str, float] | None) -> dict[str, float] | None:
        if shares is not None:
            if abs(sum(shares.values()) - 1) > 1e-6:
                raise ValueError(f"the shares add up to {sum(shares.values()):g}, not to 1")
            if not shares.get("train") or not (shares.get("val") or shares.get("test")):
                raise ValueError("train and val or test need a share")
        return shares


def _fills(*names: str) -> AfterValidator:
    """A text whose braces hold nothing but these names."""

    def check(text: str) -> str:
        known = " and ".join(f"{{{name}}}" for name in names) or "nothing"
        refusal = ValueError(f"{text!r}: in braces, {known} can stand")
        try:
            parts = list(Formatter().parse(text))
        except ValueError as error:
            raise refusal from error
        # {split.x}, {split!r} and {split:9} are fields of format too, and not meant.
        if any(name is not None and (name not in names or form or turned) for _, name, form, turned in parts):
            raise refusal
        return text

    return AfterValidator(check)


class Layout(Section):
    images: Annotated[str, _fills("split", "condition")]
    masks: Annotated[str, _fills("split", "condition")]
    image_ending: str
    mask_ending: Annotated[str, _fills("labels")]
    splits: tuple[SplitName, ...] = ("train", "val", "test")


# Told apart by hand: pydantic would report the mistakes of a layout's folders as those of a name too.
NameOrFolders = Annotated[
    Annotated[Literal["camvid", "cityscapes", "acdc"], Tag("name")] | Annotated[Layout, Tag("folders")],
    Discriminator(lambda value: "folders" if isinstance(value, dict | Layout) else "name"),
]


class Masks(Outside):
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


def _divided_or_not(given: dict[str, Any]) -> dict[str, Any]:
    """Either splits, or "all"."""
    if not given or ("all" in given and len(given) > 1):
        raise ValueError("expected train and val or test, or only all, which split divides")
    return given


class CocoFiles(Section):
    json_file: Annotated[str, Field(alias="json")]
    images: str


class Coco(Outside):
    files: Annotated[dict[SplitOrAll, CocoFiles], AfterValidator(_divided_or_not)]
    masks: bool = True
    rest: str | None = "background"
    category: bool = False


class Yolo(Outside):
    project: str = "data.yaml"
    masks: bool = False
    rest: str | None = "background"


class Voc(Outside):
    sets: Annotated[dict[SplitOrAll, Names], AfterValidator(_divided_or_not)]
    lists: str = "Main"
    classes: Names = VOC_CLASSES
    masks: bool = False
    rest: str | None = None


class ExDark(Outside):
    images: str = "ExDark"
    labels: str = "ExDark_Annno"
    list_file: Annotated[str, Field(alias="list")] = "imageclasslist.txt"


class Folders(Outside):
    """All of it is shared."""


class Data(Section):
    """Which source, and a section for each; a section is what makes a name of a source."""

    source: str
    root: str
    faults: Literal["error", "skip"] = "error"
    longest_side: Annotated[int, Field(ge=64)] | None = None
    trust_paths: bool = True  # false: files outside root, where links and lists in the data lead there, are faults
    scenes: Scenes | None = None
    coco: Coco | None = None
    exdark: ExDark | None = None
    folders: Folders | None = None
    masks: Masks | None = None
    voc: Voc | None = None
    yolo: Yolo | None = None

    @field_validator("source")
    @classmethod
    def _exists(cls, source: str) -> str:
        return cls.check_choice(source)

    @model_validator(mode="after")
    def _has_section(self) -> "Data":
        if getattr(self, self.source) is None:
            raise ValueError(f"source is {self.source!r}, so that a section data.{self.source} is needed")
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """The section of the chosen source."""
        section: Section = getattr(self, self.source)
        return section.model_dump(by_alias=True)
