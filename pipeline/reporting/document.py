"""The parts of a report, whatever its format: sections with paragraphs, lists, tables, figures and pictures.

`contents` builds one `Document`; `markdown` and `html` render it. All texts are plain: a renderer escapes them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

LONGEST_TABLE = 30  # rows; longer tables are folded


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; a note explains what stands beside it."""

    kind: ClassVar[str] = "paragraph"

    text: str
    note: bool = False


@dataclass(frozen=True)
class Item:
    """An entry of a list; `tone` is good, bad, idle, open or plain."""

    text: str
    tone: str = "plain"


@dataclass(frozen=True)
class Bullets:
    """A list; `verdicts` are marked by their tone, notes explain."""

    kind: ClassVar[str] = "bullets"

    items: Sequence[Item]
    verdicts: bool = False
    note: bool = False


@dataclass(frozen=True)
class Verbatim:
    """Text that is shown as it is, such as commands or YAML."""

    kind: ClassVar[str] = "verbatim"

    label: str
    text: str


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Args:
        text: as shown.
        exact: the number in the CSV file; empty for words.
        interval: of the number, and what else stands in small letters below it.
        label: words about the number, such as a verdict.
        tone: of the label: good, bad, idle, open; plain if there is none.
    """

    text: str
    exact: str = ""
    interval: str = ""
    label: str = ""
    tone: str = "plain"


@dataclass(frozen=True)
class Table:
    """A table; every row has as many cells as `header`.

    Args:
        name: of the CSV file with the same numbers, without its ending.
        caption: what it shows.
        header: the names of the columns.
        rows: of cells.
        complete: has every row of the CSV file, so that a reader of that file misses nothing.
        cards: on a telephone each row is a card whose title is its first two cells.
    """

    kind: ClassVar[str] = "table"

    name: str
    caption: str
    header: list[str]
    rows: list[list[Cell]]
    complete: bool = False
    cards: bool = False

    def numeric(self, column: int) -> bool:
        """Whether a column has numbers."""
        return any(row[column].exact for row in self.rows)

    @property
    def folded(self) -> bool:
        """Whether it is too long to be shown at once."""
        return self.complete and len(self.rows) > LONGEST_TABLE


@dataclass(frozen=True)
class Figure:
    """A drawing of numbers: its SVG, the file beside the report that holds it, a title, and its content in words."""

    title: str
    alt: str
    svg: bytes
    file: str = ""


@dataclass(frozen=True)
class Figures:
    """Figures of one kind, side by side."""

    kind: ClassVar[str] = "figures"

    figures: Sequence[Figure]


@dataclass(frozen=True)
class Slider:
    """One image in several versions, of which two are laid over each other.

    Args:
        image: its id.
        width: pixels.
        height: pixels.
        versions: name of the version to a data URI.
        left: the version that is shown first on the left.
        right: on the right.
    """

    image: str
    width: int
    height: int
    versions: dict[str, str]
    left: str
    right: str


@dataclass(frozen=True)
class Comparison:
    """The same images in all versions with their predictions: as a file in pictures/, and as sliders."""

    kind: ClassVar[str] = "comparison"

    degradation: str
    task: str
    file: str
    sliders: Sequence[Slider]


@dataclass(frozen=True)
class Strip:
    """One image in all its versions, side by side."""

    kind: ClassVar[str] = "strip"

    title: str
    comparison: Comparison
    slider: Slider


@dataclass(frozen=True)
class PictureFile:
    """A file in pictures/, with the same picture as a data URI if that is small enough."""

    file: str
    title: str
    alt: str
    uri: str = ""


@dataclass(frozen=True)
class PictureFiles:
    """Files in pictures/."""

    kind: ClassVar[str] = "pictures"

    files: Sequence[PictureFile]

    @property
    def embedded(self) -> list[PictureFile]:
        """Those with a data URI."""
        return [picture for picture in self.files if picture.uri]

    @property
    def beside(self) -> list[PictureFile]:
        """Those that only lie beside the report."""
        return [picture for picture in self.files if not picture.uri]


Block = Paragraph | Bullets | Verbatim | Table | Figures | Comparison | Strip | PictureFiles


@dataclass(frozen=True)
class Section:
    """A part of a report under a heading; `anchor` names a part of the first level in links."""

    title: str
    blocks: Sequence[Block] = ()
    anchor: str = ""
    sections: Sequence["Section"] = field(default=())


@dataclass(frozen=True)
class Document:
    """A whole report.

    Args:
        title: the question.
        answer: one or two sentences, with their tone.
        sections: the first one is about the answer; it is shown without its heading.
    """

    title: str
    answer: Item
    sections: Sequence[Section]

    def figures(self) -> Iterator[Figure]:
        """All figures, in order."""
        for section in _all_sections(self.sections):
            for block in section.blocks:
                if isinstance(block, Figures):
                    yield from block.figures


def _all_sections(sections: Sequence[Section]) -> Iterator[Section]:
    for section in sections:
        yield section
        yield from _all_sections(section.sections)
