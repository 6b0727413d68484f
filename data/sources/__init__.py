"""Where data comes from: every source turns something outside into samples of the canonical dataset."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from ..samples import Fault, Sample


class SourceError(ValueError):
    """A source that does not exist; the text lists those that do."""


SOURCES: dict[str, str] = {
    "coco": ".coco:Coco",
    "exdark": ".exdark:ExDark",
    "folders": ".folders:Folders",
    "masks": ".masks:Masks",
    "scenes": ".scenes:Scenes",
    "voc": ".voc:Voc",
    "yolo": ".yolo:Yolo",
}


class Source(Protocol):
    """What `prepare` asks of a source. An instance must pickle: samples are made in parallel processes.

    Attributes:
        name: the name of the dataset that it makes.
        classes: class names by task, in index order; the keys are "detection", "segmentation",
            "instance-segmentation" and "classification", and a task that the source has no labels for maps to an
            empty list or is absent.
        description: where the data comes from; it is written to dataset.json as `source`.
    """

    name: str
    classes: dict[str, list[str]]
    description: dict[str, Any]

    def __init__(self, root: Path, settings: Mapping[str, Any], seed: int) -> None:
        """`root` is the folder of outside data, `settings` the source's own section of the parameters."""

    def split_ids(self) -> dict[str, list[str]]:
        """The ids of every split, in a fixed order."""
        ...

    def faults(self) -> list[Fault]:
        """What listing the files found wrong; what it concerns is not among the ids."""
        ...

    def part(self, split: str, ids: Sequence[str]) -> "Source":
        """A source of these samples alone, small enough to be sent to another process with them."""
        ...

    def sample(self, split: str, id: str) -> Sample:
        """Make or read one sample. Pure: the same arguments give the same bytes in any process and order.

        Raises:
            FaultError: the files cannot be used; it carries all that is wrong with them.
        """
        ...


def load_source(name: str) -> type[Source]:
    """Look a source's class up by its name in `SOURCES`; its module is imported only now.

    Raises:
        SourceError: no such source; the text lists those that exist.
    """
    if name not in SOURCES:
        raise SourceError(f"data.source: there is no source {name!r}; choose one of {', '.join(sorted(SOURCES))}")
    module, attribute = SOURCES[name].split(":")
    source: type[Source] = getattr(import_module(module, __package__), attribute)
    return source
