"""The figures of a report: what they show in words, and the same bytes for the same tables."""

from pathlib import Path

import pandas as pd
import pytest
from example_report import NAMES, write_tables

from pipeline.reporting import figures


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, pd.DataFrame]:
    names = {name: name for name in NAMES} | {"degradation": "fog", "variant": "diffloss", "metric": "mAP50"}
    write_tables(tmp_path, names)
    return {path.stem: pd.read_csv(path) for path in tmp_path.glob("*.csv")}


def test_figures_have_the_numbers_in_words_and_no_dates(tables: dict[str, pd.DataFrame]) -> None:
    drawn = list(figures.gain_bars(tables["gains"]))
    assert [figure.title for figure in drawn] == ["detection: gain in mAP50-95", "detection: gain in mAP50"]
    assert "fog pixel +0.211" in drawn[0].alt and "fog clean +0.411" in drawn[0].alt
    assert drawn == list(figures.gain_bars(tables["gains"]))


def test_scatter_pairs_images_by_their_id(tables: dict[str, pd.DataFrame]) -> None:
    shuffled = tables["images"].iloc[[3, 0, 2, 1]]
    assert "2 images" in next(figures.image_scatter(shuffled)).alt


def test_quality_is_set_against_the_main_metric(tables: dict[str, pd.DataFrame]) -> None:
    drawn = list(figures.quality_against_gain(tables["gains"].iloc[::-1]))
    assert [figure.title for figure in drawn] == ["detection mAP50-95 against PSNR"]


def test_every_figure_has_a_file_of_its_own(tables: dict[str, pd.DataFrame]) -> None:
    drawn = [figure.file for part in figures.draw_figures(tables).values() for figure in part]
    assert "fog-training-loss.svg" in drawn and len(set(drawn)) == len(drawn) == 7
    assert figures._file_name("a / b: c", set()) == "a-b-c.svg"
    assert figures._file_name("a: b / c", {"a-b-c.svg"}) == "a-b-c-2.svg"
    assert figures._file_name("../..", set()).endswith(".svg")
