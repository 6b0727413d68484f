"""Scatter plots of the report: image by image, degraded against restored, and quality against task. Not a stage."""

from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.reporting.tables import QUALITY
from pipeline.settings.grammar import DEGRADED
from pipeline.settings.params import Params
from pipeline.statistics.correlations import image_gains, joined

PANEL = 2.8  # inches


def draw_plots(params: Params, images: pd.DataFrame, out: Path) -> list[str]:
    """Write scatter-<degradation>-<task>.png and quality-<task>.png into a folder; returns the names written.

    Args:
        params: the objectives and tasks.
        images: images.csv.
        out: an existing folder.
    """
    found = image_gains(images, params.objectives)
    written = []
    for task in params.tasks:
        for degradation, own in found[found.task == task].groupby("degradation", sort=False):
            written.append(_scatter(own, f"{degradation}-{task}", out))
        points = joined(found[found.task == QUALITY], found[found.task == task], ["degradation", "variant", "id"])
        if len(points):
            written.append(_quality(points, task, out))
    return written


def _scatter(found: pd.DataFrame, title: str, out: Path) -> str:
    """Each image's score degraded and restored, a panel for each objective."""
    from matplotlib.figure import Figure

    variants, metric = list(dict.fromkeys(found.variant)), found.metric.iloc[0]
    figure = Figure(figsize=(PANEL * len(variants), PANEL + 0.6), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(variants), sharex=True, sharey=True))
    for axes, variant in zip(panels, variants, strict=True):
        own = found[(found.variant == variant) & (found.metric == metric)]
        axes.axline((0, 0), slope=1, color="0.7", linewidth=1, zorder=0)
        axes.scatter(own.before, own.score, s=12, alpha=0.5)
        axes.set(title=variant, xlabel=f"{metric}, {DEGRADED}", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    panels[0].set_ylabel(f"{metric}, restored")
    figure.suptitle(title)
    figure.savefig(out / f"scatter-{title}.png", dpi=100, metadata={"Software": None})
    return f"scatter-{title}.png"


def _quality(points: pd.DataFrame, task: str, out: Path) -> str:
    """Each image's gain in quality and in the task, a panel for each metric of quality."""
    from matplotlib.figure import Figure

    metrics = list(dict.fromkeys(points.metric_x))
    figure = Figure(figsize=(PANEL * len(metrics), PANEL + 0.5), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(metrics), sharey=True))
    for axes, metric in zip(panels, metrics, strict=True):
        axes.axhline(0, color="0.7", linewidth=1, zorder=0)
        for degradation, own in points[points.metric_x == metric].groupby("degradation", sort=False):
            axes.scatter(own.gain_x, own.gain_y, s=10, alpha=0.4, label=degradation)
        axes.set(xlabel=f"gain in {metric}")
    panels[0].set_ylabel(f"{task}: gain in {points.metric_y.iloc[0]}")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    figure.savefig(out / f"quality-{task}.png", dpi=100, metadata={"Software": None})
    return f"quality-{task}.png"
