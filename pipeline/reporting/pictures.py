"""Picture grids: the same places degraded, restored and clean, with what the task networks see. Not a stage."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

HEADER = 18  # pixels for the column titles
GAP = 2
WIDEST_CELL = 480
JPEG_QUALITY = 80
INK = (20, 20, 20)


def grid(columns: Mapping[str, Sequence[Image]]) -> Image:
    """One column for each title, one row for each image, all images of a row of the same size; white gaps."""
    titles, rows = list(columns), list(zip(*columns.values(), strict=True))
    lines = [_line([fit(image) for image in row]) for row in rows]
    widths = [fit(image).shape[1] for image in rows[0]]
    header = np.full((HEADER, lines[0].shape[1], 3), 255, dtype=np.uint8)
    left = 0
    for title, width in zip(titles, widths, strict=True):
        cv2.putText(header, title, (left + 3, HEADER - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.42, INK, 1, cv2.LINE_AA)
        left += width + GAP
    widest = max(line.shape[1] for line in lines)
    return np.concatenate([_widen(part, widest) for part in [header, *lines]], axis=0)


def plot_curves(curves: Mapping[str, Mapping[int, float]], title: str, path: Path) -> None:
    """Training curves as a PNG: one line for each name, smoothed over a twentieth of its length."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        window = max(1, len(curve) // 20)
        smooth = np.convolve(list(curve.values()), np.ones(window) / window, mode="valid")
        axes.plot(list(curve)[window - 1 :], smooth, label=name)
    axes.set(title=title, xlabel="step", ylabel="loss")
    axes.legend()
    figure.savefig(path, dpi=100, metadata={"Software": None})


def fit(image: Image, widest: int = WIDEST_CELL) -> Image:
    """The image, smaller where it is wider than so many pixels."""
    scale = min(1.0, widest / image.shape[1])
    if scale == 1.0:
        return image
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def jpeg(image: Image, widest: int | None = None) -> bytes:
    """The image as JPEG: a tenth of the bytes and of the time of a PNG. It is resized if it is wider than `widest`."""
    if widest is not None:
        image = fit(image, widest)
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def _line(images: Sequence[Image]) -> Image:
    gap = np.full((images[0].shape[0], GAP, 3), 255, dtype=np.uint8)
    parts = [part for image in images for part in (image, gap)][:-1]
    return _raise(np.concatenate(parts, axis=1))


def _raise(line: Image) -> Image:
    return np.concatenate([line, np.full((GAP, line.shape[1], 3), 255, dtype=np.uint8)], axis=0)


def _widen(part: Image, width: int) -> Image:
    return np.pad(part, ((0, 0), (0, width - part.shape[1]), (0, 0)), constant_values=255)
