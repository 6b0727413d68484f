"""Scatter plots of single images, as PNG: gains in quality and in the task."""

from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.metrics import QUALITY
from pipeline.reporting.document import PictureFile
from pipeline.running.progress import with_progress
from pipeline.settings.params import Params
from pipeline.statistics.correlations import image_gains, joined

PANEL = 2.8  # inches


def draw_scatter_plots(params: Params, images: pd.DataFrame, out: Path) -> list[PictureFile]:
    """Write quality-<task>.png into a folder; returns the files.

    Args:
        params: the objectives and tasks.
        images: images.csv.
        out: an existing folder.
    """
    gains = image_gains(images, params.objectives)
    quality = gains[gains.task == QUALITY]
    files = []
    for task in with_progress(params.tasks, "report: scatter plots", "task"):
        of_task = gains[gains.task == task]
        points = joined(quality, of_task, ["degradation", "variant", "id"])
        if len(points):
            _draw_quality_gains(points, task, out / f"quality-{task}.png")
            alt = f"Each image's gain in {task} against its gain in quality, one panel for each metric of quality"
            title = f"{task}: gain against gain in quality, image by image"
            files.append(PictureFile(f"quality-{task}.png", title, alt))
    return files


def _draw_quality_gains(points: pd.DataFrame, task: str, path: Path) -> None:
    """Each image's gain in quality and in the task, one panel for each metric of quality."""
    from matplotlib.figure import Figure as Drawing

    metrics = list(dict.fromkeys(points.metric_x))
    drawing = Drawing(figsize=(PANEL * len(metrics), PANEL + 0.5), layout="constrained")
    all_axes = np.atleast_1d(drawing.subplots(1, len(metrics), sharey=True))
    for axes, metric in zip(all_axes, metrics, strict=True):
        axes.axhline(0, color="0.7", linewidth=1, zorder=0)
        for degradation, rows in points[points.metric_x == metric].groupby("degradation", sort=False):
            axes.scatter(rows.gain_x, rows.gain_y, s=10, alpha=0.4, label=degradation)
        axes.set(xlabel=f"gain in {metric}")
    all_axes[0].set_ylabel(f"{task}: gain in {points.metric_y.iloc[0]}")
    drawing.legend(*all_axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    drawing.savefig(path, dpi=100, metadata={"Software": None})
