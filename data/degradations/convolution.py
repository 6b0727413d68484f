"""Convolution with a kernel of any size, fast also for the sparse kernels of motion."""

import cv2
import numpy as np
from numpy.typing import NDArray

_TILE = 11  # OpenCV filters kernels up to this side directly and skips zeros; larger ones by DFT
_SPARSE = 0.25  # below this share of non-zeros several small filters are faster than one DFT


def convolve(
    values: NDArray[np.float32],
    kernel: NDArray[np.float32],
    centre: tuple[int, int] | None = None,
    border: int = cv2.BORDER_REFLECT_101,
) -> NDArray[np.float32]:
    """Sum of `values` shifted by each kernel cell's offset from `centre` (row, column), weighted by the cell.

    Args:
        values: (H, W) or (H, W, 3).
        kernel: (h, w); a true convolution: a point becomes an upright picture of the kernel.
        centre: the cell that does not move; the middle one where None.
        border: an OpenCV border rule.
    """
    rows, columns = kernel.shape
    row, column = centre or (rows // 2, columns // 2)
    flipped = np.ascontiguousarray(kernel[::-1, ::-1])
    anchor = (columns - 1 - column, rows - 1 - row)
    if max(kernel.shape) > _TILE and np.count_nonzero(kernel) < _SPARSE * kernel.size:
        return _by_tiles(values, flipped, anchor, border)
    return np.asarray(cv2.filter2D(values, cv2.CV_32F, flipped, anchor=anchor, borderType=border), np.float32)


def _by_tiles(
    values: NDArray[np.float32], kernel: NDArray[np.float32], anchor: tuple[int, int], border: int
) -> NDArray[np.float32]:
    """The same sum, one small piece of the kernel at a time; empty pieces cost nothing."""
    height, width = values.shape[:2]
    left, top = anchor
    rows, columns = kernel.shape
    padded = cv2.copyMakeBorder(values, top, rows - 1 - top, left, columns - 1 - left, border)
    total = np.zeros_like(values)
    for row in range(0, rows, _TILE):
        for column in range(0, columns, _TILE):
            tile = kernel[row : row + _TILE, column : column + _TILE]
            if tile.any():
                lower, right = row + height + tile.shape[0] - 1, column + width + tile.shape[1] - 1
                part = cv2.filter2D(padded[row:lower, column:right], cv2.CV_32F, tile, anchor=(0, 0))
                total += part[:height, :width]
    return total
