"""Deleted when all plug-ins have their `Settings` and the tables are literal: what stands in for them until then."""

import ast
import dataclasses
from functools import cache
from importlib import import_module
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from models.settings import Count, Names, Settings, Share
from pipeline.settings.errors import PARAMS_FILE, ParamsError, one_line

Section = Settings
PROJECT = Path(__file__).parents[2]
TABLES = {
    "sources": ("data.sources", "SOURCES"),
    "restorers": ("models.restorers", "RESTORERS"),
    "losses": ("models.losses", "LOSSES"),
    "tasks": ("models.tasks", "TASKS"),
}


@cache
def plugin_modules(kind: str) -> dict[str, str]:
    """As pipeline.running.digests.plugin_modules; LOSSES may be no literal yet, and RESTORERS without checkpoint."""
    package, table = TABLES[kind]
    tree = ast.parse(PROJECT.joinpath(*package.split("."), "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == table for target in targets):
            entries = node.value  # type: ignore[attr-defined]
    modules = {}
    for key, value in zip(entries.keys, entries.values, strict=True):
        texts = (
            part.value for part in ast.walk(value) if isinstance(part, ast.Constant) and isinstance(part.value, str)
        )
        modules[key.value] = package + next(texts).partition(":")[0]
    return modules | ({"checkpoint": "models.restorers.checkpoint"} if kind == "restorers" else {})


def with_defaults(kind: str, name: str, section: dict[str, Any]) -> dict[str, Any]:
    """A source's section with the defaults that sources without `Settings` leave to their caller."""
    if hasattr(import_module(plugin_modules(kind)[name]), "Settings"):
        return section
    model = settings_before_they_moved(kind, name)
    try:
        return model.model_validate(section).model_dump(by_alias=True)
    except ValidationError as error:
        raise ParamsError(f"{PARAMS_FILE}: {one_line(error, model, f'data.{name}')}") from error


def settings_before_they_moved(kind: str, name: str) -> type[BaseModel]:
    """The section's class, where the plug-in's module has none."""
    if kind == "tasks":
        return _from_dataclass(import_module("models.tasks").get_task(name).Settings)
    if kind == "losses":
        return _from_dataclass(import_module("models.losses").LOSSES[name].settings)
    return OLD[name]


def _from_dataclass(kind: type[Any]) -> type[BaseModel]:
    if issubclass(kind, BaseModel):
        return kind
    types = get_type_hints(kind, include_extras=True)
    fields: dict[str, Any] = {field.name: (types[field.name], field.default) for field in dataclasses.fields(kind)}

    def check(model: Any) -> Any:
        kind(**{name: getattr(model, name) for name in fields})
        return model

    return create_model(
        kind.__name__, __base__=Settings, __validators__={"check": model_validator(mode="after")(check)}, **fields
    )


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


Counts = Annotated[list[Count], Field(min_length=1)]


class UNet(Section):
    channels: Annotated[list[Count], Field(min_length=4, max_length=4)]
    blocks: Count


class NafNet(Section):
    width: Count
    encoder_blocks: Counts
    middle_blocks: Count
    decoder_blocks: Counts

    @model_validator(mode="after")
    def _is_symmetric(self) -> "NafNet":
        if len(self.encoder_blocks) != len(self.decoder_blocks):
            raise ValueError("encoder_blocks and decoder_blocks must have the same length")
        return self


class Restormer(Section):
    width: Annotated[int, Field(ge=2, multiple_of=2)]
    blocks: Counts
    heads: Counts
    refinement: Annotated[int, Field(ge=0)]
    expansion: Annotated[float, Field(ge=1)]

    @model_validator(mode="after")
    def _fits(self) -> "Restormer":
        if len(self.blocks) != len(self.heads):
            raise ValueError("blocks and heads must have the same length")
        channels = [self.width * 2**level for level in range(len(self.heads))]
        for width, heads in zip(channels, self.heads, strict=True):
            if width % heads:
                raise ValueError(f"a level of {width} channels cannot be shared among {heads} heads")
        return self


class RetinexFormer(Section):
    features: Annotated[int, Field(ge=4, multiple_of=4)]
    stages: Count
    blocks: Annotated[list[Count], Field(min_length=3, max_length=3)]


class Checkpoint(Section):
    weights: str | None


OLD: dict[str, type[BaseModel]] = {
    "scenes": Scenes,
    "coco": Coco,
    "exdark": ExDark,
    "folders": Folders,
    "masks": Masks,
    "voc": Voc,
    "yolo": Yolo,
    "unet": UNet,
    "nafnet": NafNet,
    "restormer": Restormer,
    "retinexformer": RetinexFormer,
    "checkpoint": Checkpoint,
}
