"""PIQE: how distorted an image is, without a clean counterpart and without fitted parameters.

Source: Venkatanath et al., "Blind image quality evaluation using perception based features", NCC 2015. The thresholds,
and the columns that count as the surround of a block's centre, are those of MATLAB's `piqe` and of pypiqe.
"""

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pipeline.metrics.fidelity import Image

BLOCK, SEGMENT = 16, 6  # pixels
ACTIVE = 0.1  # variance above which a block counts
UNIFORM = 0.1  # standard deviation below which a segment of a block's edge is an artefact
CENTRE = [BLOCK // 2 - 1, BLOCK // 2]  # columns
SURROUND = [column for column in range(BLOCK) if column not in (BLOCK // 2 - 1, BLOCK // 2 + 1)]
Floats = NDArray[np.float64]


def piqe(image: Image, clean: Image) -> float:
    """PIQE of an RGB image: 0 (good) to about 100. An image without active blocks has 100. `clean` has no effect.

    The value is that of pypiqe 1.2 to 1e-6.
    """
    blocks = _blocks(_normalised(image))
    variances = blocks.var(axis=(1, 2), ddof=1)
    blocks, variances = blocks[variances > ACTIVE], variances[variances > ACTIVE]
    distortions = _have_artefacts(blocks) * (1 - variances) + _have_noise(blocks, np.sqrt(variances)) * variances
    return float(100 * (distortions.sum() + 1) / (len(blocks) + 1))


def _normalised(image: Image) -> Floats:
    """Brightness with the local mean removed, over the local deviation; whole blocks (H, W)."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    grey = np.pad(grey, [(0, -side % BLOCK) for side in grey.shape], mode="symmetric")
    scaled = np.round(255.0 * (grey / max(grey.max(), 1)))
    mean, square = (
        cv2.GaussianBlur(values, (7, 7), 7 / 6, borderType=cv2.BORDER_REPLICATE) for values in (scaled, scaled**2)
    )
    normalised: Floats = (scaled - mean) / (np.sqrt(np.abs(square - mean**2)) + 1)
    return normalised


def _blocks(values: Floats) -> Floats:
    """(H, W) -> (B, BLOCK, BLOCK)."""
    rows, columns = (side // BLOCK for side in values.shape)
    return values.reshape(rows, BLOCK, columns, BLOCK).swapaxes(1, 2).reshape(-1, BLOCK, BLOCK)


def _have_artefacts(blocks: Floats) -> NDArray[np.bool_]:
    """Whether a segment of an edge is uniform, as compression makes it, for each block."""
    edges = np.stack([blocks[:, 0], blocks[:, -1], blocks[:, :, 0], blocks[:, :, -1]], axis=1)  # (B, 4, BLOCK)
    deviations = sliding_window_view(edges, SEGMENT, axis=2).std(axis=3, ddof=1)
    uniform: NDArray[np.bool_] = (deviations < UNIFORM).any(axis=(1, 2))
    return uniform


def _have_noise(blocks: Floats, deviations: Floats) -> NDArray[np.bool_]:
    """Whether centre and surround differ as little as noise does, for each block with its standard deviation."""
    surround = blocks[:, :, SURROUND].std(axis=(1, 2), ddof=1)
    ratios = blocks[:, :, CENTRE].std(axis=(1, 2), ddof=1) / surround
    return deviations > 2 * np.abs(deviations - ratios) / np.maximum(deviations, ratios)
