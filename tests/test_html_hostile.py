"""report.html with hostile names: the same elements and attributes as with harmless ones; their text is text."""

from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from example_report import NAMES, describe, write_tables

from pipeline.reporting import html

pytestmark = pytest.mark.filterwarnings("ignore:constrained_layout")  # names as long as a figure is wide
HOSTILE = """'"><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}{% raw %}&amp;</title>-->]]>\\u003c"""


class Structure(HTMLParser):
    """The elements of a page with the names of their attributes, and everything that is text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.values: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.values.extend(value or "" for _, value in attrs)

    def handle_data(self, data: str) -> None:
        self.values.append(data)


def _page(folder: Path, hostile: Iterable[str]) -> str:
    names = {place: HOSTILE if place in hostile else f"harmless {place}" for place in NAMES}
    folder.mkdir()
    write_tables(folder, names)
    return html.render(describe(folder, names))


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> Structure:
    """The page with harmless names."""
    return Structure(_page(tmp_path_factory.mktemp("page") / "harmless", ()))


@pytest.mark.parametrize("hostile", [NAMES[:3], NAMES[3:6], NAMES[6:], NAMES], ids=" ".join)
def test_hostile_names_change_nothing_but_text(tmp_path: Path, harmless: Structure, hostile: Iterable[str]) -> None:
    text = _page(tmp_path / "hostile", hostile)
    page = Structure(text)
    assert page.elements == harmless.elements
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert any(HOSTILE in value for value in page.values), "it is shown as it is"
    assert "alert(1)</script>" not in text and "<img src=x" not in text
