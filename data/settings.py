"""The base class of every plug-in's settings, and the constrained types that they share."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Count = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Names = Annotated[list[str], Field(min_length=1)]
SplitName = Literal["train", "val", "test"]
SplitOrAll = Literal["train", "val", "test", "all"]

LONGEST_VALUE = 200  # characters of a value in an error message


class SettingsError(ValueError):
    """A section of params.yaml that is not valid; the message is one line that names the key."""


class Settings(BaseModel):
    """A section of params.yaml. Unknown keys are errors, and instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def read(cls, section: "Mapping[str, Any] | Settings", key: str) -> Self:
        """The validated settings of a section; an instance of this class is returned unchanged.

        Args:
            section: keys and values, as in params.yaml.
            key: the key of the section, for error messages, such as "data.coco".

        Raises:
            SettingsError: a key is unknown or missing, or its value is not valid. The message names the first one.
        """
        if isinstance(section, cls):
            return section
        try:
            return cls.model_validate(section)
        except ValidationError as error:
            raise SettingsError(_first_mistake(error, key)) from error


def _first_mistake(error: ValidationError, key: str) -> str:
    # A misspelt key gives two errors, unknown and missing. The unknown one shows the misspelling.
    mistake = min(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")
    place = ".".join([key, *map(str, mistake["loc"])])
    if mistake["type"] == "extra_forbidden":
        return f"{place}: unknown key"
    text = mistake["msg"].removeprefix("Value error, ")
    if mistake["type"] not in ("value_error", "missing"):
        text += f", got {repr(mistake['input'])[:LONGEST_VALUE]}"
    return " ".join(f"{place}: {text}".split())
