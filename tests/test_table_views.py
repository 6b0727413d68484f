"""Tables for people: every number stands with its interval, with the digits that its metric declares."""

import io
from pathlib import Path

import pandas as pd
from example_report import NAMES, write_tables

from pipeline.reporting import table_views


def test_intervals_of_a_table_belong_to_their_numbers() -> None:
    row = "value,ci_low,ci_high,gain,gain_low,gain_high,metric\n0.5,0.4,0.6,0.1,-0.05,0.25,PSNR\n0.5,,,,,,mIoU\n"
    table = pd.read_csv(io.StringIO(row), dtype=str, keep_default_na=False).assign(n="8", empty="")
    made = table_views.complete_table("sizes", "By size", table)
    assert made.header == ["value", "gain", "metric", "n"]  # a column in which nothing stands is left out
    value, gain, _, count = made.rows[0]
    assert count.text == "8"
    assert (value.text, value.interval) == ("0.50", "0.40 to 0.60")
    assert (gain.text, gain.interval) == ("+0.10", "\N{MINUS SIGN}0.05 to +0.25")
    assert (made.rows[1][0].interval, made.rows[1][1].text) == ("", "")
    lone = pd.DataFrame(
        [{"quality_metric": "SSIM", "spearman": "-0.5", "ci_low": "-0.7", "ci_high": "-0.2", "n": "20"}]
    )
    words, spearman, count = table_views.complete_table("correlations", "", lone).rows[0]
    assert (words.text, words.exact, count.text) == ("SSIM", "", "20")
    assert spearman.interval == "\N{MINUS SIGN}0.700 to \N{MINUS SIGN}0.200"


def test_counts_and_p_values() -> None:
    row = {"invented": "2.5", "invented_low": "0.4", "invented_high": "7.6", "p_value": "0.0002", "n_images": "14"}
    (cells,) = table_views.complete_table("objects", "", pd.DataFrame([row]), counts=True).rows
    assert [(cell.text, cell.interval) for cell in cells] == [("2.5", "0 to 8"), ("< 0.001", ""), ("14", "")]


def test_digits_are_those_of_the_metric() -> None:
    assert table_views.shown("23.4567", "PSNR") == "23.46" and table_views.shown("1.2345", "PSNR", gain=True) == "+1.23"
    assert table_views.shown("0.45678", "mIoU") == "0.457" and table_views.shown("-0.01234", "mIoU", gain=True) == (
        "\N{MINUS SIGN}0.0123"
    )


def test_scores_and_baselines(tmp_path: Path) -> None:
    write_tables(tmp_path, {name: name for name in NAMES} | {"variant": "diffloss", "metric": "mAP50"})
    texts = table_views.read_texts(tmp_path)
    captions = [table.caption for table in table_views.score_tables(texts)]
    assert captions == ["detection: mAP50-95, 3 images", "detection: mAP50, 3 images", "quality: PSNR, 3 images"]
    assert "PSNR (dB)" in table_views.score_tables(texts)[2].header
    baselines = table_views.baseline_table(texts, "Baselines", texts["gains"])
    assert baselines is not None and len(baselines.rows) == 3
    assert [cell.text for cell in baselines.rows[0]][3:6] == ["diffloss", "pixel", "\N{MINUS SIGN}0.0136"]


def test_the_overview_has_the_classes_that_changed_most() -> None:
    common = {
        "task": "detection",
        "degradation": "fog",
        "metric": "AP50",
        "ci_low": "",
        "ci_high": "",
        "n_objects": "3",
    }
    rows = []
    for number in range(20):
        row = {**common, "class": f"c{number}"}
        rows.append({**row, "variant": "degraded", "value": "0.5", "gain": "", "gain_low": "", "gain_high": ""})
        gain = f"{(-1) ** number * number / 100}"
        rows.append({**row, "variant": "pixel", "value": "0.6", "gain": gain, "gain_low": "-0.3", "gain_high": "0.3"})
    table = table_views.class_overview(pd.DataFrame(rows))
    assert table is not None
    assert table.header == ["task", "degradation", "class", "objects", "metric", "degraded", "pixel"]
    assert [row[2].text for row in table.rows] == [f"c{number}" for number in range(8, 20)]
    assert table.rows[0][-1].interval == "\N{MINUS SIGN}0.3000 to +0.3000"


def test_severities_are_columns() -> None:
    rows = [
        {"task": "t", "degradation": "fog", "metric": "mIoU", "variant": "pixel", "severity": severity, "value": value}
        for severity, value in (("1.0", "0.7"), ("3.0", "0.5"))
    ]
    table = table_views.severity_overview(pd.DataFrame(rows))
    assert table is not None and table.header[-2:] == ["1", "3"]
    assert [cell.text for cell in table.rows[0]][-2:] == ["0.700", "0.500"]
    assert table_views.severity_overview(pd.DataFrame(rows[:1])) is None
