"""report.html: one file, readable without a network, with the numbers of the CSV files."""

import itertools
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from example_report import NAMES, describe, write_tables

from pipeline.reporting import html

EVIL = '<script>alert("x")</script>'
VOID = {"meta", "img", "input", "br", "link"}
NAMES_IN_REPORT = {
    **{name: name for name in NAMES},
    **dict.fromkeys(("name", "variant", "class"), EVIL),
    **{"degradation": "fog", "metric": "mAP50", "image": "a", "split": "val"},
}


class Page(HTMLParser):
    """What the tests need of a page: its elements in order, and the text of each table cell."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.numbers: list[tuple[str, str]] = []  # (data-value, text)
        self.words: list[str] = []
        self.feed(text)
        assert not self.open, "elements are not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self.open.append(tag)
        if "data-value" in attributes:
            self.numbers.append((attributes["data-value"], ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.open and self.open[-1] == "td" and self.elements[-1][1].get("data-value"):
            self.numbers[-1] = (self.numbers[-1][0], data)

    def all(self, tag: str) -> Iterator[dict[str, str]]:
        return (attributes for name, attributes in self.elements if name == tag)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of a report. Tests do not change them."""
    folder = tmp_path_factory.mktemp("report")
    write_tables(folder, NAMES_IN_REPORT)
    return folder


def render(report: Path) -> str:
    return html.render(describe(report, NAMES_IN_REPORT))


@pytest.fixture(scope="module")
def text(report: Path) -> str:
    """The page."""
    return render(report)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    """The elements of the page."""
    return Page(text)


def test_the_page_needs_nothing_from_elsewhere(text: str, page: Page) -> None:
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            if name in attributes:
                assert attributes[name].startswith(("data:image/", "#")), (tag, name)
    assert not list(page.all("link")) and "@import" not in text and "url(" not in text
    assert "default-src 'none'" in next(
        attributes["content"]
        for attributes in page.all("meta")
        if "content" in attributes and "http-equiv" in attributes
    )
    targets = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {attributes["href"][1:] for attributes in page.all("a")} <= targets


def test_names_from_the_data_are_text_and_never_markup(text: str, page: Page) -> None:
    assert len(list(page.all("script"))) == 1  # ours
    assert EVIL not in text
    assert f"Does restoring help on {EVIL}?" in page.words
    for table in ("results", "classes"):
        tables = [part.partition("</table>")[0] for part in text.split(f'data-table="{table}"')[1:]]
        assert any("&lt;script&gt;" in cells for cells in tables)
    assert any(EVIL in attributes.get("alt", "") for attributes in page.all("img"))


def test_pictures_have_words_and_headings_are_in_order(page: Page) -> None:
    pictures = list(page.all("img"))
    assert len(pictures) >= 6 and all(attributes["alt"] for attributes in pictures)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    ranges = [attributes for attributes in page.all("input") if attributes["type"] == "range"]
    assert len(ranges) == 2 and len({attributes["aria-label"] for attributes in ranges}) == 2
    assert next(page.all("html"))["lang"] == "en"
    assert next(page.all("a"))["class"] == "skip"
    boxes = [attributes for attributes in page.all("div") if attributes.get("class") == "box"]
    assert boxes and all(attributes["tabindex"] == "0" and attributes["aria-label"] for attributes in boxes)


def test_numbers_are_those_of_the_csv_files(report: Path, page: Page) -> None:
    written = {
        name: pd.read_csv(report / f"{name}.csv", dtype=str, keep_default_na=False) for name in ("results", "gains")
    }
    expected = set(written["results"].value) | set(written["gains"].gain) | set(written["gains"].p_value)
    exact = {value for value, _ in page.numbers}
    assert expected - {""} <= exact
    for value, text in page.numbers:
        if text.startswith("<"):
            assert float(value) < 0.001
        else:
            share = 100 if text.endswith(" %") else 1
            shown = float(text.replace("\N{MINUS SIGN}", "-").removesuffix(" %"))
            assert shown == pytest.approx(share * float(value), abs=0.5 * 10.0 ** -len(text.partition(".")[2]) + 1e-9)


def test_the_first_section_has_no_heading_to_see_and_the_links_stay(text: str, page: Page) -> None:
    headings = list(page.all("h2"))
    assert headings[0] == {"id": "answer", "tabindex": "-1", "class": "unseen"}
    assert [attributes.get("class") for attributes in headings[1:]] == [None] * (len(headings) - 1)
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert "nav { position: sticky; top: 0;" in style and "prefers-color-scheme: dark" in style
    (answer,) = (attributes for attributes in page.all("p") if "answer" in attributes.get("class", ""))
    assert answer["class"] == "answer good"
    assert any(attributes.get("data-label") == "degraded" for attributes in page.all("td"))  # of the cards


def test_same_inputs_give_the_same_bytes_and_a_small_file(report: Path, text: str) -> None:
    assert text == render(report)
    assert len(text) < 1_000_000


def test_what_a_report_does_not_have_is_left_out(tmp_path: Path) -> None:
    report = tmp_path
    write_tables(report, NAMES_IN_REPORT)
    for name in ("curves", "images", "classes"):
        (report / f"{name}.csv").unlink()
    results, gains = (pd.read_csv(report / f"{name}.csv") for name in ("results", "gains"))
    photos = (frame[(frame.task == "detection") & (frame.variant != "clean")] for frame in (results, gains))
    for name, frame in zip(("results", "gains"), photos, strict=True):
        frame.assign(**({"recovered": np.nan} if name == "gains" else {})).to_csv(report / f"{name}.csv", index=False)
    page = Page(render(report))
    assert "Image quality against task gain" not in page.words and "Training" not in page.words
    assert "By class" not in page.words and "How much of the loss is recovered" not in page.words
    assert "Gains over the degraded images" in page.words
