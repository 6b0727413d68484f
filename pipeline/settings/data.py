"""The sections `data` and `degrade` of params.yaml: the source of the clean images, and how they are degraded."""

import re
from collections.abc import Iterable
from itertools import combinations
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from models.settings import Settings
from pipeline.settings.plugins import PluginSections


class Data(PluginSections):
    """The chosen source, the treatment of faulty files, and the sources' sections. The chosen source needs one.

    Attributes:
        source: format of the dataset, which needs a section of this name beside it.
        root: folder of the dataset, which must not hold the project; source scenes is drawn by code and reads nothing.
            DVC reads the path as it stands, without ~ and variables.
        faults: bad files: error lists all of them and writes no dataset, skip leaves out and lists their images, and
            skip-labels leaves out single bad labels and keeps their image.
        longest_side: larger images are reduced to this many pixels, with their labels; None keeps all sizes.
        trust_paths: false reports links and lists that lead to files outside of root as faults.
    """

    kind: ClassVar[str] = "sources"
    source: str
    root: str
    faults: Literal["error", "skip", "skip-labels"] = "error"
    longest_side: Annotated[int, Field(ge=64)] | None = None
    trust_paths: bool = True

    @field_validator("source")
    @classmethod
    def _exists(cls, source: str) -> str:
        return cls.check_choice(source)

    @model_validator(mode="after")
    def _has_section(self) -> "Data":
        if self.source not in self.sections:
            raise ValueError(f"source is {self.source!r}, which needs a section data.{self.source}. Add it.")
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """The section of the chosen source, as it stands in the file."""
        return self.sections[self.source]


def _all_different(values: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(values)) != len(values):
        raise ValueError(f"a severity occurs twice in {list(values)}. Name each one once.")
    return values


Severity = Annotated[int, Field(ge=1, le=5)]
Severities = Annotated[tuple[Severity, ...], Field(min_length=2), AfterValidator(_all_different)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]


class RandomSeverity(Settings):
    """Every image gets one of these severities.

    Attributes:
        random: severities that the seed draws from, one for each image.
    """

    random: Severities


class Paired(Settings):
    """Real degraded photos of the clean images, in a folder below data.root.

    A photo has the path of its clean image below its own folder, or is <split>/<id>; the ending can be another.

    Attributes:
        kind: paired: each photo shows the same scene as a clean image.
        folder: below data.root.
        replace: how the photos' paths differ: regular expressions that are replaced in the path of the clean image.
    """

    kind: Literal["paired"]
    folder: str
    replace: dict[str, str] = Field(default={})

    @field_validator("replace")
    @classmethod
    def _can_be_replaced(cls, replace: dict[str, str]) -> dict[str, str]:
        for pattern, text in replace.items():
            try:
                re.sub(pattern, text, "")
            except (re.error, IndexError, OverflowError, RecursionError) as error:
                raise ValueError(f"{pattern!r}: {text!r} is no replacement ({error}). Correct it") from error
        return replace


class Unpaired(Settings):
    """Real degraded photos with labels and without clean counterparts; restorers are trained on `recipe`.

    Attributes:
        kind: unpaired: the photos have no clean counterparts.
        recipe: degradation of the clean images that the restorers are trained on.
        data: source of the photos and of their labels, with the keys of the section data.
    """

    kind: Literal["unpaired"]
    recipe: str
    data: Data


class Sweep(Settings):
    """A recipe with one setting at several values, from mild to severe; its other settings are those of a severity.

    Attributes:
        recipe: its name.
        setting: name of the setting, such as visibility_metres.
        values: at least two, rising or falling.
        severity: of the other settings, 1 to 5.
    """

    recipe: str
    setting: str
    values: Annotated[tuple[float, ...], Field(min_length=2)]
    severity: Severity = 3

    @field_validator("values")
    @classmethod
    def _have_an_order(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if list(values) not in (sorted(set(values)), sorted(set(values), reverse=True)):
            raise ValueError(f"expected values that only rise or only fall, got {list(values)}. Order them.")
        return values


class Degrade(Settings):
    """Severities, chains of effects that the user defines, sweeps of a setting, and real degraded photos.

    Attributes:
        severity: 1 (slight) to 5 (severe); a list such as [1, 3, 5]; or {random: [1, 3, 5]}, drawn for each image.
        severity_of: other severities of single degradations, such as {fog: 2}.
        recipes: your own chains of effects, by name.
        sweeps: a recipe with one setting at several values, by name.
        real: real degraded photos, by name.
    """

    severity: Severity | Severities | RandomSeverity
    severity_of: dict[Name, Severity] = Field(default={})
    recipes: dict[Name, Annotated[list[dict[str, Any]], Field(min_length=1)]] = Field(default={})
    sweeps: dict[Name, Sweep] = Field(default={})
    real: dict[Name, Annotated[Paired | Unpaired, Field(discriminator="kind")]] = Field(default={})

    @field_validator("severity", mode="before")
    @classmethod
    def _is_understood(cls, value: Any) -> Any:
        choices = value["random"] if isinstance(value, dict) and set(value) == {"random"} else value
        numbers = choices if isinstance(choices, list | tuple) else [] if choices is not value else [choices]
        if not numbers or any(type(number) is not int or not 1 <= number <= 5 for number in numbers):
            raise ValueError(f"expected 1 to 5, a list such as [1, 3, 5], or {{random: [1, 3, 5]}}, got {value!r}")
        return value

    @model_validator(mode="after")
    def _have_one_meaning(self) -> "Degrade":
        kinds: dict[str, Iterable[str]] = {"recipes": self.recipes, "sweeps": self.sweeps, "real": self.real}
        for (first, names), (second, others) in combinations(kinds.items(), 2):
            if both := set(names) & set(others):
                raise ValueError(f"{min(both)!r} is in {first} and in {second}. Remove one of them.")
        for name, sweep in self.sweeps.items():
            if name in self.severity_of:
                raise ValueError(f"severity_of: {name!r} is a sweep, which has values instead. Remove it here.")
            if sweep.recipe in (*self.sweeps, *self.real):
                raise ValueError(
                    f"sweeps.{name}: {sweep.recipe!r} is no recipe. Choose one of recipes, or a built-in one."
                )
        return self

    def of(self, degradation: str) -> "Degrade":
        """The settings with the severity of one degradation."""
        return self.model_copy(update={"severity": self.severity_of.get(degradation, self.severity)})

    def only(self, degradation: str | None) -> dict[str, Any]:
        """The settings that one degradation depends on; empty for None."""
        if degradation is None:
            return {}
        settings = self.of(degradation).model_dump(mode="json")
        sweep = settings["sweeps"].get(degradation)
        if sweep:
            return {"sweeps": sweep, "recipes": settings["recipes"].get(sweep["recipe"])}
        sections = {kind: settings[kind][degradation] for kind in ("recipes", "real") if degradation in settings[kind]}
        return {"severity": settings["severity"], **sections}
