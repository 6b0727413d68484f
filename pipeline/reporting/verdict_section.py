"""The section of a report with its verdicts, their cautions, and the groups and trainings that would show more."""

from collections.abc import Mapping

import pandas as pd

from pipeline.reporting import table_views
from pipeline.reporting.document import Block, Bullets, Item, Paragraph, Section
from pipeline.reporting.tables import Groups
from pipeline.settings.params import Params, Statistics
from pipeline.statistics import verdicts
from pipeline.statistics.comparison import FEWEST_FOR_VERDICTS
from pipeline.statistics.neighbours import video_cautions

TONES = {
    verdicts.HELPS: "good",
    verdicts.HURTS: "bad",
    verdicts.NO_HELP: "bad",
    verdicts.UNKNOWN: "open",
    verdicts.WITHHELD: "open",
}


def verdict_section(
    params: Params, numbers: Mapping[str, pd.DataFrame], texts: table_views.Texts, groups: Groups
) -> Section:
    """Verdicts, cautions and planning.

    Args:
        params: objectives and settings.
        numbers: the CSV files of the report by name.
        texts: the same files, every cell as its text.
        groups: of the images of each degradation, by their ids.
    """
    table, settings = numbers["verdicts"].fillna({"reason": ""}), params.statistics
    items = [Item(verdicts.sentence(row), TONES[row["verdict"]]) for row in verdicts.main_verdicts(table)]
    items += [Item(text, "open") for text in _withheld(table)]
    tested = int(table.p_holm.notna().sum())
    blocks: list[Block] = [Bullets(items, verdicts=True), Bullets(_notes(settings, tested), note=True)]
    cautions = [*verdicts.unequal_steps(params), *verdicts.cautions(numbers["gains"])]
    if "images" in numbers:
        cautions += video_cautions(params, numbers["images"], groups)
    parts = [Section("Cautions", [Bullets([Item(text) for text in cautions])])] if cautions else []
    if len(texts.get("planning", ())):
        parts.append(_planning(texts["planning"], settings))
    return Section("Verdicts", blocks, "verdicts", parts)


def _withheld(table: pd.DataFrame) -> list[str]:
    """One sentence for each reason why comparisons between trained networks have no verdict."""
    between = table[(table.verdict == verdicts.WITHHELD) & ~table.versus.isin(verdicts.FIXED)]
    return [
        f"{len(rows)} comparison(s) with {', '.join(dict.fromkeys(rows.versus))} have no verdict: {reason}"
        for reason, rows in between.groupby("reason", sort=False)
    ]


def _notes(settings: Statistics, tested: int) -> list[Item]:
    texts = [
        f"Helps, hurts: the p-value, corrected for all {tested} comparisons with a verdict (Holm), is below "
        f"{1 - settings.level:.2g}.",
        f"Doesn't help: the interval ends below {settings.margin:g}, the smallest gain worth having.",
        "Can't tell: none of these.",
        "This training: the restorer was trained once. Another seed may give another result.",
        f"No verdict: the data have no interval, or there are fewer than {FEWEST_FOR_VERDICTS} trainings to estimate "
        "their variance from.",
        "All comparisons: verdicts.csv.",
    ]
    return [Item(text) for text in texts]


def _planning(planning: pd.DataFrame, settings: Statistics) -> Section:
    note = (
        f"The groups of images (with as many trainings) and the trainings (with as many groups) that show a true gain "
        f"of {settings.margin:g} with a chance of 80 %: the interval excludes 0, before the correction for several "
        "comparisons. From the observed standard errors (SE) between groups and between trainings. With one training "
        "the numbers hold for this training; two objectives with one training each have none. Empty: more of these "
        "alone is not enough. All rows: planning.csv."
    )
    title = f"What it takes to show a gain of {settings.margin:g}"
    tables = [Section(table.caption, [table]) for table in table_views.planning_tables(planning)]
    return Section(title, [Paragraph(note, note=True)], sections=tables)
