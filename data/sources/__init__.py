"""Sources of data: each turns files of one format, or a seed, into samples of a canonical dataset.

A source is a module with its settings, and a line in SOURCES.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from ..samples import Fault, Sample
from ..settings import Settings

SOURCES: dict[str, str] = {
    "coco": ".coco:Coco",
    "exdark": ".exdark:ExDark",
    "folders": ".folders:Folders",
    "masks": ".masks:Masks",
    "scenes": ".scenes:Scenes",
    "voc": ".voc:Voc",
    "yolo": ".yolo:Yolo",
}


class SourceError(ValueError):
    """A source that does not exist; the text lists those that do."""


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

    def __init__(
        self,
        root: Path,
        settings: Mapping[str, Any] | Settings,
        seed: int,
        *,
        trust_paths: bool = True,
        read_yaml: Callable[[Path], Any] | None = None,
    ) -> None:
        """Open the source; nothing is decoded yet.

        Args:
            root: the folder of the files.
            settings: the module's `Settings`, or a section of params.yaml that is checked against it.
            seed: of what is drawn.
            trust_paths: False: files outside `root` are faults.
            read_yaml: how a format reads its files in YAML, for which this package has no parser.

        Raises:
            DatasetError: a setting or a file that does not fit; the text is one line that names it.
        """

    def split_ids(self) -> dict[str, list[str]]:
        """The ids of every split, in a fixed order."""
        ...

    def faults(self) -> list[Fault]:
        """What listing the files found wrong; what it concerns is not among the ids."""
        ...

    def part(self, split: str, ids: Sequence[str]) -> "Source":
        """A source of these samples alone, small enough to be sent to another process with them."""
        ...

    def sample(self, split: str, image_id: str) -> Sample:
        """Make or read one sample. Pure: the same arguments give the same bytes in any process and order.

        Raises:
            FaultError: the files cannot be used; it carries all that is wrong with them.
        """
        ...


def load_source(name: str) -> type[Source]:
    """The class of a name in `SOURCES`; its module is imported only now.

    Raises:
        SourceError: no such source; the text lists those that exist.
    """
    if name not in SOURCES:
        raise SourceError(f"data.source: there is no source {name!r}; choose one of {', '.join(sorted(SOURCES))}")
    module, attribute = SOURCES[name].split(":")
    source: type[Source] = getattr(import_module(module, __package__), attribute)
    return source
