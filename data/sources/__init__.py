"""Data sources. Each turns files of one format, or a seed, into samples of a canonical dataset.

A source is one module that also holds its settings, and one line in SOURCES.
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
    """An unknown name of a source; the message lists the known ones."""


class Source(Protocol):
    """The interface of a data source. Instances must pickle, because samples are made in parallel processes.

    Attributes:
        name: the name of the dataset.
        classes: class names by task, in index order; the keys are "detection", "segmentation",
            "instance-segmentation" and "classification". A task without labels maps to an empty list or is absent.
        description: where the data comes from, JSON-able; dataset.json keeps it under `source`.
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
        """Open the source without decoding any image.

        Args:
            root: the folder that holds the files.
            settings: the module's `Settings`, or a section of params.yaml that is checked against it.
            seed: seed of drawn splits or scenes.
            trust_paths: whether files outside `root` are accepted; otherwise they are faults.
            read_yaml: reads a YAML file; this package has no YAML parser.

        Raises:
            DatasetError: a setting or a file is not valid; the message is one line that names it.
        """

    def split_ids(self) -> dict[str, list[str]]:
        """The ids of every split, in a fixed order."""
        ...

    def faults(self) -> list[Fault]:
        """The faults found while listing the files; the images concerned are not among the ids."""
        ...

    def notes(self) -> list[Fault]:
        """Files of the folder that are not read, and entries that are repeated: no image is concerned."""
        ...

    def groups(self) -> dict[str, dict[str, str]]:
        """For each split the group of each image id that belongs to one; other images are independent."""
        ...

    def divided_groups(self) -> dict[str, list[str]]:
        """The groups with images in several splits of the files, and these splits."""
        ...

    def part(self, split: str, ids: Sequence[str]) -> "Source":
        """A copy that knows these samples only, small enough to be sent to another process."""
        ...

    def sample(self, split: str, image_id: str) -> Sample:
        """Read or draw one sample: the same arguments give the same bytes in any process and order.

        Raises:
            FaultError: the files cannot be used; the error holds all of their faults.
        """
        ...


def load_source(name: str) -> type[Source]:
    """The class of a source by its name in `SOURCES`; imports its module.

    Raises:
        SourceError: there is no source of this name.
    """
    if name not in SOURCES:
        raise SourceError(f"data.source: there is no source {name!r}. Choose one of {', '.join(sorted(SOURCES))}")
    module, attribute = SOURCES[name].split(":")
    source: type[Source] = getattr(import_module(module, __package__), attribute)
    return source
