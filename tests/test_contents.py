"""One description of a report, rendered as Markdown and as HTML."""

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pandas as pd
import pytest
from example_report import NAMES, describe, write_tables

from pipeline.reporting import html, markdown, table_views
from pipeline.reporting.answer_section import arms_matrix, choose_strip
from pipeline.reporting.answers import cell_answers
from pipeline.reporting.document import Bullets, Cell, Document, Figures, Paragraph, Section, Strip, Table
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
                    texts += [text for row in block.rows for cell in row for text in (cell.interval, cell.label)]
                case Strip():
                    texts.append(block.title)
        texts += _texts(list(section.sections))
    return texts


def test_both_pages_say_the_same(document: Document) -> None:
    texts = [document.title, document.answer.text, *_texts(list(document.sections))]
    assert len(texts) > 150
    rendered_markdown, rendered_html = markdown.render(document), unescape(html.render(document))
    assert [text for text in texts if text not in rendered_markdown] == []
    assert [text for text in texts if text not in rendered_html] == []


def test_sections_of_a_whole_report(document: Document) -> None:
    assert [section.title for section in document.sections] == [
        "Answer",
        "Loss against loss",
        "Pictures",
        "Where the gain comes from",
        "Quality against gain",
        "All scores",
        "Method and settings",
    ]
    text = markdown.render(document)
    assert text.startswith("# Does restoring help on name?\n\nYes: restoring helps detection on fog and recovers 51 %")
    assert "- detection, fog: restoring helps: mAP50-95 +0.211 (+0.161 to +0.261) with pixel, 51 % (42 to 53 %)" in text
    assert "helps (this training)" in text and "0.514 (0.422 to 0.528)" in text
    for heading in ("In words", "By class", "Other metrics and baselines", "How to reproduce it", "fog: detection"):
        assert f"\n### {heading}\n" in text
    assert "![fog detection](pictures/fog-detection.jpg)" in text
    assert "(pictures/detection-gain-in-mAP50-95.svg)" in text


def test_what_limits_the_conclusions_is_said(tmp_path: Path) -> None:
    write_tables(tmp_path, NAMES_IN_REPORT)
    gains = pd.read_csv(tmp_path / "gains.csv")
    gains.assign(recovered=1.4).to_csv(tmp_path / "gains.csv", index=False)
    text = markdown.render(describe(tmp_path, NAMES_IN_REPORT))
    assert "### Cautions" in text and "detection, fog, pixel: restored images score above clean ones" in text


def test_the_matrix_has_scores_gains_verdicts_and_shares(document: Document) -> None:
    matrix, strip = document.sections[0].blocks[:2]
    assert isinstance(matrix, Table) and matrix.cards
    assert matrix.header == ["task", "degradation", "clean", "degraded", "pixel", "diffloss", "loss recovered"]
    (row,) = matrix.rows
    assert [cell.text for cell in row] == ["detection", "fog", "0.612", "0.201", "0.412", "0.399", "51 %"]
    assert (row[4].interval, row[4].label, row[4].tone) == ("+0.211, +0.161 to +0.261", "helps", "good")
    assert (row[6].interval, row[6].label) == ("42 to 53 %", "by pixel")
    assert isinstance(strip, Strip) and strip.slider in strip.comparison.sliders


def test_the_strip_shows_the_image_whose_gain_is_the_most_usual(document: Document) -> None:
    comparison = next(block.comparison for block in document.sections[0].blocks if isinstance(block, Strip))
    scores = [("a", "degraded", 0.1), ("a", "pixel", 0.9), ("b", "degraded", 0.2), ("b", "pixel", 0.3)]
    scores += [("c", "degraded", 0.2), ("c", "pixel", 0.25)]
    rows = [{"id": image, "variant": variant, "score": score} for image, variant, score in scores]
    images = pd.DataFrame(rows).assign(task="detection", degradation="fog", metric="F1")
    sliders = [replace(comparison.sliders[0], image=name) for name in ("a", "b")]
    strip = choose_strip([replace(comparison, sliders=sliders)], images, ["pixel"])
    assert strip is not None and strip.slider.image == "b"  # gains 0.8, 0.1 and 0.05: their mean is 0.32
    strip = choose_strip([replace(comparison, sliders=sliders)], images.assign(score=float("nan")), ["pixel"])
    assert strip is not None and strip.slider.image == "a" and "the first: none has a gain" in strip.title


def test_objectives_with_one_training_each_have_no_verdict_but_the_reason(document: Document) -> None:
    text = markdown.render(document)
    assert "\n- One training each cannot tell which loss is better.\n" in text
    assert ONE_TRAINING not in text  # one reason for all rows: the sentence above says it
    assert "pixel is 0.014 ahead of diffloss (no verdict)" in text


def test_several_severities_have_curves(tmp_path: Path) -> None:
    write_tables(tmp_path, NAMES_IN_REPORT)
    keys = {"task": "detection", "degradation": "fog", "metric": "mAP50-95", "ci_low": 0.1, "ci_high": 0.6}
    rows = [
        {
            **keys,
            "variant": variant,
            "severity": severity,
            "value": 0.3,
            "setting": "severity",
            "setting_value": severity,
        }
        for variant in ("clean", "degraded", "diffloss", "clean-restored-diffloss")
        for severity in (1, 3)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "severities.csv", index=False)
    document = describe(tmp_path, NAMES_IN_REPORT)
    section = next(section for section in document.sections if section.title == "Severities")
    (figure,) = next(block.figures for block in section.blocks if isinstance(block, Figures))
    assert figure.file == "detection-fog-mAP50-95-by-severity.svg"
    assert "curves of clean, degraded, diffloss, with intervals" in figure.alt


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


def test_arms_stand_below_the_matrix_with_their_verdicts(tmp_path: Path) -> None:
    write_tables(tmp_path, NAMES_IN_REPORT)
    keys = {"task": "detection", "degradation": "fog", "metric": "mAP50-95"}
    arms = {
        "degraded-retrained": ("degraded", 0.5, 0.3, "helps"),
        "clean-restored-pixel": ("clean", 0.6, -0.01, "hurts"),
    }
    results, verdicts = [], []
    for variant, (versus, value, gain, verdict) in arms.items():
        results.append({**keys, "variant": variant, "value": value})
        ends = {"ci_low": gain - 0.005, "ci_high": gain + 0.005}
        verdicts.append({**keys, "variant": variant, "versus": versus, "gain": gain, **ends, "verdict": verdict})
    texts = table_views.read_texts(tmp_path)
    for name, rows in (("results", results), ("verdicts", verdicts)):
        texts[name] = pd.concat([texts[name], pd.DataFrame(rows).astype(str)]).fillna("")
    cells = cell_answers(pd.read_csv(tmp_path / "verdicts.csv"), ["pixel", "diffloss"])
    table = arms_matrix(cells, texts, list(arms))
    assert table.header == ["task", "degradation", *arms]
    ((_, _, retrained, restored),) = table.rows
    assert (retrained.text, retrained.interval, retrained.tone) == ("0.500", "+0.300, +0.295 to +0.305", "good")
    assert (restored.text, restored.label, restored.tone) == ("0.600", "hurts", "bad")


@pytest.mark.parametrize("arms", [[], ["degraded-retrained"]], ids=["without arms", "with arms"])
def test_the_matrix_of_arms_is_there_if_there_are_arms(tmp_path: Path, arms: list[str]) -> None:
    write_tables(tmp_path, NAMES_IN_REPORT)
    blocks = describe(tmp_path, NAMES_IN_REPORT, arms).sections[0].blocks
    tables = [block for block in blocks if isinstance(block, Table)]
    assert [table.header[2:] for table in tables[1:]] == ([arms] if arms else [])
