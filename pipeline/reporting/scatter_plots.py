"""Scatter plots of single images, as PNG: scores degraded and restored, and gains in quality and in the task."""

from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.metrics import QUALITY
from pipeline.reporting.document import PictureFile
from pipeline.running.progress import with_progress
from pipeline.settings.grammar import DEGRADED
from pipeline.settings.params import Params
from pipeline.statistics.correlations import image_gains, joined

PANEL = 2.8  # inches


def draw_scatter_plots(params: Params, images: pd.DataFrame, out: Path) -> tuple[list[PictureFile], list[PictureFile]]:
    """Write scatter-<degradation>-<task>.png and quality-<task>.png into a folder; returns both lists of files.

    Args:
        params: the objectives and tasks.
        images: images.csv.
        out: an existing folder.
    """
    gains = image_gains(images, params.objectives)
    quality = gains[gains.task == QUALITY]
    scatter_files, quality_files = [], []
    for task in with_progress(params.tasks, "report: scatter plots", "task"):
        of_task = gains[gains.task == task]
        for degradation, rows in of_task.groupby("degradation", sort=False):
            title = f"{degradation}-{task}"
            _draw_scores(rows, title, out / f"scatter-{title}.png")
            alt = "Each image's score, degraded and restored, one panel for each objective"
            scatter_files.append(PictureFile(f"scatter-{title}.png", f"{degradation}, {task}: image by image", alt))
        points = joined(quality, of_task, ["degradation", "variant", "id"])
        if len(points):
            _draw_quality_gains(points, task, out / f"quality-{task}.png")
            alt = f"Each image's gain in {task} against its gain in quality, one panel for each metric of quality"
            title = f"{task}: gain against gain in quality, image by image"
            quality_files.append(PictureFile(f"quality-{task}.png", title, alt))
    return scatter_files, quality_files


def _draw_scores(gains: pd.DataFrame, title: str, path: Path) -> None:
    """Each image's score degraded and restored, one panel for each objective and metric."""
    from matplotlib.figure import Figure as Drawing

    panels = list(gains.groupby(["metric", "variant"], sort=False))
    drawing = Drawing(figsize=(PANEL * len(panels), PANEL + 0.6), layout="constrained")
    all_axes = np.atleast_1d(drawing.subplots(1, len(panels), sharex=True, sharey=True))
    for axes, ((metric, variant), rows) in zip(all_axes, panels, strict=True):
        axes.axline((0, 0), slope=1, color="0.7", linewidth=1, zorder=0)
        axes.scatter(rows.before, rows.score, s=12, alpha=0.5)
        axes.set(title=variant, xlabel=f"{metric}, {DEGRADED}", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    all_axes[0].set_ylabel(f"{panels[0][0][0]}, restored")
    drawing.suptitle(title)
    drawing.savefig(path, dpi=100, metadata={"Software": None})


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
