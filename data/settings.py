"""The base class of every plug-in's settings, and the constrained types that they share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Names = Annotated[list[str], Field(min_length=1)]


class Settings(BaseModel):
    """A section of params.yaml. Unknown keys are errors; settings never change after they are read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
