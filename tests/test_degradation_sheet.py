"""The tables and pictures of docs/reference/degradations.md, which a command makes."""

from pathlib import Path

import numpy as np
import pytest
from skimage import data as photos

from benchmarks.degradation_sheet import COCO_C, OWN, PICTURES, TEXT, fill, picture_sheet

DOCS = Path(__file__).parents[1] / "docs"


def test_every_row_of_the_tables_is_what_the_code_says() -> None:
    """A new effect may be missing until the command runs again; a row that is there must be right."""
    text = (DOCS / TEXT).read_text()
    made = set(fill(text).splitlines())
    assert not [row for row in text.splitlines() if row not in made], "run python -m benchmarks.degradation_sheet"


def test_a_lost_marker_is_named() -> None:
    with pytest.raises(ValueError, match="expected the lines <!-- begin settings -->"):
        fill("no tables here")


@pytest.mark.parametrize("name", ["degradations.jpg", "degradations-coco-c.jpg"])
def test_the_sheets_are_there_and_light(name: str) -> None:
    assert 20_000 < (DOCS / PICTURES / name).stat().st_size < 400_000
    assert name in (DOCS / TEXT).read_text()


def test_a_sheet_has_a_row_for_each_recipe_and_a_column_for_each_severity() -> None:
    image = np.ascontiguousarray(photos.astronaut()[:120, :160])
    depth = np.full((120, 160), 20, np.float32)
    one, two = picture_sheet(["fog"], image, depth), picture_sheet(["fog", "jpeg"], image, depth)
    assert two.shape == (2 * one.shape[0], one.shape[1], 3) and one.shape[1] > 6 * 160
    assert {"lowlight", "fog", "rain", "snow"} <= set(OWN) and len(COCO_C) == 19
