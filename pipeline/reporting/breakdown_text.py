"""The breakdown in words: sections of report.md. Not a stage."""

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from urllib.parse import quote

import pandas as pd

from pipeline.reporting.markdown import table
from pipeline.settings.grammar import CLEAN
from pipeline.settings.grammar import DEGRADED
from pipeline.statistics.correlations import IMAGES

MOST_CLASSES = 12  # of a task and degradation that report.md shows

Tables = Mapping[str, pd.DataFrame]


def sections(tables: Tables, drawn: Sequence[str], left_out: Mapping[str, str]) -> str:
    """Markdown sections for what there is: by class, by size, objects, quality against gain, pictures.

    Args:
        tables: classes, sizes, objects and correlations, as their .csv files have them.
        drawn: file names in pictures/.
        left_out: metrics of image quality that could not be measured, with the reason.
    """
    parts = [
        *by_class(tables["classes"]),
        *by_size(tables["sizes"]),
        *objects(tables["objects"]),
        *quality(tables["correlations"], [name for name in drawn if name.startswith("quality-")], left_out),
        *_pictures("## Image by image", SCATTER, [name for name in drawn if name.startswith("scatter-")]),
        *_pictures("## Most gained, most lost", EXTREMES, [n for n in drawn if n.startswith(("best-", "worst-"))]),
    ]
    return "\n\n".join(parts) + "\n" if parts else ""


SCATTER = "Every point is a test image; above the line restoring helped it."
EXTREMES = (
    "The images whose own score (in the corner: F1 at IoU 0.5 and confidence 0.25, mIoU, or right or wrong) rose and "
    "fell most; where a restorer was trained several times, the pictures are of the first training."
)


def by_class(classes: pd.DataFrame) -> list[str]:
    """The first metric of each class: degraded, and the gain of each variant."""
    lines: list[list[str]] = []
    variants = _variants(classes)
    cut = False
    for (task, degradation), own in classes.groupby(["task", "degradation"], sort=False):
        first = own[own.metric == own.metric.iloc[0]]
        names = _telling(first)
        cut |= len(names) < first["class"].nunique()
        for name in names:
            lines.append([str(task), str(degradation), *_line(first[first["class"] == name], name, variants)])
    header = ["task", "degradation", "class", "objects", "metric", DEGRADED, *variants]
    note = f"At most {MOST_CLASSES} classes of each task: those that gained or lost most. " if cut else ""
    return _section(
        "## By class", f"Gains over the degraded images, with intervals. {note}All: classes.csv.", header, lines
    )


def by_size(sizes: pd.DataFrame) -> list[str]:
    """The first metric of each size: degraded, and the gain of each variant."""
    variants = _variants(sizes)
    lines = [
        [str(task), str(degradation), *_line(own, str(size), variants)]
        for (task, degradation, size), group in sizes.groupby(["task", "degradation", "size"], sort=False)
        for own in [group[group.metric == group.metric.iloc[0]]]
    ]
    header = ["task", "degradation", "size", "objects", "metric", DEGRADED, *variants]
    text = "COCO's sizes: areas up to 32², up to 96² and above, in pixels. Gains over the degraded images."
    return _section("## By object size", text, header, lines)


def objects(changes: pd.DataFrame) -> list[str]:
    """What each variant invented, cleared, lost and found again."""
    names = ("invented", "cleared", "lost", "found_again")
    lines = [
        [row["task"], row["degradation"], row["variant"], *(_count(row, name) for name in names), f"{row['n_objects']}"]
        for _, row in changes.iterrows()
    ]
    text = (
        "At a confidence of 0.25 and an IoU of 0.5. *Invented*: wrong detections with none of their class in that "
        "place on the degraded or the clean image. *Cleared*: wrong detections on the degraded image that are gone. "
        "*Lost*: objects found on the degraded image, missed now. *Found again*: the other way round."
    )
    header = ["task", "degradation", "variant", "invented", "cleared", "lost", "found again", "of objects"]
    return _section("## Objects invented and lost", text, header, lines)


def quality(correlations: pd.DataFrame, drawn: Sequence[str], left_out: Mapping[str, str]) -> list[str]:
    """The correlations over images and over variants."""
    lines = [
        [
            *(str(row.task), str(row.degradation), str(row.level), str(row.quality_metric), str(row.task_metric)),
            _signed(row.spearman, 2),
            _range(row.ci_low, row.ci_high, 2) if row.level == IMAGES else "",
            "" if pd.isna(row.p_value) else f"{row.p_value:.3f}",
            f"{row.n}",
        ]
        for row in correlations.itertuples()
    ]
    text = (
        "Spearman's rank correlation of the gain in image quality with the gain in the task, both over the degraded "
        "images. Over images: every test image with every objective, images resampled as everywhere. Over variants: "
        "every objective (and degradation), p by permutation. PSNR, SSIM and MS-SSIM are better when higher. LPIPS, "
        "natural and semantic (DiffLoss's terms, of some of the images) and blur, which needs no reference "
        f"(scikit-image {version('scikit-image')}, blur_effect), are better when lower: one that predicts the gain has "
        "a negative number. None of these p-values is corrected for their number."
    )
    header = ["task", "degradation", "over", "quality", "metric", "Spearman", "interval", "p", "n"]
    found = _section("## Do quality metrics predict the gain?", text, header, lines)
    missing = [f"{name} left out: {reason}." for name, reason in left_out.items()]
    return [*found, *missing, *map(_link, drawn)] if found else []


def _telling(first: pd.DataFrame) -> list[str]:
    """The classes to show, in their order: all, or those whose scores changed most by any variant."""
    names = list(dict.fromkeys(first["class"]))
    largest = first[first.variant != CLEAN].assign(size=first.gain.abs()).groupby("class")["size"].max()
    chosen = set(largest.sort_values(ascending=False, kind="stable").index[:MOST_CLASSES])
    return [str(name) for name in names if name in chosen]


def _line(own: pd.DataFrame, name: str, variants: Sequence[str]) -> list[str]:
    rows = own.set_index("variant")
    count = own.n_objects.iloc[0]
    degraded = rows.value.get(DEGRADED, float("nan"))
    gains = [
        f"{_signed(rows.gain[v], 3)} ({_range(rows.gain_low[v], rows.gain_high[v], 3)})"
        if v in rows.index and pd.notna(rows.gain[v])
        else ""
        for v in variants
    ]
    shown = "" if pd.isna(degraded) else f"{degraded:.3f}"
    return [name, "" if pd.isna(count) else f"{count:.0f}", str(own.metric.iloc[0]), shown, *gains]


def _variants(found: pd.DataFrame) -> list[str]:
    return [str(name) for name in dict.fromkeys(found.variant) if name != DEGRADED]


def _count(row: "pd.Series[float]", name: str) -> str:
    return f"{row[name]:g} ({_range(row[f'{name}_low'], row[f'{name}_high'], 0, sign='')})"


def _range(low: float, high: float, digits: int, sign: str = "+") -> str:
    return "" if pd.isna(low) else f"{low:{sign}.{digits}f} to {high:{sign}.{digits}f}"


def _signed(value: float, digits: int) -> str:
    return "" if pd.isna(value) else f"{value:+.{digits}f}"


def _section(title: str, text: str, header: Iterable[str], lines: Sequence[Sequence[str]]) -> list[str]:
    return [title, text, table(header, lines)] if lines else []


def _pictures(title: str, text: str, names: Sequence[str]) -> list[str]:
    return [title, text, *map(_link, names)] if names else []


def _link(name: str) -> str:
    return f"![{name.removesuffix('.png')}](pictures/{quote(name)})"
