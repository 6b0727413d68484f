"""One description of a report, rendered as Markdown and as HTML."""

import re
from html import unescape
from pathlib import Path

import pandas as pd
import pytest
from example_report import NAMES, describe, write_tables

from pipeline.reporting import html, markdown
from pipeline.reporting.document import Bullets, Cell, Document, Paragraph, Section, Table
from pipeline.reporting.score_rows import PLANNING
from pipeline.statistics.comparison import ONE_TRAINING

NAMES_IN_REPORT = {name: name for name in NAMES} | {"degradation": "fog", "variant": "diffloss", "metric": "mAP50"}


@pytest.fixture
def document(tmp_path: Path) -> Document:
    write_tables(tmp_path, NAMES_IN_REPORT)
    return describe(tmp_path, NAMES_IN_REPORT)


def _texts(sections: "list[Section] | tuple[Section, ...]") -> list[str]:
    """Every heading, sentence, header and cell of a description."""
    texts = []
    for section in sections:
        texts.append(section.title)
        for block in section.blocks:
            match block:
                case Paragraph():
                    texts.append(block.text)
                case Bullets():
                    texts += [item.text for item in block.items]
                case Table():
                    texts += [*block.header, *(cell.text for row in block.rows for cell in row)]
                    texts += [cell.interval for row in block.rows for cell in row]
        texts += _texts(list(section.sections))
    return texts


def test_both_pages_say_the_same(document: Document) -> None:
    texts = [document.title, document.summary, *_texts(list(document.sections))]
    assert len(texts) > 150
    rendered_markdown, rendered_html = markdown.render(document), unescape(html.render(document))
    assert [text for text in texts if text not in rendered_markdown] == []
    assert [text for text in texts if text not in rendered_html] == []


def test_sections_of_a_whole_report(document: Document) -> None:
    assert [section.title for section in document.sections] == [
        "Verdicts",
        "Figures",
        "Pictures",
        "Scores and gains",
        "More tables",
        "Origin",
    ]
    text = markdown.render(document)
    assert "detection, fog, pixel: restoring (this training) helps and recovers at least 0.42 of the loss" in text
    assert "helps (this training)" in text and "0.514 (0.422 to 0.528)" in text
    for heading in ("By class", "Against the baselines", "How to reproduce it", "fog: detection"):
        assert f"\n### {heading}\n" in text
    assert "![fog detection](pictures/fog-detection.png)" in text
    assert "(pictures/detection-gain-in-mAP50-95.svg)" in text


def test_what_limits_the_conclusions_is_said(tmp_path: Path) -> None:
    write_tables(tmp_path, NAMES_IN_REPORT)
    gains = pd.read_csv(tmp_path / "gains.csv")
    gains.assign(recovered=1.4).to_csv(tmp_path / "gains.csv", index=False)
    text = markdown.render(describe(tmp_path, NAMES_IN_REPORT))
    assert "### Cautions" in text and "detection, fog, pixel: restored images score above clean ones" in text


def test_objectives_with_one_training_each_have_no_verdict_but_the_reason(document: Document) -> None:
    text = markdown.render(document)
    assert f"2 comparison(s) with pixel have no verdict: {ONE_TRAINING}" in text


def test_planning_has_a_table_for_each_task_and_degradation(tmp_path: Path) -> None:
    write_tables(tmp_path, NAMES_IN_REPORT)
    row = {"task": "detection", "degradation": "fog", "variant": "pixel", "versus": "degraded", "metric": "mAP50-95"}
    row |= {"margin": 0.005, "se_groups": 0.012, "n_groups": 30, "n_trainings": 1, "groups_needed": 1362}
    pd.DataFrame([row], columns=PLANNING).to_csv(tmp_path / "planning.csv", index=False)
    document = describe(tmp_path, NAMES_IN_REPORT)
    text = markdown.render(document)
    assert "### What it takes to show a gain of 0.005" in text and "1,362" in html.render(document)
    line = next(line for line in text.splitlines() if "1,362" in line)
    assert "pixel" in line and "0.012" in line


def test_long_complete_tables_are_left_to_the_csv_file(tmp_path: Path) -> None:
    write_tables(tmp_path, NAMES_IN_REPORT)
    classes = pd.read_csv(tmp_path / "classes.csv")
    many = [classes.assign(**{"class": f"c{number}"}) for number in range(16)]
    pd.concat(many).to_csv(tmp_path / "classes.csv", index=False)
    document = describe(tmp_path, NAMES_IN_REPORT)
    assert "By class, complete: 32 rows, in classes.csv." in markdown.render(document)
    assert "<details><summary>By class, complete: 32 rows</summary>" in html.render(document)


def test_correlations_name_the_direction_of_each_metric_and_what_is_missing(tmp_path: Path) -> None:
    write_tables(tmp_path, NAMES_IN_REPORT)
    keys = {"task": "detection", "degradation": "fog", "level": "variants", "task_metric": "mAP50-95", "n": 3}
    rows = [{**keys, "quality_metric": name, "spearman": 0.5} for name in ("PSNR", "blur", "LPIPS")]
    pd.DataFrame(rows).to_csv(tmp_path / "correlations.csv", index=False)
    text = markdown.render(describe(tmp_path, NAMES_IN_REPORT))
    assert "Better when higher: PSNR." in text and "Better when lower: blur, LPIPS." in text
    assert "LPIPS left out: no weights." in text


def test_markdown_tables_keep_their_columns_whatever_the_names() -> None:
    table = Table("t", "t", ["a|b", "c"], [[Cell("x | y\nz"), Cell("1", "1", "0 to 2")]])
    header, _, row = markdown.render_table(table).splitlines()
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in (header, row)] == [3, 3]
    assert "1 (0 to 2)" in row and "x \\| y z" in row
