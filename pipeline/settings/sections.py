"""What all sections of params.yaml are made of."""

from typing import Annotated, get_args

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Names = Annotated[list[str], Field(min_length=1)]


class Section(BaseModel):
    """Unknown keys are mistakes; nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def choices(cls) -> list[str]:
        """The keys of the sections below this one of which the chosen one is needed: each is None or a section."""
        return [name for name, field in cls.model_fields.items() if _may_be_section(field.annotation)]

    @classmethod
    def check_choice(cls, name: str) -> str:
        """Return a name that is one of `choices`.

        Raises:
            ValueError: it is none; the text lists them.
        """
        if name not in cls.choices():
            raise ValueError(f"{name!r} is unknown; there are: {', '.join(cls.choices())}")
        return name


def _may_be_section(annotation: object) -> bool:
    return any(isinstance(part, type) and issubclass(part, Section) for part in get_args(annotation))
