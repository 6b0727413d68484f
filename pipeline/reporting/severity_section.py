"""The section of a report about severities: curves, scores, and where restoring starts and stops to help.

A sweep has values of one setting instead of severities.
"""

from collections.abc import Iterator, Mapping

import pandas as pd

from pipeline.metrics import main_metric
from pipeline.reporting import table_views
from pipeline.reporting.document import Block, Figure, Figures, Paragraph, Section
from pipeline.reporting.figures import colour_of, drawn_figure, name_files, new_drawing, of_tasks, show_legend
from pipeline.reporting.severity_tables import crossover_overview
from pipeline.settings.grammar import CLEAN, DEGRADED, parse_arm

BAND = 0.15  # opacity of an interval


def severity_section(numbers: Mapping[str, pd.DataFrame], texts: table_views.Texts) -> Section:
    """Curves and tables; empty if there are not several severities.

    Args:
        numbers: the CSV files of the report by name.
        texts: the same files, every cell as its text.
    """
    blocks: list[Block] = []
    overview = table_views.severity_overview(texts["severities"]) if "severities" in texts else None
    if overview:
        figures = name_files(severity_curves(numbers["severities"]))
        text = "The main metric at each severity. Bands and intervals: other test images and, if trained often, seeds."
        blocks += [Paragraph(text, note=True), Figures(figures), overview]
        complete = table_views.complete_table("severities", "By severity, complete", texts["severities"])
        blocks += [Paragraph("Gains are over the degraded images of the same severity.", note=True), complete]
    parts = [_crossovers(texts["crossovers"])] if len(texts.get("crossovers", ())) else []
    return Section("Severities", blocks, "severities", parts)


def _crossovers(crossovers: pd.DataFrame) -> Section:
    text = (
        "The mildest and the most severe degradation at which a variant scores better than the degraded images, "
        "interpolated between the measured ones. The intervals are not corrected for their number."
    )
    complete = table_views.complete_table("crossovers", "Crossovers, complete", crossovers)
    blocks: list[Block] = [Paragraph(text, note=True), crossover_overview(crossovers), complete]
    return Section("Where restoring starts and stops to help", blocks)


def severity_curves(severities: pd.DataFrame) -> Iterator[Figure]:
    """For each task and degradation: the main metric of every variant at each severity, with its interval."""
    with_severity = of_tasks(severities[severities.severity.notna()])
    of_images = with_severity[[parse_arm(variant) is None for variant in with_severity.variant]]
    for (task, degradation), scores in of_images.groupby(["task", "degradation"], sort=False):
        metric = main_metric(task).name
        rows = scores[scores.metric == metric].sort_values("severity", kind="stable")
        if rows.setting_value.nunique() < 2:
            continue
        setting, positions = rows.setting.iloc[0], list(dict.fromkeys(rows.setting_value))
        drawing, axes = new_drawing(2.8)
        variants = list(dict.fromkeys(rows.variant))
        for variant in variants:
            curve, line = rows[rows.variant == variant], "--" if variant in (CLEAN, DEGRADED) else "-"
            colour = colour_of(variants, variant)
            axes.plot(curve.setting_value, curve.value, f"o{line}", color=colour, label=variant, markersize=3)
            axes.fill_between(curve.setting_value, curve.ci_low, curve.ci_high, color=colour, alpha=BAND, linewidth=0)
        axes.set(xlabel=f"{setting}, from mild to severe", ylabel=metric, xticks=sorted(positions))
        if positions[0] > positions[-1]:
            axes.invert_xaxis()
        show_legend(axes)
        scale = f"{setting} from {positions[0]:g} to {positions[-1]:g}"
        alt = f"{metric} against {scale}: curves of {', '.join(variants)}, with intervals"
        yield drawn_figure(drawing, f"{task}, {degradation}: {metric} by {setting}", alt)
