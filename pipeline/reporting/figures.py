"""The figures of a report, drawn by matplotlib as SVG.

The same tables give the same bytes.
"""

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipeline.metrics import QUALITY, main_metric
from pipeline.reporting.document import Figure
from pipeline.running.progress import with_progress
from pipeline.settings.grammar import CLEAN, DEGRADED, parse_arm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

WIDTH = 4.6  # inches: 331 CSS points, so that labels can be read on a telephone
ROW = 0.24
INK = "#1b1f23"
COLOURS = ("#0b6e99", "#c4561e", "#5b8c2a", "#8a4fa3", "#b8860b", "#3c6f6f", "#a33a5b", "#555555")
CEILING = "#9aa3ab"  # of the clean images
MARKERS = "osD^vPX*<>"
FEW_POINTS = 100
MOST_VECTOR_POINTS = 400  # more of them are drawn as pixels
LONGEST_LEGEND = 12
MOST_IN_WORDS = 12
GAINS = "Gains over the degraded images"  # headings
RECOVERED = "How much of the loss is recovered"
QUALITY_GAINS = "Image quality against task gain"
IMAGES = "Image by image"
TRAINING = "Training"
GRADIENT_RATIOS = "Gradient ratios in training"
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "report",
    "svg.fonttype": "none",
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw_figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, list[Figure]]:
    """All figures of a report by heading; headings without a figure are left out.

    Args:
        tables: gains.csv, and images.csv, curves.csv and gradient_ratios.csv if there are any, by name.
    """
    kinds: list[tuple[str, Callable[[pd.DataFrame], Iterator[Figure]], str]] = [
        (GAINS, gain_bars, "gains"),
        (RECOVERED, recovered_bars, "gains"),
        (QUALITY_GAINS, quality_against_gain, "gains"),
        (IMAGES, image_scatter, "images"),
        (TRAINING, training_curves, "curves"),
        (GRADIENT_RATIOS, gradient_ratios, "gradient_ratios"),
    ]
    figures: dict[str, list[Figure]] = {}
    files: set[str] = set()
    for heading, draw, name in with_progress(kinds, "report: figures", "kind"):
        drawn = name_files(draw(tables[name]) if name in tables else (), files)
        if drawn:
            figures[heading] = drawn
    return figures


def name_files(figures: Iterable[Figure], taken: set[str] | None = None) -> list[Figure]:
    """Figures with the names of their files, none of which is in `taken`; they are added to it."""
    files = set() if taken is None else taken
    named = []
    for figure in figures:
        file = _file_name(figure.title, files)
        files.add(file)
        named.append(replace(figure, file=file))
    return named


def _file_name(title: str, taken: set[str]) -> str:
    """A file name from a title: its letters and digits, and a number if another title has the same."""
    base = re.sub(r"[^A-Za-z0-9.-]+", "-", title).strip("-.")[:80]
    names = [f"{base}.svg", *(f"{base}-{number}.svg" for number in range(2, len(taken) + 2))]
    return next(name for name in names if name not in taken)


def gain_bars(gains: pd.DataFrame) -> Iterator[Figure]:
    """For each task and metric: the gain of every variant over the degraded images, with its interval."""
    over_degraded = of_tasks(gains[gains.versus == DEGRADED]).dropna(subset=["gain"])
    for (task, metric), rows in over_degraded.groupby(["task", "metric"], sort=False):
        drawing, axes = _bars(rows, "gain")
        _interval_lines(axes, rows.ci_low, rows.ci_high)
        axes.set_xlabel(f"gain in {metric} over the degraded images")
        yield drawn_figure(
            drawing, f"{task}: gain in {metric}", f"Bars with intervals: {_in_words(rows, 'gain', '+.3f')}"
        )


def recovered_bars(gains: pd.DataFrame) -> Iterator[Figure]:
    """For each task and metric: the share of what degradation cost that each variant recovered."""
    over_degraded = gains[(gains.versus == DEGRADED) & (gains.variant != CLEAN)]
    shares = of_tasks(over_degraded).dropna(subset=["recovered"])
    for (task, metric), rows in shares.groupby(["task", "metric"], sort=False):
        drawing, axes = _bars(rows, "recovered")
        _interval_lines(axes, rows.recovered_low, rows.recovered_high)
        for share in (0, 1):
            axes.axvline(share, color=INK, linewidth=0.8, linestyle="--")
        axes.set_xlabel("recovered: 0 = as degraded, 1 = as clean")
        title = f"{task}: recovered share of {metric}"
        yield drawn_figure(drawing, title, f"Bars with intervals: {_in_words(rows, 'recovered', '.2f')}")


def quality_against_gain(gains: pd.DataFrame) -> Iterator[Figure]:
    """For each task: the gain in its main metric against the gain in the main metric of image quality."""
    over_degraded = gains[(gains.versus == DEGRADED) & np.isfinite(gains.gain)]
    quality_metric = main_metric(QUALITY).name
    quality = over_degraded[(over_degraded.task == QUALITY) & (over_degraded.metric == quality_metric)]
    for task in dict.fromkeys(of_tasks(over_degraded).task):
        metric = main_metric(task).name
        of_task = over_degraded[(over_degraded.task == task) & (over_degraded.metric == metric)]
        points = of_task.merge(quality, on=["degradation", "variant"], suffixes=("", "_quality"))
        if points.empty:
            continue
        drawing, axes = new_drawing(3.0)
        _quality_scatter(axes, points)
        axes.set(xlabel=f"gain in {quality_metric}", ylabel=f"gain in {task} {metric}")
        alt = f"Scatter of {len(points)} points: gain in {metric} against gain in {quality_metric}"
        yield drawn_figure(drawing, f"{task} {metric} against {quality_metric}", alt)


def image_scatter(images: pd.DataFrame) -> Iterator[Figure]:
    """For each task and degradation: the score of each restored image against that of the degraded one."""
    for (task, degradation, metric), rows in of_tasks(images).groupby(["task", "degradation", "metric"], sort=False):
        table = rows.pivot_table(index="id", columns="variant", values="score")
        variants = [name for name in dict.fromkeys(rows.variant) if _is_of_degraded_images(name)]
        if DEGRADED not in table or not variants:
            continue
        drawing, axes = new_drawing(3.4)
        for variant in variants:
            axes.scatter(
                table[DEGRADED],
                table[variant],
                s=7 if len(table) > FEW_POINTS else 14,
                alpha=0.6,
                linewidth=0,
                color=colour_of(variants, variant),
                label=variant,
                rasterized=len(table) > MOST_VECTOR_POINTS,
            )
        low, high = float(np.nanmin(table)), float(np.nanmax(table))
        axes.plot([low, high], [low, high], color=INK, linewidth=0.8, linestyle="--")
        axes.set(xlabel=f"{metric} of the degraded image", ylabel=f"{metric} of the restored image")
        show_legend(axes)
        alt = f"Scatter of {len(table)} images: above the dashed line restoring helped"
        yield drawn_figure(drawing, f"{task}, {degradation}: image by image", alt)


def training_curves(curves: pd.DataFrame) -> Iterator[Figure]:
    """For each degradation: the loss of every objective during training, smoothed over a twentieth of its length."""
    for degradation, rows in curves.groupby("degradation", sort=False):
        drawing, axes = new_drawing(2.6)
        variants = list(dict.fromkeys(rows.variant))
        for variant in variants:
            curve = rows[rows.variant == variant]
            window = max(1, len(curve) // 20)
            smooth = np.convolve(curve.loss, np.ones(window) / window, mode="valid")
            colour = colour_of(variants, variant)
            axes.plot(curve.step.iloc[window - 1 :], smooth, color=colour, label=variant, linewidth=1.2)
        axes.set(xlabel="step", ylabel="loss")
        show_legend(axes)
        alt = f"Curves of {', '.join(variants)}; losses of different objectives cannot be compared"
        yield drawn_figure(drawing, f"{degradation}: training loss", alt)


def gradient_ratios(ratios: pd.DataFrame) -> Iterator[Figure]:
    """For each degradation: the realised gradient ratio of every component at the steps that measured it."""
    for degradation, rows in ratios.groupby("degradation", sort=False):
        drawing, axes = new_drawing(2.6)
        names = rows.variant + ": " + rows.component
        lines = list(dict.fromkeys(names))
        for line in lines:
            measured = rows[names == line]
            axes.plot(measured.step, measured.ratio, ".-", color=colour_of(lines, line), label=line, linewidth=0.6)
        axes.set(xlabel="step", ylabel="gradient norm / the pixel loss's", yscale="log")
        show_legend(axes)
        yield drawn_figure(drawing, f"{degradation}: gradient ratio", f"Realised gradient ratios of {', '.join(lines)}")


def of_tasks(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that are not about image quality."""
    return table[table.task != QUALITY]


def _is_of_degraded_images(variant: str) -> bool:
    """Whether a variant's images were degraded before: its score and the degraded image's are before and after."""
    arm = parse_arm(variant)
    return variant not in (CLEAN, DEGRADED) and (arm is None or arm.retrained)


def _bars(rows: pd.DataFrame, column: str) -> tuple["Drawing", "Axes"]:
    """One bar for each row, named after its degradation and variant."""
    drawing, axes = new_drawing(0.6 + ROW * len(rows))
    variants = list(dict.fromkeys(rows.variant))
    for place, row in enumerate(rows.itertuples()):
        axes.barh(place, getattr(row, column), color=colour_of(variants, row.variant), height=0.72)
    axes.set_yticks(range(len(rows)), [f"{row.degradation} · {row.variant}" for row in rows.itertuples()])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.locator_params(axis="x", nbins=5)
    axes.axvline(0, color=INK, linewidth=0.8)
    return drawing, axes


def _interval_lines(axes: "Axes", lows: pd.Series, highs: pd.Series) -> None:
    """The intervals of bars, from the first one on; undefined ones are left out."""
    for place, (low, high) in enumerate(zip(lows, highs, strict=True)):
        if np.isfinite([low, high]).all():
            axes.plot([low, high], [place, place], color=INK, linewidth=1.2)


def _quality_scatter(axes: "Axes", points: pd.DataFrame) -> None:
    variants, degradations = (list(dict.fromkeys(points[name])) for name in ("variant", "degradation"))
    for row in points.itertuples():
        axes.errorbar(
            row.gain_quality,
            row.gain,
            xerr=_error(row.gain_quality, row.ci_low_quality, row.ci_high_quality),
            yerr=_error(row.gain, row.ci_low, row.ci_high),
            color=colour_of(variants, row.variant),
            marker=MARKERS[degradations.index(row.degradation) % len(MARKERS)],
            markersize=4.5,
            linewidth=0.8,
            linestyle="none",
            label=f"{row.degradation} · {row.variant}",
        )
    axes.axhline(0, color=INK, linewidth=0.8, linestyle="--")
    if len(points) <= LONGEST_LEGEND:
        show_legend(axes)


def _error(value: float, low: float, high: float) -> list[list[float]] | None:
    return [[value - low], [high - value]] if low <= value <= high else None


def new_drawing(height: float) -> tuple["Drawing", "Axes"]:
    """An empty drawing, so many inches high."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure as Drawing

    with rc_context(SETTINGS):
        drawing = Drawing(figsize=(WIDTH, height), layout="constrained")
        return drawing, drawing.subplots()


def show_legend(axes: "Axes") -> None:
    """The names of the lines or points."""
    axes.legend(frameon=False, fontsize=7)


def colour_of(variants: Sequence[str], variant: str) -> str:
    """The colour of a variant among all variants of a drawing."""
    if variant == CLEAN:
        return CEILING
    return COLOURS[[name for name in variants if name != CLEAN].index(variant) % len(COLOURS)]


def _in_words(rows: pd.DataFrame, column: str, form: str) -> str:
    words = [
        f"{row.degradation} {row.variant} {getattr(row, column):{form}}"
        for row in rows.head(MOST_IN_WORDS).itertuples()
    ]
    return ", ".join(words) + (", and more" if len(rows) > MOST_IN_WORDS else "")


def drawn_figure(drawing: "Drawing", title: str, alt: str) -> Figure:
    """A finished drawing as SVG, without the name of its file."""
    from matplotlib import rc_context

    stream = io.BytesIO()
    with rc_context(SETTINGS):
        drawing.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return Figure(title, f"{title}. {alt}.", stream.getvalue())
