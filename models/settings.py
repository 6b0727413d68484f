"""The base class of every plug-in's settings, and the constrained types that they share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Count = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Names = Annotated[list[str], Field(min_length=1)]
Counts = Annotated[list[Count], Field(min_length=1)]

LONGEST_VALUE = 200  # characters of a wrong value that a message shows


class Settings(BaseModel):
    """A section of params.yaml. Unknown keys are errors; settings never change after they are read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def first_mistake(error: ValidationError, model: type[Settings]) -> str:
    """The first mistake of a section in one line: its key, what is wrong, and the keys there are if it is unknown."""
    # A misspelt key is both unknown and missing: the unknown one says which.
    first = min(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        text = f"unknown key; there are: {', '.join(model.model_fields)}"
    elif first["type"] in ("value_error", "missing"):
        text = first["msg"].removeprefix("Value error, ")
    else:
        value = repr(first["input"])
        text = f"{first['msg']}, got {value if len(value) <= LONGEST_VALUE else value[:LONGEST_VALUE] + '...'}"
    return " ".join(f"{key}: {text}".removeprefix(": ").split())
