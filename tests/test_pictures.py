import numpy as np

from pipeline.reporting import pictures


def test_grid_has_a_column_for_each_title_and_a_row_for_each_image() -> None:
    images = [np.full((20, 40, 3), value, np.uint8) for value in (10, 120)]
    grid = pictures.grid({"a": images, "b": images[::-1]})
    assert grid.shape == (pictures.HEADER + 2 * (20 + pictures.GAP), 2 * 40 + pictures.GAP, 3)
    first = pictures.HEADER + 5
    assert grid[first, 5, 0] == 10 and grid[first, 45, 0] == 120
    assert grid[first + 22, 5, 0] == 120 and grid[first + 22, 45, 0] == 10


def test_rows_of_different_widths_are_padded() -> None:
    grid = pictures.grid({"a": [np.zeros((20, 40, 3), np.uint8), np.zeros((40, 20, 3), np.uint8)]})
    assert grid.shape[1] == 40
    assert (grid[-10, 30] == 255).all()
