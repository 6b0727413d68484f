"""The section `data` of params.yaml: the chosen source, and a section for each source."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.settings.plugins import PluginSections


class Data(PluginSections):
    """Which source, what to do with faulty files, and the sources' sections, of which the chosen one is needed."""

    kind: ClassVar[str] = "sources"
    source: str
    root: str
    faults: Literal["error", "skip"] = "error"
    longest_side: Annotated[int, Field(ge=64)] | None = None
    trust_paths: bool = True  # false: files outside root, to which links and lists in the data point, are faults

    @field_validator("source")
    @classmethod
    def _exists(cls, source: str) -> str:
        return cls.check_choice(source)

    @model_validator(mode="after")
    def _has_section(self) -> "Data":
        if self.source not in self.sections:
            raise ValueError(f"source is {self.source!r}, so that a section data.{self.source} is needed")
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """The section of the chosen source, as it stands in the file."""
        return self.sections[self.source]
