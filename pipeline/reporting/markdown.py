"""A report as Markdown, for a pull request or a terminal."""

from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote

from pipeline.reporting.document import (
    Block,
    Bullets,
    Cell,
    Comparison,
    Document,
    Figures,
    Paragraph,
    PictureFiles,
    Section,
    Strip,
    Table,
    Verbatim,
)

FENCE = "```"


def render(document: Document) -> str:
    """report.md."""
    parts = [f"# {_line(document.title)}", _line(document.answer.text)]
    for section in document.sections:
        parts += _section(section, 2)
    return "\n\n".join(parts) + "\n"


def table(header: Iterable[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded so that it also reads in a terminal."""
    lines = [[_line(cell).replace("|", "\\|") for cell in line] for line in (list(header), *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    padded = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([padded[0], rule, *padded[1:]])


def render_table(content: Table) -> str:
    """A table of a report, with each interval behind its number."""
    return table(content.header, [[_cell(cell) for cell in row] for row in content.rows])


def _section(section: Section, level: int) -> Iterator[str]:
    yield f"{'#' * level} {_line(section.title)}"
    for block in section.blocks:
        yield from _block(block)
    for part in section.sections:
        yield from _section(part, level + 1)


def _block(block: Block) -> Iterator[str]:
    match block:
        case Paragraph():
            yield _line(block.text)
        case Bullets():
            yield "\n".join(f"- {_line(item.text)}" for item in block.items)
        case Verbatim():
            yield f"{FENCE}\n{block.text.replace(FENCE, '').rstrip()}\n{FENCE}"
        case Table(folded=True):
            yield f"{block.caption}: {len(block.rows)} rows, in {block.name}.csv."
        case Table():
            yield render_table(block)
        case Figures():
            for figure in block.figures:
                yield _picture(figure.alt, figure.file)
        case Comparison():
            yield _picture(f"{block.degradation} {block.task}", block.file)
        case Strip():
            yield _picture(block.title, block.comparison.file)
        case PictureFiles():
            for picture in block.files:
                yield _picture(picture.title, picture.file)


def _picture(alt: str, file: str) -> str:
    text = _line(alt).replace("[", "(").replace("]", ")")
    return f"![{text}](pictures/{quote(file)})"


def _cell(cell: Cell) -> str:
    text = f"{cell.text} ({cell.interval})" if cell.interval else cell.text
    return ", ".join(part for part in (text, cell.label) if part)


def _line(text: str) -> str:
    """One line: a line break in a name would begin a new paragraph or row."""
    return " ".join(text.split("\n"))
