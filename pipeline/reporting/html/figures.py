"""The figures of the report: SVG drawn by matplotlib, inside data URIs; the same tables give the same bytes."""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipeline.reporting.html.ledger import of_tasks
from pipeline.reporting.tables import QUALITY
from pipeline.settings.grammar import CLEAN
from pipeline.settings.grammar import DEGRADED, is_clean_restored

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 4.6  # inches: 331 CSS points, so that labels can be read on a telephone
ROW = 0.24
COLOURS = ("#0b6e99", "#c4561e", "#5b8c2a", "#8a4fa3", "#b8860b", "#3c6f6f", "#a33a5b", "#555555")
CEILING = "#9aa3ab"  # of the clean images
MARKERS = "osD^vPX*<>"
FEW_POINTS = 100
MOST_VECTOR_POINTS = 400  # more of them are drawn as pixels
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "report",
    "svg.fonttype": "none",
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Picture:
    """A figure as a data URI, with its title and what it shows in words, for those who cannot see it."""

    uri: str
    title: str
    alt: str


def gain_bars(gains: pd.DataFrame) -> Iterator[Picture]:
    """For each task and metric: the gain of every arm over the degraded images, with its interval."""
    own = of_tasks(gains[gains.versus == DEGRADED]).dropna(subset=["gain"])
    for (task, metric), rows in own.groupby(["task", "metric"], sort=False):
        figure, axes = _rows_figure(len(rows))
        arms = list(dict.fromkeys(rows.variant))
        for place, row in enumerate(rows.itertuples()):
            axes.barh(place, row.gain, color=_colour(arms, row.variant), height=0.72)
            if np.isfinite([row.ci_low, row.ci_high]).all():
                axes.plot([row.ci_low, row.ci_high], [place, place], color="#1b1f23", linewidth=1.2)
        _name_rows(axes, rows)
        axes.set_xlabel(f"gain in {metric} over the degraded images")
        title = f"{task}: gain in {metric}"
        yield _picture(figure, title, f"Bars with intervals: {_in_words(rows, 'gain', '+.3f')}")


def recovered(gains: pd.DataFrame) -> Iterator[Picture]:
    """For each task and metric: the share of what degradation cost that each arm won back."""
    own = of_tasks(gains[(gains.versus == DEGRADED) & (gains.variant != CLEAN)]).dropna(subset=["recovered"])
    for (task, metric), rows in own.groupby(["task", "metric"], sort=False):
        figure, axes = _rows_figure(len(rows))
        arms = list(dict.fromkeys(rows.variant))
        for place, row in enumerate(rows.itertuples()):
            axes.barh(place, row.recovered, color=_colour(arms, row.variant), height=0.72)
        for share in (0, 1):
            axes.axvline(share, color="#1b1f23", linewidth=0.8, linestyle="--")
        _name_rows(axes, rows)
        axes.set_xlabel("recovered: 0 = as degraded, 1 = as clean")
        title = f"{task}: recovered share of {metric}"
        yield _picture(figure, title, f"Bars: {_in_words(rows, 'recovered', '.2f')}")


def quality_against_gain(gains: pd.DataFrame) -> Iterator[Picture]:
    """For each quality metric and each task's first metric: gain in the one against gain in the other."""
    own = gains[(gains.versus == DEGRADED) & np.isfinite(gains.gain)]
    qualities = list(dict.fromkeys(own[own.task == QUALITY].metric))
    firsts = of_tasks(own).drop_duplicates("task")
    for task, metric in zip(firsts.task, firsts.metric, strict=True):
        for quality in qualities:
            both = own[(own.task == task) & (own.metric == metric)].merge(
                own[(own.task == QUALITY) & (own.metric == quality)],
                on=["degradation", "variant"],
                suffixes=("", "_quality"),
            )
            if both.empty:
                continue
            figure, axes = _figure(3.0)
            _scatter(axes, both)
            axes.set(xlabel=f"gain in {quality}", ylabel=f"gain in {task} {metric}")
            title = f"{task} {metric} against {quality}"
            yield _picture(figure, title, f"Scatter of {len(both)} points: gain in {metric} against gain in {quality}")


def image_scatter(images: pd.DataFrame) -> Iterator[Picture]:
    """For each task and degradation: the score of each restored image against that of the degraded one."""
    for (task, degradation, metric), rows in of_tasks(images).groupby(["task", "degradation", "metric"], sort=False):
        table = rows.pivot_table(index="id", columns="variant", values="score")
        arms = [
            name
            for name in dict.fromkeys(rows.variant)
            if name not in (CLEAN, DEGRADED) and not is_clean_restored(name)
        ]
        if DEGRADED not in table or not arms:
            continue
        figure, axes = _figure(3.4)
        for arm in arms:
            axes.scatter(
                table[DEGRADED],
                table[arm],
                s=7 if len(table) > FEW_POINTS else 14,
                alpha=0.6,
                linewidth=0,
                color=_colour(arms, arm),
                label=arm,
                rasterized=len(table) > MOST_VECTOR_POINTS,
            )
        low, high = float(np.nanmin(table)), float(np.nanmax(table))
        axes.plot([low, high], [low, high], color="#1b1f23", linewidth=0.8, linestyle="--")
        axes.set(xlabel=f"{metric} of the degraded image", ylabel=f"{metric} of the restored image")
        _legend(axes)
        title = f"{task}, {degradation}: image by image"
        yield _picture(figure, title, f"Scatter of {len(table)} images: above the dashed line restoring helped")


def training_curves(curves: pd.DataFrame) -> Iterator[Picture]:
    """For each degradation: the loss of every objective while it trained, smoothed over a twentieth of its length."""
    for degradation, rows in curves.groupby("degradation", sort=False):
        figure, axes = _figure(2.6)
        arms = list(dict.fromkeys(rows.variant))
        for arm in arms:
            own = rows[rows.variant == arm]
            window = max(1, len(own) // 20)
            smooth = np.convolve(own.loss, np.ones(window) / window, mode="valid")
            axes.plot(own.step.iloc[window - 1 :], smooth, color=_colour(arms, arm), label=arm, linewidth=1.2)
        axes.set(xlabel="step", ylabel="loss")
        _legend(axes)
        title = f"{degradation}: training loss"
        yield _picture(figure, title, f"Curves of {', '.join(arms)}; losses of different objectives do not compare")


def _scatter(axes: "Axes", both: pd.DataFrame) -> None:
    arms, degradations = (list(dict.fromkeys(both[name])) for name in ("variant", "degradation"))
    for row in both.itertuples():
        marker = MARKERS[degradations.index(row.degradation) % len(MARKERS)]
        axes.errorbar(
            row.gain_quality,
            row.gain,
            xerr=_error(row.gain_quality, row.ci_low_quality, row.ci_high_quality),
            yerr=_error(row.gain, row.ci_low, row.ci_high),
            color=_colour(arms, row.variant),
            marker=marker,
            markersize=4.5,
            linewidth=0.8,
            linestyle="none",
            label=f"{row.degradation} · {row.variant}",
        )
    axes.axhline(0, color="#1b1f23", linewidth=0.8, linestyle="--")
    if len(both) <= 12:
        _legend(axes)


def _error(value: float, low: float, high: float) -> list[list[float]] | None:
    return [[value - low], [high - value]] if low <= value <= high else None


def _figure(height: float) -> tuple["Figure", "Axes"]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        return figure, figure.subplots()


def _rows_figure(rows: int) -> tuple["Figure", "Axes"]:
    return _figure(0.6 + ROW * rows)


def _name_rows(axes: "Axes", rows: pd.DataFrame) -> None:
    names = [f"{row.degradation} · {row.variant}" for row in rows.itertuples()]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.locator_params(axis="x", nbins=5)
    axes.axvline(0, color="#1b1f23", linewidth=0.8)


def _legend(axes: "Axes") -> None:
    axes.legend(frameon=False, fontsize=7)


def _colour(names: Sequence[str], name: str) -> str:
    if name == CLEAN:
        return CEILING
    return COLOURS[[other for other in names if other != CLEAN].index(name) % len(COLOURS)]


def _in_words(rows: pd.DataFrame, column: str, form: str) -> str:
    words = [f"{row.degradation} {row.variant} {getattr(row, column):{form}}" for row in rows.head(12).itertuples()]
    return ", ".join(words) + (", and more" if len(rows) > 12 else "")


def _picture(figure: "Figure", title: str, alt: str) -> Picture:
    from matplotlib import rc_context

    stream = io.BytesIO()
    with rc_context(SETTINGS):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return Picture(data_uri("image/svg+xml", stream.getvalue()), title, f"{title}. {alt}.")


def data_uri(kind: str, content: bytes) -> str:
    """Bytes as a data URI that nothing has to be fetched for."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
